"""Hamiltonian Monte Carlo over the latents given the observed entries, in NumPyro."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers

from deepgen.inference.hmc import numpyro as hmc
from deepgen.inference.imputation import methods, result
from deepgen.inference.imputation.resampling import numpyro as resampling
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
    latents = {name: np.asarray(jnp.swapaxes(value, 0, 1)) for name, value in draws["latents"].items()}
    stats, said = result.chain_stats(
        np.asarray(jnp.swapaxes(-report.potential_energy, 0, 1)),
        acceptance_rate=np.asarray(report.accept_prob),
        step_size=np.asarray(report.step_size),
        diverging=np.asarray(report.divergences),
    )
    return result.Draws(np.asarray(jnp.swapaxes(draws["x"], 0, 1)), latents, stats, said)


def has_discrete_latents(program: Any, x: jax.Array) -> bool:
    """Whether some latent of the program is discrete.

    Args:
        program: the program.
        x: (n, *event_shape), missing entries as the guide wants them.

    Returns:
        True where there is no gradient along it.
    """
    return any(site["fn"].support.is_discrete for site in _sites(program, x))


class _Layout(eqx.Module):
    """How the latents of a row lie in one vector, and how they are constrained."""

    names: tuple[str, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    transforms: tuple[Any, ...]

    def flatten(self, latents: Mapping[str, jax.Array]) -> jax.Array:
        parts = [t.inv(latents[name]) for name, t in zip(self.names, self.transforms, strict=True)]
        return jnp.concatenate([part.reshape(len(part), -1) for part in parts], axis=-1)

    def unflatten(self, vector: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """The latents of (n, d), and the log determinant (n,) that the change of variables brings."""
        latents, log_det, start = {}, jnp.zeros(len(vector)), 0
        for name, shape, transform in zip(self.names, self.shapes, self.transforms, strict=True):
            size = int(np.prod(shape))
            free = vector[:, start : start + size].reshape(-1, *shape)
            latents[name] = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, latents[name])
            log_det = log_det + jacobian.reshape(len(vector), -1).sum(-1)
            start += size
        return latents, log_det


def _sites(program: Any, x: jax.Array) -> list[Any]:
    trace = handlers.trace(handlers.seed(program.guide, jax.random.key(0))).get_trace(x[:1])
    return [site for site in trace.values() if site["type"] == "sample"]


def _layout(program: Any, x: jax.Array) -> _Layout:
    names, shapes, transforms = [], [], []
    for site in _sites(program, x):
        support = site["fn"].support
        methods.refuse_discrete(site["name"], support.is_discrete)
        transform = numpyro.distributions.biject_to(support)
        names.append(site["name"])
        shapes.append(tuple(transform.inverse_shape(site["value"].shape[1:])))
        transforms.append(transform)
    return _Layout(tuple(names), tuple(shapes), tuple(transforms))


@eqx.filter_jit
def _flatten(layout: _Layout, latents: Mapping[str, jax.Array]) -> jax.Array:
    return jax.vmap(layout.flatten)(latents)


class _Target(eqx.Module):
    """log p(x_observed, latents) of (chains, n, d), on the unconstrained space."""

    program: Any
    layout: _Layout
    x: jax.Array
    observed: jax.Array

    def __call__(self, position: jax.Array) -> jax.Array:
        def one(vector: jax.Array) -> jax.Array:
            latents, log_det = self.layout.unflatten(vector)
            return log_joint(self.program.model, latents, self.x, self.observed) + log_det

        return jax.vmap(one)(position)


class _Collect(eqx.Module):
    """What to keep of a draw: the data drawn given the latents, and the latents."""

    program: Any
    layout: _Layout

    def __call__(self, rng_key: jax.Array, position: jax.Array) -> dict[str, Any]:
        def one(key: jax.Array, vector: jax.Array) -> dict[str, Any]:
            latents, _ = self.layout.unflatten(vector)
            return {"x": decode(key, self.program.model, latents, len(vector)), "latents": latents}

        return jax.vmap(one)(jax.random.split(rng_key, len(position)), position)
