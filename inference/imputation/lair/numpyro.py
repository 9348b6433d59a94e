"""Latent-adaptive importance resampling in NumPyro, all rows in one compiled loop."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro import handlers

from deepgen.inference.imputation import importance, result
from deepgen.inference.imputation.lair import mixture
from deepgen.inference.imputation.resampling import numpyro as resampling
from deepgen.program.numpyro import decode, log_joint, propose


def lair(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Latent-adaptive importance resampling, see `impute`."""
    key_adapt, key_resample = jax.random.split(rng_key)
    steps = mixture.iterations(options["num_particles"], options["num_chains"])
    latents, weights = adapt(key_adapt, program, x, observed, options["num_chains"], steps)
    proposals = resampling.Proposals(latents, importance.smooth(np.asarray(weights).T))
    draws = resampling.resample(key_resample, program, proposals, options["num_samples"])
    return draws._replace(attrs={**draws.attrs, "num_proposals": proposals.num_particles})


@eqx.filter_jit
def adapt(
    rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array, num_chains: int, steps: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """All proposals of all iterations, and their weights.

    Args:
        rng_key: the key.
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them: in the first iteration it is shown these.
        observed: booleans of x's shape.
        num_chains: K, how many imputations a row carries.
        steps: how many iterations.

    Returns:
        The latents by site, (steps * (K + R), n, ...), and their log weights (steps * (K + R), n), nats.
    """
    model, guide, prior = program.model, program.guide, handlers.block(program.model, hide=["x"])
    n, complete = len(x), jnp.where(observed, x, jnp.zeros((), x.dtype))
    seen, known = (jnp.concatenate([array] * num_chains) for array in (observed, complete))

    def iterate(source: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        key_guide, key_prior, key_choose, key_impute = jax.random.split(key, 4)
        from_guide, _ = propose(key_guide, guide, source)
        keys = jax.random.split(key_prior, mixture.PRIOR)
        from_prior, _ = jax.vmap(lambda key: propose(key, prior, complete))(keys)
        latents = {
            name: jnp.concatenate([value.reshape(num_chains, n, *value.shape[1:]), from_prior[name]])
            for name, value in from_guide.items()
        }
        at_each = {name: jnp.concatenate([value] * num_chains, axis=1) for name, value in latents.items()}
        log_guide = jax.vmap(lambda z: log_joint(guide, z, source))(at_each)
        weights = mixture.log_weights(
            jax.vmap(lambda z: log_joint(model, z, complete, observed))(latents),
            log_guide.reshape(-1, num_chains, n),
            jax.vmap(lambda z: log_joint(prior, z, complete))(latents),
        )
        noise = resampling.gumbel(key_choose, jnp.broadcast_to(weights, (num_chains, *weights.shape)))
        index = mixture.choose(weights, noise)
        chosen = {
            name: value[index, jnp.arange(n)].reshape(num_chains * n, *value.shape[2:])
            for name, value in latents.items()
        }
        drawn = decode(key_impute, model, chosen, num_chains * n)
        return jnp.where(seen, known, drawn.astype(x.dtype)), (latents, weights)

    _, found = lax.scan(iterate, jnp.concatenate([x] * num_chains), jax.random.split(rng_key, steps))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
