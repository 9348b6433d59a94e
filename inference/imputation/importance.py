"""Importance weights: smoothed, judged and resampled."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LARGEST_K = 0.7
"""The Pareto k above which weights are not to be trusted (Vehtari et al. 2024)."""


class Weights(NamedTuple):
    """Pareto-smoothed normalised weights and what they are worth.

    Attributes:
        weights: (n, k), each row sums to one.
        ess: (n,) 1 / sum of squares of the raw normalised weights.
        pareto_k: (n,) the shape of the tail; see `untrusted`.
    """

    weights: Float[np.ndarray, "n k"]
    ess: Float[np.ndarray, " n"]
    pareto_k: Float[np.ndarray, " n"]


def smooth(log_weights: Float[np.ndarray, "n k"]) -> Weights:
    """Pareto-smoothed importance sampling (Vehtari, Simpson, Gelman, Yao & Gabry 2024), by ArviZ.

    Args:
        log_weights: the raw log weights of each row's draws.

    Returns:
        Weights, effective sample sizes and Pareto k. Where all weights of a row are equal to within a
        thousandth there is no tail, and k is -inf.
    """
    import arviz as az

    log_weights = np.asarray(log_weights, dtype=float)
    # in float32 the log weights of a perfect guide differ by their rounding, whose tail means nothing
    constant = np.ptp(log_weights, axis=1) < 1e-3
    weights = np.full(log_weights.shape, 1 / log_weights.shape[1])
    pareto_k = np.full(len(log_weights), -np.inf)
    if not constant.all():
        smoothed, k = az.psislw(log_weights[~constant])
        weights[~constant] = np.exp(np.asarray(smoothed))
        pareto_k[~constant] = np.asarray(k)
    raw = np.exp(log_weights - log_weights.max(1, keepdims=True))
    raw /= raw.sum(1, keepdims=True)
    return Weights(weights / weights.sum(1, keepdims=True), 1 / (raw**2).sum(1), pareto_k)


def untrusted(judged: Weights, num_particles: int) -> Bool[np.ndarray, " n"]:
    """The rows whose weights are not to be trusted: a Pareto k above 0.7, and uneven weights.

    Where more than half of the particles are effective, the weights hardly differ. No tail dominates them, and the k
    that is fitted to their largest says nothing of how well they average.

    Args:
        judged: what `smooth` returned.
        num_particles: how many weights a row has.

    Returns:
        Booleans.
    """
    return (judged.pareto_k > LARGEST_K) & (judged.ess <= num_particles / 2)


def resample(weights: Float[np.ndarray, "n k"], uniforms: Float[np.ndarray, "n s"]) -> Int[np.ndarray, "n s"]:
    """Independent draws of the particles' indices with these probabilities, by inversion.

    Args:
        weights: normalised over each row.
        uniforms: in [0, 1).

    Returns:
        The indices.
    """
    cumulative = np.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    rows = [np.searchsorted(c, u, side="right") for c, u in zip(cumulative, uniforms, strict=True)]
    return np.minimum(np.stack(rows), weights.shape[1] - 1)
