"""Hamiltonian Monte Carlo over the latents given the observed entries, in NumPyro."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.hmc import numpyro as hmc
from deepgen.inference.imputation import methods, result
from deepgen.inference.imputation.resampling import numpyro as resampling
from deepgen.program.latents import numpyro as latents
from deepgen.program.numpyro import decode, log_joint


def mcmc(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
    start: Mapping[str, jax.Array] | None = None,
) -> result.Draws:
    """Hamiltonian Monte Carlo, see `impute`; from ``start``, (chains, n, ...) by site, where it is given."""
    key_start, key_run = jax.random.split(rng_key)
    layout = _layout(program, x)
    if start is None:
        start = resampling.start(key_start, program, x, observed, options["num_chains"])
    draws, report = hmc.run(
        key_run,
        _Target(program, layout, jnp.where(observed, x, jnp.zeros((), x.dtype)), observed),
        _flatten(layout, dict(start)),
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_steps=options["num_steps"],
        collect=_Collect(program, layout),
        progress=progress,
    )
    kept = {name: np.asarray(jnp.swapaxes(value, 0, 1)) for name, value in draws["latents"].items()}
    stats, said = result.chain_stats(
        np.asarray(jnp.swapaxes(-report.potential_energy, 0, 1)),
        acceptance_rate=np.asarray(report.accept_prob),
        step_size=np.asarray(report.step_size),
        diverging=np.asarray(report.divergences),
    )
    return result.Draws(np.asarray(jnp.swapaxes(draws["x"], 0, 1)), kept, stats, said)


def has_discrete_latents(program: Any, x: jax.Array) -> bool:
    """Whether some latent of the program is discrete.

    Args:
        program: the program.
        x: (n, *event_shape), missing entries as the guide wants them.

    Returns:
        True where there is no gradient along it.
    """
    return any(site["fn"].support.is_discrete for site in latents.sites(program, x))


def _layout(program: Any, x: jax.Array) -> latents.Layout:
    sites = latents.sites(program, x)
    for site in sites:
        methods.refuse_discrete(site["name"], site["fn"].support.is_discrete)
    return latents.layout(sites)


@eqx.filter_jit
def _flatten(layout: latents.Layout, values: Mapping[str, jax.Array]) -> jax.Array:
    return jax.vmap(layout.flatten)(values)


class _Target(eqx.Module):
    """log p(x_observed, latents) of (chains, n, d), on the unconstrained space."""

    program: Any
    layout: latents.Layout
    x: jax.Array
    observed: jax.Array

    def __call__(self, position: jax.Array) -> jax.Array:
        def one(vector: jax.Array) -> jax.Array:
            values, log_det = self.layout.unflatten(vector)
            return log_joint(self.program.model, values, self.x, self.observed) + log_det

        return jax.vmap(one)(position)


class _Collect(eqx.Module):
    """What to keep of a draw: the data drawn given the latents, and the latents."""

    program: Any
    layout: latents.Layout

    def __call__(self, rng_key: jax.Array, position: jax.Array) -> dict[str, Any]:
        def one(key: jax.Array, vector: jax.Array) -> dict[str, Any]:
            values, _ = self.layout.unflatten(vector)
            return {"x": decode(key, self.program.model, values, len(vector)), "latents": values}

        return jax.vmap(one)(jax.random.split(rng_key, len(position)), position)
