r"""Monotone rational-quadratic splines with linear tails (Durkan, Bekasov, Murray & Papamakarios 2019).

Between the knots (x_k, y_k) and (x_k + w, y_k + h), with slopes d_0 and d_1 there, s = h / w, the place
:math:`\xi = (x - x_k) / w` and :math:`\eta = \xi (1 - \xi)`,

.. math:: y = y_k + h \frac{s \xi^2 + d_0 \eta}{D}, \quad
    \log \frac{dy}{dx} = 2 \log s + \log A - 2 \log D, \quad D = s + (d_0 + d_1 - 2 s)\, \eta, \quad
    A = d_1 \xi^2 + 2 s \eta + d_0 (1 - \xi)^2,

and the identity outside (-bound, bound), where the slope is one. The parameters stand in front, (3K - 1, \*shape) for
values of any shape: K for the widths, K for the heights, K - 1 for the inner slopes. At zeros it is the identity.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Float

from deepgen import checks

MIN_SHARE = 1e-3
"""The least width and height of a bin, as a share of the interval."""
MIN_SLOPE = 1e-3
UNIT = math.log(math.expm1(1 - MIN_SLOPE))


class Bin(NamedTuple):
    """The bin of each value and what led to it.

    Attributes:
        index: which bin, as numbers of the values' dtype.
        x: its left knot.
        width: w.
        y: the left knot's value.
        height: h.
        left: the slope at the left knot.
        right: at the right knot.
    """

    index: Any
    x: Any
    width: Any
    y: Any
    height: Any
    left: Any
    right: Any


def num_params(num_bins: int) -> int:
    """How many numbers describe a spline of that many bins.

    Raises:
        ValueError: fewer than two bins, or more than their least width allows.
    """
    if not 2 <= num_bins <= 256:
        raise checks.problem("num_bins", got=num_bins, expected="a number from 2 to 256", fix="8 is a good one.")
    return 3 * num_bins - 1


def check(num_bins: int, bound: float) -> None:
    """Refuse a number of bins or a bound that no spline has.

    Raises:
        ValueError: naming it.
    """
    num_params(num_bins)
    checks.positive("bound", bound)


def spline(
    x: Float[Any, "*shape"], parameters: Float[Any, "p *shape"], bound: float, *, inverse: bool = False
) -> tuple[Float[Any, "*shape"], Float[Any, "*shape"]]:
    """The spline, or its inverse, and the log of its slope.

    Args:
        x: values.
        parameters: (3K - 1, *shape) unconstrained numbers.
        bound: where the linear tails begin.
        inverse: whether the spline is inverted; the log-slope then is that of the inverse.

    Returns:
        Values and log-slopes of the same shape.
    """
    xp = array_api_compat.array_namespace(x)
    inside = xp.abs(x) < bound
    clipped = xp.clip(x, -bound, bound)
    place = find(clipped, parameters, bound, inverse=inverse)
    xi = solve(clipped, place) if inverse else (clipped - place.x) / place.width
    value, log_slope = evaluate(xi, place)
    if inverse:
        value, log_slope = place.x + xi * place.width, -log_slope
    return xp.where(inside, value, x), xp.where(inside, log_slope, xp.zeros_like(x))


def find(x: Float[Any, "*shape"], parameters: Float[Any, "p *shape"], bound: float, *, inverse: bool) -> Bin:
    """The bin in which each value within the bounds lies: between the knots, or (``inverse``) their values."""
    xp = array_api_compat.array_namespace(x)
    count = (parameters.shape[0] + 1) // 3
    # arrays of the values' shape and nothing larger: a compiler makes one loop of them all
    rows = [parameters[k, ...] for k in range(3 * count - 1)]
    widths, heights = _sizes(rows[:count], bound), _sizes(rows[count : 2 * count], bound)
    zero = xp.zeros_like(x)
    raw = [zero, *rows[2 * count :], zero]
    left_x = left_y = zero - bound
    found = (zero, left_x, widths[0], left_y, heights[0], raw[0], raw[1])
    for k in range(1, count):
        left_x, left_y = left_x + widths[k - 1], left_y + heights[k - 1]
        beyond = x >= (left_y if inverse else left_x)
        here = (zero + k, left_x, widths[k], left_y, heights[k], raw[k], raw[k + 1])
        found = tuple(xp.where(beyond, new, old) for new, old in zip(here, found, strict=True))
    left, right = (MIN_SLOPE + _softplus(slope + UNIT) for slope in found[5:])
    return Bin(*found[:5], left, right)


def evaluate(xi: Float[Any, "*shape"], place: Bin) -> tuple[Float[Any, "*shape"], Float[Any, "*shape"]]:
    """The spline's value and the log of its slope at a place within a bin, from 0 to 1."""
    xp = array_api_compat.array_namespace(xi)
    s, eta = place.height / place.width, xi * (1 - xi)
    below = s + (place.left + place.right - 2 * s) * eta
    above = place.right * xi * xi + 2 * s * eta + place.left * (1 - xi) ** 2
    value = place.y + place.height * (s * xi * xi + place.left * eta) / below
    return value, 2 * xp.log(s) + xp.log(above) - 2 * xp.log(below)


def solve(y: Float[Any, "*shape"], place: Bin) -> Float[Any, "*shape"]:
    """The place within its bin at which the spline has a value: the root of a quadratic, without cancellation."""
    xp = array_api_compat.array_namespace(y)
    s, up = place.height / place.width, y - place.y
    bend = up * (place.left + place.right - 2 * s)
    a, b, c = place.height * (s - place.left) + bend, place.height * place.left - bend, -s * up
    # rounding may make the discriminant of a root at the bin's edge negative
    root = xp.sqrt(xp.clip(b * b - 4 * a * c, 0, None))
    return xp.clip(-2 * c / (b + root), 0, 1)


def shares(raw: Float[Any, "k *shape"]) -> Float[Any, "k *shape"]:
    """What K unconstrained numbers share out, before the least share is taken into account: they sum to one."""
    xp = array_api_compat.array_namespace(raw)
    grown, total = _grown([raw[k, ...] for k in range(raw.shape[0])])
    return xp.stack([each / total for each in grown])


def _sizes(raw: Sequence[Any], bound: float) -> list[Any]:
    """The widths or heights of all bins."""
    grown, total = _grown(raw)
    scale = 2 * bound * (1 - len(raw) * MIN_SHARE) / total
    return [2 * bound * MIN_SHARE + scale * each for each in grown]


def _grown(raw: Sequence[Any]) -> tuple[list[Any], Any]:
    """Positive numbers in the proportion of the shares, and their sum."""
    xp = array_api_compat.array_namespace(raw[0])
    largest = reduce(xp.maximum, raw)
    grown = [xp.exp(each - largest) for each in raw]
    return grown, sum(grown[1:], grown[0])


def _softplus(x: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    xp = array_api_compat.array_namespace(x)
    return xp.log1p(xp.exp(-xp.abs(x))) + 0.5 * (x + xp.abs(x))
