"""The Metropolis test that the adjusted kernels share."""

from typing import Any, NamedTuple

from array_api_compat import array_namespace
from jaxtyping import Bool, Float

from deepgen.inference.hmc.hamiltonian import MAX_ENERGY_ERROR


class Info(NamedTuple):
    """What happened in one step."""

    accept_prob: Any
    """(*batch); 1 for a kernel without an acceptance test"""
    accepted: Any
    """(*batch) booleans"""
    diverging: Any
    """(*batch) booleans: the error is above 1000 nats or not finite; an adjusted kernel rejects such a proposal"""
    energy_error: Any
    """(*batch) minus the log acceptance ratio, nats; 0 for a kernel without an acceptance test"""


def metropolis(uniform: Float[Any, "*batch"], log_ratio: Float[Any, "*batch"], sound: Bool[Any, "*batch"]) -> Info:
    """Accept with probability min(1, exp(log_ratio)); never what is not sound or loses more than 1000 nats.

    Args:
        uniform: (*batch) in [0, 1).
        log_ratio: (*batch) log of target times reverse proposal over the same at the start, nats.
        sound: (*batch) whether the proposal is one at all, e.g. its gradient finite.

    Returns:
        What happened.

    References:
        Hastings, "Monte Carlo sampling methods using Markov chains and their applications" (1970).
    """
    xp = array_namespace(uniform)
    zero = xp.zeros_like(log_ratio)
    diverging = ~(sound & xp.isfinite(log_ratio)) | (log_ratio < -MAX_ENERGY_ERROR)
    accept_prob = xp.where(diverging, zero, xp.exp(xp.where(log_ratio < 0, log_ratio, zero)))
    return Info(accept_prob, uniform < accept_prob, diverging, -log_ratio)


def unadjusted(like: Float[Any, "*batch"], sound: Bool[Any, "*batch"]) -> Info:
    """What happened in a step that is always taken.

    Args:
        like: (*batch), for shape and dtype.
        sound: (*batch) whether the new point and its gradient are finite.

    Returns:
        Accepted with probability 1; diverging where not sound.
    """
    xp = array_namespace(like)
    zero = xp.zeros_like(like)
    return Info(zero + 1, xp.ones_like(sound), ~sound, zero)


def sound(position: Float[Any, "*batch d"], gradient: Float[Any, "*batch d"]) -> Bool[Any, "*batch"]:
    """Whether a point and the gradient there are finite.

    Args:
        position: (*batch, d).
        gradient: (*batch, d).

    Returns:
        (*batch) booleans.
    """
    xp = array_namespace(position)
    return xp.all(xp.isfinite(position) & xp.isfinite(gradient), axis=-1)
