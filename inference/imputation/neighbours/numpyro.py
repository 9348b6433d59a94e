"""Completions of rows near the program's own draws, weighed by its density, in NumPyro."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.inference.imputation import importance, result
from deepgen.inference.imputation.neighbours import mixture

_CHUNK = 64


class Weighed(NamedTuple):
    """Weighted completions of rows.

    Attributes:
        log_weights: (K, n) log p(x_observed, completion) - log q(completion), nats; their mean weight estimates
            p(x_observed) without bias.
        judged: the smoothed weights.
        chosen: (S, n, D) completions drawn by weight, in the chart's coordinates.
        spread: (n, D) the standard deviations of the program's own draws there.
    """

    log_weights: np.ndarray
    judged: importance.Weights
    chosen: np.ndarray
    spread: np.ndarray


def weigh(
    rng_key: jax.Array, chart: Any, x: jax.Array, observed: jax.Array, num_particles: int, num_chosen: int = 0
) -> Weighed:
    """Completions of each row by `mixture`, weighed by the program's density.

    Args:
        rng_key: the key.
        chart: the program's, of these rows.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        num_particles: K.
        num_chosen: S.

    Returns:
        The weights, and draws by weight.
    """
    v, slopes = coordinates(chart, x, observed)
    seen = observed.reshape(v.shape)
    n, dims = v.shape
    size = mixture.rows_at_once(n, dims, num_particles)
    key_shared, key_choose, *keys = jax.random.split(rng_key, 2 + -(-n // size))
    # all rows have one law: its draws serve them all
    shared = np.asarray(_draws(key_shared, chart, 1)) if chart.context is None else None
    weights, judged, chosen, spread = [], [], [], []
    for i, key in enumerate(keys):
        # the last rows are filled up, so that all chunks are of one shape
        index = np.minimum(np.arange(i * size, (i + 1) * size), n - 1)
        count = min(size, n - i * size)
        rows, (key_draw, key_fill) = chart.take(index), jax.random.split(key)
        draws = np.asarray(_draws(key_draw, rows, size)) if shared is None else shared
        fitted = mixture.fit(draws, np.asarray(v[index], dtype=float), np.asarray(seen[index]))
        law = mixture.Mixture(*(jnp.asarray(part, v.dtype) for part in fitted))
        completed, found = _weigh(key_fill, rows, law, v[index], seen[index], num_particles)
        log_weights = mixture.floored(np.asarray(found, dtype=float)[:, :count])
        weights.append(log_weights)
        spread.append(fitted.spread[:count])
        smoothed = importance.smooth(log_weights.T)
        uniforms = np.asarray(jax.random.uniform(jax.random.fold_in(key_choose, i), (count, num_chosen)))
        drawn = importance.resample(smoothed.weights, uniforms)
        judged.append(smoothed)
        chosen.append(np.asarray(completed)[drawn.T, np.arange(count)])
    whole = importance.Weights(*(np.concatenate(part) for part in zip(*judged, strict=True)))
    log_weights = np.concatenate(weights, axis=1) + np.asarray(slopes, dtype=float)
    return Weighed(log_weights, whole, np.concatenate(chosen, axis=1), np.concatenate(spread))


def resample(chart: Any, weighed: Weighed, num_samples: int, num_chains: int = 1) -> result.Draws:
    """The completions drawn by weight, as data.

    Args:
        chart: the program's, of these rows.
        weighed: with num_chains * num_samples chosen.
        num_samples: how many for each chain.
        num_chains: all independent of each other, given the completions.

    Returns:
        The draws, with the weights' statistics.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    x = np.asarray(chart.to_data(jnp.asarray(weighed.chosen)))
    stats, said = result.weight_stats(weighed.judged, len(weighed.log_weights))
    return result.Draws(x.reshape(num_chains, num_samples, *x.shape[1:]), {}, stats, said)


def importance_resampling(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Importance resampling of completions, see `impute`."""
    chart, samples = program.chart(), options["num_samples"]
    return resample(chart, weigh(rng_key, chart, x, observed, options["num_particles"], samples), samples)


def coordinates(chart: Any, x: jax.Array, observed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rows in the chart's coordinates, zero where missing, and the log of what a unit of x is there.

    Args:
        chart: the program's.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.

    Returns:
        (n, D), and the sums over observed entries of log |dv/dx|, (n,).
    """
    v, slopes = chart.from_data(x)
    v, slopes = v.reshape(len(v), -1), slopes.reshape(len(v), -1)
    seen = observed.reshape(v.shape)
    return jnp.where(seen, v, jnp.zeros((), v.dtype)), jnp.where(seen, slopes, 0).sum(-1)


@eqx.filter_jit
def _draws(rng_key: jax.Array, chart: Any, rows: int) -> jax.Array:
    return chart.from_base(chart.base.sample(rng_key, (mixture.DRAWS, rows)))[0]


@eqx.filter_jit
def _weigh(
    rng_key: jax.Array, chart: Any, law: mixture.Mixture, v: jax.Array, observed: jax.Array, num_particles: int
) -> tuple[jax.Array, jax.Array]:
    n, dims = v.shape
    normals = _CHUNK * n * (dims + mixture.DF)

    def step(_: None, key: jax.Array) -> tuple[None, Any]:
        key_normal, key_uniform = jax.random.split(key)
        # one flat draw: in a loop XLA on CPU takes about a second to compile each draw of several axes
        normal = jax.random.normal(key_normal, (normals,), v.dtype).reshape(_CHUNK, n, -1)
        uniform = jax.random.uniform(key_uniform, (2 * _CHUNK * n,), v.dtype).reshape(2, _CHUNK, n)
        noise = mixture.Noise(normal[..., :dims], normal[..., dims:], *uniform)
        completed, log_q = mixture.complete(noise, law, v, observed)
        return None, (completed, chart.log_prob(completed) - log_q)

    _, found = lax.scan(step, None, jax.random.split(rng_key, -(-num_particles // _CHUNK)))
    completed, weights = (part.reshape(-1, *part.shape[2:])[:num_particles] for part in found)
    return completed, weights
