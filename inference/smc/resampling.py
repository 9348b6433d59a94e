r"""Resampling: from normalised weights to the indices of the particles that go on, by uniforms that are arguments.

Of N particles with weights :math:`w_i` each scheme keeps :math:`N w_i` copies of the i-th on average (Douc, Cappé &
Moulines 2005). They differ in how many uniforms they use and how much the numbers of copies vary:

- ``multinomial``: N independent draws.
- ``residual`` (Liu & Chen 1998): :math:`\lfloor N w_i \rfloor` copies for certain, the rest multinomial.
- ``stratified`` (Kitagawa 1996): one draw in each of N equal strata of the unit interval.
- ``systematic`` (Kitagawa 1996; Carpenter, Clifford & Fearnhead 1999): the same with one uniform for all strata.
"""

from collections.abc import Callable
from typing import Any

import array_api_compat
from jaxtyping import Float, Int


def multinomial(weights: Float[Any, "*batch n"], uniforms: Float[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """Independent draws by inversion.

    Args:
        weights: normalised along the last axis.
        uniforms: in [0, 1), as many as indices are wanted.

    Returns:
        Indices of particles.
    """
    return _invert(weights, uniforms)


def stratified(weights: Float[Any, "*batch n"], uniforms: Float[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """One draw in each of m equal strata, by a uniform each.

    Args:
        weights: normalised along the last axis.
        uniforms: in [0, 1).

    Returns:
        Indices of particles, ascending.
    """
    return _invert(weights, _strata(uniforms, uniforms.shape[-1]))


def systematic(weights: Float[Any, "*batch n"], uniforms: Float[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """One draw in each of m equal strata, all by the first uniform.

    Args:
        weights: normalised along the last axis.
        uniforms: in [0, 1); the first is used.

    Returns:
        Indices of particles, ascending.
    """
    return _invert(weights, _strata(uniforms[..., :1], uniforms.shape[-1]))


def residual(weights: Float[Any, "*batch n"], uniforms: Float[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """The whole part of m times each weight for certain, the rest by independent draws from what is left over.

    Args:
        weights: normalised along the last axis.
        uniforms: in [0, 1); those behind the certain copies are used.

    Returns:
        Indices of particles, the certain ones first.
    """
    xp = array_api_compat.array_namespace(weights)
    count = uniforms.shape[-1]
    expected = count * weights
    # a weight of k/m whose float is a rounding below it still counts k copies
    whole = xp.floor(expected * (1 + 4 * xp.finfo(weights.dtype).eps))
    sure = xp.cumulative_sum(whole, axis=-1)
    left = xp.clip(expected - whole, 0.0, None)
    place = xp.arange(count, dtype=weights.dtype, device=array_api_compat.device(weights))
    place = xp.broadcast_to(place, uniforms.shape)
    certain = _count_at_most(sure, place)
    return xp.where(place < sure[..., -1:], certain, _invert(left, uniforms))


SCHEMES: dict[str, Callable[[Any, Any], Any]] = {
    "multinomial": multinomial,
    "systematic": systematic,
    "stratified": stratified,
    "residual": residual,
}


def _strata(uniforms: Float[Any, "*batch k"], count: int) -> Float[Any, "*batch m"]:
    xp = array_api_compat.array_namespace(uniforms)
    place = xp.arange(count, dtype=uniforms.dtype, device=array_api_compat.device(uniforms))
    return (place + uniforms) / count


def _invert(weights: Float[Any, "*batch n"], uniforms: Float[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """The first index whose cumulative weight is above the share ``uniforms`` of the total."""
    xp = array_api_compat.array_namespace(weights)
    cumulative = xp.cumulative_sum(weights, axis=-1)
    size = weights.shape[-1]
    places = xp.arange(1, size + 1, device=array_api_compat.device(weights))
    # nothing behind the last particle that has a weight may be drawn, however a uniform near one is rounded
    last = xp.max(xp.where(weights > 0, places, xp.ones_like(places)), axis=-1, keepdims=True) - 1
    return xp.minimum(_count_at_most(cumulative, uniforms * cumulative[..., -1:]), last)


def _count_at_most(ascending: Float[Any, "*batch n"], values: Float[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """How many of the ascending numbers are at most each value: a binary search of every row at once."""
    xp = array_api_compat.array_namespace(ascending)
    size = ascending.shape[-1]
    found = xp.astype(xp.zeros_like(values), xp.asarray(0).dtype)
    stride = 1 << (size.bit_length() - 1)
    while stride:
        ahead = found + stride
        reached = xp.take_along_axis(ascending, xp.clip(ahead, 1, size) - 1, axis=-1)
        found = xp.where((ahead <= size) & (reached <= values), ahead, found)
        stride >>= 1
    return found
