r"""The derivatives of a rational-quadratic spline by its argument and its parameters, in closed form.

Automatic differentiation of the search for a bin makes an array of every parameter's size for each bin; here the value
and the log-slope are differentiated by the seven numbers that the bin has, and those by the parameters. `tangent` is
for forward mode (whose transpose is reverse mode), `cotangent` for reverse mode. Of an inverse
:math:`x = f^{-1}(y; \theta)`, with :math:`l = \log f'`,

.. math:: dx = (dy - f_\theta\, d\theta) / f_x, \quad d(-l) = -(l_x\, dx + l_\theta\, d\theta).
"""

from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Float

from deepgen.models.flow.spline import MIN_SHARE, UNIT, Bin, evaluate, find, shares, solve


class Partial(NamedTuple):
    """The derivatives of one number by what the bin holds, zero outside the bounds."""

    argument: Any
    x: Any
    width: Any
    y: Any
    height: Any
    left: Any
    right: Any


def tangent(
    x: Float[Any, "*shape"],
    parameters: Float[Any, "p *shape"],
    dx: Float[Any, "*shape"],
    dparameters: Float[Any, "p *shape"],
    bound: float,
    *,
    inverse: bool = False,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Value and log-slope as `spline` gives them, and how they move with argument and parameters.

    Args:
        x: values.
        parameters: (3K - 1, *shape).
        dx: the argument's tangent.
        dparameters: the parameters' tangents.
        bound: where the tails begin.
        inverse: whether the spline is inverted.

    Returns:
        The pair and the pair of tangents, the latter linear in the former tangents.
    """
    xp = array_api_compat.array_namespace(x)
    outputs, partials, place = _partials(x, parameters, bound, inverse)
    count = (parameters.shape[0] + 1) // 3
    moved: list[Any] = []
    for left, size, part in (
        (place.x, place.width, slice(count)),
        (place.y, place.height, slice(count, 2 * count)),
    ):
        own, raw = shares(parameters[part, ...]), dparameters[part, ...]
        before, at = _masks(xp, x, place, 0, count)
        scale, share_before, share = _spread(place.index, left, size, count, bound)
        moved.append(scale * xp.sum(own * (before - share_before) * raw, axis=0))
        moved.append(scale * xp.sum(own * (at - share) * raw, axis=0))
    slope = _sigmoid(xp, parameters[2 * count :, ...] + UNIT) * dparameters[2 * count :, ...]
    left_at, right_at = _masks(xp, x, place, 1, count)[1], _masks(xp, x, place, 0, count - 1)[1]
    moved += [xp.sum(left_at * slope, axis=0), xp.sum(right_at * slope, axis=0)]

    def move(partial: Partial) -> Any:
        total = partial.argument * dx
        for derivative, change in zip(partial[1:], moved, strict=True):
            total = total + derivative * change
        return total

    return outputs, (move(partials[0]), move(partials[1]))


def cotangent(
    x: Float[Any, "*shape"],
    parameters: Float[Any, "p *shape"],
    value: Float[Any, "*shape"],
    log_slope: Float[Any, "*shape"],
    bound: float,
    *,
    inverse: bool = False,
    place: Bin | None = None,
) -> tuple[Float[Any, "*shape"], Float[Any, "p *shape"]]:
    """The gradient by argument and parameters, given that by the value and by the log-slope.

    Args:
        x: values.
        parameters: (3K - 1, *shape).
        value: the cotangent of the value.
        log_slope: the cotangent of the log-slope.
        bound: where the tails begin.
        inverse: whether the spline is inverted.
        place: the bin of each value, where it is known.

    Returns:
        The cotangents of ``x`` and of ``parameters``.
    """
    xp = array_api_compat.array_namespace(x)
    _, partials, place = _partials(x, parameters, bound, inverse, place)
    by = Partial(*(value * a + log_slope * b for a, b in zip(*partials, strict=True)))
    count = (parameters.shape[0] + 1) // 3
    before, at = _masks(xp, x, place, 0, count)
    parts: list[Any] = []
    for left, size, raw, by_left, by_size in (
        (place.x, place.width, parameters[:count, ...], by.x, by.width),
        (place.y, place.height, parameters[count : 2 * count, ...], by.y, by.height),
    ):
        scale, share_before, share = _spread(place.index, left, size, count, bound)
        common = by_left * share_before + by_size * share
        parts.append(scale * shares(raw) * (before * by_left + at * by_size - common))
    left_at, right_at = at[1:, ...], at[:-1, ...]
    parts.append(_sigmoid(xp, parameters[2 * count :, ...] + UNIT) * (left_at * by.left + right_at * by.right))
    return by.argument, xp.concat(parts, axis=0)


def _partials(
    x: Any, parameters: Any, bound: float, inverse: bool, place: Bin | None = None
) -> tuple[Any, tuple[Partial, Partial], Bin]:
    """Value and log-slope, the derivatives of each by the bin's numbers, and the bin."""
    xp = array_api_compat.array_namespace(x)
    inside = xp.abs(x) < bound
    clipped = xp.clip(x, -bound, bound)
    place = find(clipped, parameters, bound, inverse=inverse) if place is None else place
    w, h, left, right = place.width, place.height, place.left, place.right
    xi = solve(clipped, place) if inverse else (clipped - place.x) / w
    value, log_slope = evaluate(xi, place)
    s, eta = h / w, xi * (1 - xi)
    bend = left + right - 2 * s
    top, below = s * xi * xi + left * eta, s + bend * eta
    above = right * xi * xi + 2 * s * eta + left * (1 - xi) ** 2
    square = 1 / (below * below)
    slope = s * s * above * square
    by_s = h * (xi * xi * below - top * (1 - 2 * eta)) * square
    l_xi = 2 * (right * xi + s * (1 - 2 * xi) - left * (1 - xi)) / above - 2 * bend * (1 - 2 * xi) / below
    l_s = 2 / s + 2 * eta / above - 2 * (1 - 2 * eta) / below
    ratio = 2 * eta / below
    zero, one = xp.zeros_like(x), xp.ones_like(x)
    f = Partial(
        slope,
        -slope,
        -slope * xi - by_s * s / w,
        one,
        top / below + by_s / w,
        h * eta * (below - top) * square,
        -h * top * eta * square,
    )
    log_f = Partial(
        l_xi / w, -l_xi / w, -(l_xi * xi + l_s * s) / w, zero, l_s / w, (1 - xi) ** 2 / above - ratio,
        xi * xi / above - ratio,
    )  # fmt: skip
    if inverse:
        g = Partial(1 / slope, *(-partial / slope for partial in f[1:]))
        log_g = Partial(
            -log_f.argument * g.argument,
            *(-(own + log_f.argument * moved) for own, moved in zip(log_f[1:], g[1:], strict=True)),
        )
        f, log_f = g, log_g
        value, log_slope = place.x + xi * w, -log_slope
    outside = Partial(one, *(zero for _ in f[1:]))
    f = Partial(*(xp.where(inside, a, b) for a, b in zip(f, outside, strict=True)))
    log_f = Partial(*(xp.where(inside, a, zero) for a in log_f))
    return (xp.where(inside, value, x), xp.where(inside, log_slope, zero)), (f, log_f), place


def _masks(xp: Any, x: Any, place: Bin, first: int, last: int) -> tuple[Any, Any]:
    """Ones for the bins ``first`` to ``last`` that lie before each value's bin, and for that bin itself."""
    device = array_api_compat.device(x)
    bins = xp.reshape(xp.arange(first, last, dtype=x.dtype, device=device), (-1,) + (1,) * x.ndim)
    return xp.astype(bins < place.index, x.dtype), xp.astype(bins == place.index, x.dtype)


def _spread(index: Any, left: Any, size: Any, count: int, bound: float) -> tuple[float, Any, Any]:
    """How far shares reach, their sum before the bin of a left end and a size, and the bin's own."""
    scale, least = 2 * bound * (1 - count * MIN_SHARE), 2 * bound * MIN_SHARE
    return scale, (left + bound - least * index) / scale, (size - least) / scale


def _sigmoid(xp: Any, x: Any) -> Any:
    return 0.5 * (1 + xp.tanh(0.5 * x))
