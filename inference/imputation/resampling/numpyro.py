"""Draws from the guide with their importance weights in NumPyro: resampled, and as the starts of chains."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.inference.imputation import importance, methods, result
from deepgen.inference.likelihood.numpyro import log_weights
from deepgen.program import ModelsMissingness
from deepgen.program.numpyro import decode


class Proposals(NamedTuple):
    """Weighted draws of the latents of each row.

    Attributes:
        latents: by site, (k, n, ...).
        judged: their smoothed weights.
    """

    latents: Mapping[str, jax.Array]
    judged: importance.Weights

    @property
    def num_particles(self) -> int:
        """How many a row has."""
        return self.judged.weights.shape[1]


def propose(rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array, num_particles: int) -> Proposals:
    """Draws from the guide, weighted by p(x_observed, latents) / q(latents | x).

    Args:
        rng_key: the key.
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them.
        observed: booleans of x's shape.
        num_particles: how many for each row.

    Returns:
        The draws.
    """
    latents, weights = _propose(rng_key, program, x, observed, num_particles)
    return Proposals(latents, importance.smooth(np.asarray(weights).T))


def resample(
    rng_key: jax.Array, program: Any, proposals: Proposals, num_samples: int, num_chains: int = 1
) -> result.Draws:
    """Draws by weight, and the data given them.

    Args:
        rng_key: the key.
        program: the program.
        proposals: weighted draws.
        num_samples: how many for each chain.
        num_chains: all independent of each other, given the proposals.

    Returns:
        The draws, with the weights' statistics.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    key_choose, key_decode = jax.random.split(rng_key)
    chosen = _choose(key_choose, proposals, num_chains * num_samples)
    x = _x(key_decode, program, chosen, len(proposals.judged.weights))
    stats, said = result.weight_stats(proposals.judged, proposals.num_particles)
    if isinstance(program, ModelsMissingness):
        said["missingness"] = f"not at random: weighted by {type(program.mechanism).__name__}"
    shape = (num_chains, num_samples)
    latents = {name: np.asarray(value).reshape(*shape, *value.shape[1:]) for name, value in chosen.items()}
    return result.Draws(np.asarray(x).reshape(*shape, *x.shape[1:]), latents, stats, said)


def sir(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Sampling importance resampling, see `impute`."""
    key_propose, key_resample = jax.random.split(rng_key)
    proposals = propose(key_propose, program, x, observed, options["num_particles"])
    return resample(key_resample, program, proposals, options["num_samples"])


@eqx.filter_jit
def start(rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array, num_chains: int) -> dict[str, jax.Array]:
    """A start for each chain: one of some draws from the guide, chosen by its importance weight.

    Where the posterior has several modes a chain rarely crosses between them, so the starts must be spread over them.

    Args:
        rng_key: the key.
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them.
        observed: booleans of x's shape.
        num_chains: how many for each row.

    Returns:
        The latents by site, (num_chains, n, ...).
    """

    def draw(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        return log_weights(key, program, x, observed, num_chains)

    def offer(best: tuple[dict[str, jax.Array], jax.Array], key: jax.Array) -> tuple[Any, None]:
        key_draw, key_choose = jax.random.split(key)
        latents, weights = draw(key_draw)
        score = weights + gumbel(key_choose, weights)
        # the largest of weight times Gumbel noise is a draw by weight
        better = score > best[1]
        kept = {name: where(better, value, best[0][name]) for name, value in latents.items()}
        return (kept, jnp.maximum(score, best[1])), None

    keys = jax.random.split(rng_key, methods.STARTS)
    latents, weights = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(draw, keys[0]))
    return lax.scan(offer, (latents, weights - jnp.inf), keys)[0][0]


def start_from(rng_key: jax.Array, proposals: Proposals, num_chains: int) -> dict[str, jax.Array]:
    """A start for each chain: one of the proposals, chosen by its weight.

    Args:
        rng_key: the key.
        proposals: weighted draws.
        num_chains: how many for each row.

    Returns:
        The latents by site, (num_chains, n, ...).
    """
    return _choose(rng_key, proposals, num_chains)


def where(rows: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    """The first where a row says so, else the second; both have further axes."""
    return jnp.where(rows.reshape(*rows.shape, *(1,) * (first.ndim - rows.ndim)), first, second)


def gumbel(rng_key: jax.Array, like: jax.Array) -> jax.Array:
    """Standard Gumbel noise of an array's shape and dtype."""
    # one flat draw: in a loop XLA on CPU takes about a second to compile each draw of several axes
    return jax.random.gumbel(rng_key, (like.size,), like.dtype).reshape(like.shape)


def _choose(rng_key: jax.Array, proposals: Proposals, count: int) -> dict[str, jax.Array]:
    rows = len(proposals.judged.weights)
    index = importance.resample(proposals.judged.weights, np.asarray(jax.random.uniform(rng_key, (rows, count))))
    return {name: value[index.T, np.arange(rows)] for name, value in proposals.latents.items()}


@eqx.filter_jit
def _propose(
    rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array, num_particles: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    chunk = 64

    def step(_: None, key: jax.Array) -> tuple[None, Any]:
        return None, log_weights(key, program, x, observed, chunk)

    _, found = lax.scan(step, None, jax.random.split(rng_key, -(-num_particles // chunk)))
    return jax.tree.map(lambda value: value.reshape(-1, *value.shape[2:])[:num_particles], found)


def _x(rng_key: jax.Array, program: Any, latents: dict[str, jax.Array], size: int) -> jax.Array:
    """The data given the latents, of which they may be one that then is taken out."""
    if isinstance(program, ModelsMissingness):
        return latents.pop("x_missing")
    return _decode(rng_key, program, latents, size)


@eqx.filter_jit
def _decode(rng_key: jax.Array, program: Any, latents: Mapping[str, jax.Array], size: int) -> jax.Array:
    keys = jax.random.split(rng_key, len(next(iter(latents.values()))))
    return lax.map(lambda item: decode(item[0], program.model, item[1], size), (keys, dict(latents)))
