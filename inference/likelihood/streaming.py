"""The logarithm of a mean of weights, and its standard error, from weights that arrive in chunks."""

from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Float


class Sums(NamedTuple):
    """What is kept of the weights seen so far: memory does not grow with their number.

    Attributes:
        largest: (n,) the largest log weight m.
        first: (n,) the sum of exp(log w - m).
        second: (n,) the sum of exp(2 (log w - m)).
    """

    largest: Any
    first: Any
    second: Any


def empty(like: Float[Any, " n"]) -> Sums:
    """No weights yet, for as many rows as ``like`` has."""
    xp = array_api_compat.array_namespace(like)
    zero = xp.zeros_like(like)
    return Sums(zero - xp.inf, zero, zero)


def add(sums: Sums, log_weights: Float[Any, "k n"]) -> Sums:
    """The sums with k more weights a row; -inf stands for a weight of zero.

    Args:
        sums: so far.
        log_weights: the new ones.

    Returns:
        The new sums.
    """
    xp = array_api_compat.array_namespace(log_weights)
    largest = xp.maximum(sums.largest, xp.max(log_weights, axis=0))
    anchor = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    kept = xp.exp(sums.largest - anchor)
    weights = xp.exp(log_weights - anchor[None, :])
    return Sums(
        largest,
        sums.first * kept + xp.sum(weights, axis=0),
        sums.second * kept * kept + xp.sum(weights * weights, axis=0),
    )


def log_mean(sums: Sums, count: int) -> tuple[Float[Any, " n"], Float[Any, " n"]]:
    r"""log of the mean weight, and its standard error by the delta method.

    .. math:: \log \bar w = m + \log(S_1 / K), \qquad
        \mathrm{se} = \frac{\mathrm{sd}(w)}{\bar w \sqrt K} = \sqrt{S_2 / S_1^2 - 1 / K}

    (the sample variance with K in its denominator). The error is itself estimated from the weights: where a few of them
    dominate it is too small, which a Pareto k above 0.7 shows.

    Args:
        sums: of all weights.
        count: their number K.

    Returns:
        Both, (n,) nats.
    """
    xp = array_api_compat.array_namespace(sums.first)
    # where every weight was zero: no log of zero, no zero divided by zero; one that is NaN stays so
    zero = sums.first == 0
    first = xp.where(zero, xp.ones_like(sums.first), sums.first)
    value = xp.where(zero, -xp.inf * xp.ones_like(first), sums.largest + xp.log(first / count))
    variance = sums.second / (first * first) - 1 / count
    return value, xp.sqrt(xp.maximum(variance, xp.zeros_like(variance)))


def estimated_rows(estimates: int, event_size: int, budget: int = 2**22) -> int:
    """How many rows to estimate at a time, so that about ``budget`` numbers of the data's size are alive.

    Args:
        estimates: of each row.
        event_size: how many numbers a datum has.
        budget: how many numbers.

    Returns:
        At least one.
    """
    return max(1, budget // (max(event_size, 64) * max(estimates, min(event_size, 64))))


def chunk_sizes(rows: int, particles: int, event_size: int, budget: int = 2**22) -> tuple[int, int]:
    """How many rows and particles to hold at a time so that about ``budget`` numbers of the data's size are alive.

    Args:
        rows: how many rows in all.
        particles: how many particles in all.
        event_size: how many numbers a datum has.
        budget: how many numbers.

    Returns:
        Rows and particles of a chunk.
    """
    pairs = max(1, budget // max(event_size, 64))
    particle_chunk = min(particles, 64, pairs)
    return min(rows, max(1, pairs // particle_chunk)), particle_chunk
