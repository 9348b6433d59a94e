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
STEEPEST = 80.0
"""Of a slope; its exponential is finite in float32."""
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
    return carry(x, find(xp.clip(x, -bound, bound), parameters, bound, inverse=inverse), bound, inverse=inverse)


def carry(
    x: Float[Any, "*shape"], place: Bin, bound: float, *, inverse: bool = False
) -> tuple[Float[Any, "*shape"], Float[Any, "*shape"]]:
    """As `spline`, given the bin of each value."""
    xp = array_api_compat.array_namespace(x)
    inside = xp.abs(x) < bound
    clipped = xp.clip(x, -bound, bound)
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
    # No product is added to anything until a bin is chosen. Compilers round a * b + c once or twice, as it suits each
    # of the loops that they make of this, and beside a knot some of a bin's numbers would be those of its neighbour.
    (across, wide), (up, high) = _sizes(rows[:count]), _sizes(rows[count : 2 * count])
    place = (x + bound) * ((high if inverse else wide) / (2 * bound))
    zero = xp.zeros_like(x)
    raw = [zero, *rows[2 * count :], zero]
    before_x = before_y = zero
    found = (zero, before_x, across[0], before_y, up[0], raw[0], raw[1])
    for k in range(1, count):
        before_x, before_y = before_x + across[k - 1], before_y + up[k - 1]
        beyond = place >= (before_y if inverse else before_x)
        here = (zero + k, before_x, across[k], before_y, up[k], raw[k], raw[k + 1])
        found = tuple(xp.where(beyond, new, old) for new, old in zip(here, found, strict=True))
    index, before_x, width, before_y, height, left, right = found
    slopes = [MIN_SLOPE + _softplus(slope + UNIT) for slope in (left, right)]
    whole = 2 * bound
    return Bin(
        index,
        whole * (before_x / wide) - bound,
        whole * (width / wide),
        whole * (before_y / high) - bound,
        whole * (height / high),
        *slopes,
    )


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


def _sizes(raw: Sequence[Any]) -> tuple[list[Any], Any]:
    """The widths or heights of all bins, in a unit of their own, and their sum."""
    grown, total = _grown(raw)
    least = total / (1 / MIN_SHARE - len(raw))
    sizes = [each + least for each in grown]
    return sizes, sum(sizes[1:], sizes[0])


def _grown(raw: Sequence[Any]) -> tuple[list[Any], Any]:
    """Positive numbers in the proportion of the shares, and their sum."""
    xp = array_api_compat.array_namespace(raw[0])
    largest = reduce(xp.maximum, raw)
    grown = [xp.exp(each - largest) for each in raw]
    return grown, sum(grown[1:], grown[0])


def _softplus(x: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    xp = array_api_compat.array_namespace(x)
    return xp.log1p(xp.exp(xp.clip(x, None, STEEPEST)))
