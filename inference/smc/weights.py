r"""Weights of particles in the logarithm, and the evidence that accumulates with them.

With normalised weights :math:`W_{t-1}` and new factors :math:`g_t` of the particles,

.. math:: \log \hat Z_t = \log \hat Z_{t-1} + \log \sum_i W^i_{t-1}\, g^i_t, \qquad
    W^i_t = \frac{W^i_{t-1}\, g^i_t}{\sum_j W^j_{t-1}\, g^j_t}.

:math:`\hat Z_t` is unbiased for any number of particles where the particles go on as often as they should on average
(Del Moral 2004).
"""

from typing import Any

import array_api_compat
from jaxtyping import Bool, Float


def log_sum(log_values: Float[Any, "*batch n"]) -> Float[Any, "*batch 1"]:
    """log of the sum of exponentials along the last axis, which is kept; -inf where all are."""
    xp = array_api_compat.array_namespace(log_values)
    largest = xp.max(log_values, axis=-1, keepdims=True)
    anchor = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    total = xp.sum(xp.exp(log_values - anchor), axis=-1, keepdims=True)
    # no log of zero where all are -inf
    some = total > 0
    return xp.where(some, anchor + xp.log(xp.where(some, total, xp.ones_like(total))), -xp.inf * xp.ones_like(total))


def even(log_weights: Float[Any, "*batch n"]) -> Float[Any, "*batch n"]:
    """Normalised weights that are all the same: -log n."""
    xp = array_api_compat.array_namespace(log_weights)
    count = xp.sum(xp.ones_like(log_weights), axis=-1, keepdims=True)
    return xp.broadcast_to(-xp.log(count), log_weights.shape)


def reweigh(
    log_weights: Float[Any, "*batch n"], log_factors: Float[Any, "*batch n"]
) -> tuple[Float[Any, "*batch n"], Float[Any, "*batch"]]:
    """Weights after new factors, normalised, and by how much the log-evidence grows.

    Args:
        log_weights: normalised.
        log_factors: log g of each particle, -inf for zero.

    Returns:
        The new log weights, even where all factors are zero, and the increment, -inf there.
    """
    xp = array_api_compat.array_namespace(log_weights)
    joint = log_weights + log_factors
    total = log_sum(joint)
    dead = ~xp.isfinite(total)
    safe = xp.where(dead, xp.zeros_like(total), total)
    return xp.where(dead, even(joint), joint - safe), total[..., 0]


def effective_sample_size(log_weights: Float[Any, "*batch n"]) -> Float[Any, "*batch"]:
    r""":math:`1 / \sum_i W_i^2`: from 1, where one particle has all the weight, to n where all are the same.

    Args:
        log_weights: normalised.

    Returns:
        One number for each set of particles (Kong, Liu & Wong 1994).
    """
    xp = array_api_compat.array_namespace(log_weights)
    return 1 / xp.sum(xp.exp(2 * log_weights), axis=-1)


def too_uneven(ess: Float[Any, "*batch"], num_particles: int, threshold: float) -> Bool[Any, "*batch"]:
    """Where the particles should be resampled: an ESS below ``threshold`` times their number.

    Args:
        ess: effective sample sizes.
        num_particles: how many there are.
        threshold: 0 for never, 1 for whenever the weights differ.

    Returns:
        Booleans.
    """
    return ess < threshold * num_particles * (1 - 1e-6)
