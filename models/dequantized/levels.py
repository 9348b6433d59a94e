"""Integers as intervals of the real line: level k of V is [k / V, (k + 1) / V]."""

import math
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Shaped

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods.laws import is_missing
from deepgen.models.flow import affine
from deepgen.nn import arguments

EDGE = 1e-6
"""How near to the end of its interval a number may be seen: what rounding takes further is brought back to here."""


def level(y: Float[Any, "*shape"], num_values: int) -> Float[Any, "*shape"]:
    """The level of each number: floor(V y), those below the lowest and above the highest counted to these.

    Args:
        y: any numbers.
        num_values: V.

    Returns:
        Whole numbers 0 … V - 1 in the dtype of y.
    """
    xp = array_api_compat.array_namespace(y)
    return xp.clip(xp.floor(num_values * y), 0, num_values - 1)


def contains(x: Shaped[Any, "..."], y: Float[Any, "..."], num_values: int) -> Bool[Any, "..."]:
    """Whether the level of y is x, but for rounding.

    Args:
        x: levels.
        y: numbers, which broadcast with them.
        num_values: V.

    Returns:
        Booleans.
    """
    xp = array_api_compat.array_namespace(y)
    slack = 4 * num_values * float(xp.finfo(y.dtype).eps)
    own = xp.astype(x, y.dtype, copy=False)
    above = (num_values * y >= own - slack) | (own <= 0)
    below = (num_values * y <= own + 1 + slack) | (own >= num_values - 1)
    return above & below & (own >= 0) & (own <= num_values - 1)


def place(
    v: Float[Any, "..."], x: Shaped[Any, "..."], num_values: int, *, inverse: bool = False
) -> tuple[Float[Any, "..."], Float[Any, "..."]]:
    r""":math:`y = (x + \sigma(v)) / V`, in the interval of level x, or its inverse, and the log of the slope.

    Of standard logistic v, y is uniform in the interval.

    Args:
        v: any numbers; where inverted numbers of the level's interval.
        x: levels, which broadcast with them.
        num_values: V.
        inverse: whether it is inverted.

    Returns:
        Values and log-slopes.
    """
    xp = array_api_compat.array_namespace(v)
    own = xp.astype(x, v.dtype, copy=False)
    if inverse:
        value, log_slopes = affine.logit(xp.clip(num_values * v - own, EDGE, 1 - EDGE), 0.0)
        return value, log_slopes + math.log(num_values)
    value, log_slopes = affine.logit(v, 0.0, inverse=True)
    return (own + value) / num_values, log_slopes - math.log(num_values)


def scaled(x: Shaped[Any, "n *shape"], like: Float[Any, "..."], num_values: int) -> Float[Any, "n size"]:
    """Levels as a dequantiser's networks see them: rows within (-1, 1), in the dtype of ``like``."""
    xp = array_api_compat.array_namespace(x)
    return xp.reshape((2 * xp.astype(x, like.dtype, copy=False) + 1) / num_values - 1, (x.shape[0], -1))


def ends(
    x: Shaped[Any, "n d"],
    observed: Bool[Any, "n d"],
    num_values: int,
    below: Float[Any, "n d"],
    above: Float[Any, "n d"],
    growing: Bool[Any, "n d"],
) -> tuple[Float[Any, "n d"], Float[Any, "n d"]]:
    """The ends of the cells of levels in a coordinate: the outermost levels' cells are open.

    Args:
        x: levels, anything where missing.
        observed: booleans.
        num_values: V.
        below: the coordinates of x / V.
        above: the coordinates of (x + 1) / V.
        growing: whether the coordinate grows with the numbers.

    Returns:
        Lower and upper ends; infinite where open or missing.
    """
    xp = array_api_compat.array_namespace(below)
    infinite = xp.full_like(below, math.inf)
    far = xp.where(growing, infinite, -infinite)
    first = xp.where(x <= 0, -far, below)
    second = xp.where(x >= num_values - 1, far, above)
    low, high = xp.where(growing, first, second), xp.where(growing, second, first)
    return xp.where(observed, low, -infinite), xp.where(observed, high, infinite)


def check_levels(
    x: Any, event_shape: tuple[int, ...], num_values: int, observed: Any = None, *, missing: bool = False
) -> np.ndarray:
    """Levels as a dequantised program takes them.

    Args:
        x: (n, *event_shape) whole numbers 0 … V - 1.
        event_shape: of a datum.
        num_values: V.
        observed: booleans of x's shape, or None where NaN (a negative integer) says what is missing.
        missing: whether entries may be missing.

    Returns:
        (n, *event_shape) integers, -1 where missing.

    Raises:
        ValueError: wrong dtype or shape, empty, other numbers, missing entries where none may be, or a row of which
            nothing is observed.
    """
    x, observed = checks.with_mask(x, observed)
    array = checks.data("x", x, event_shape, missing=missing, observed=observed)
    seen = ~is_missing(array) if observed is None else observed
    laws.refuse_missing(seen, missing)
    whole = np.rint(np.where(seen, array, 0))
    off = whole != np.where(seen, array, 0)
    if off.any() or whole.min() < 0 or whole.max() >= num_values:
        raise checks.problem(
            "x",
            got=f"numbers from {array[seen].min()} to {array[seen].max()}" + (", not all whole" if off.any() else ""),
            expected=f"whole numbers 0 … {num_values - 1}",
            fix="Pass grey levels as they are, not divided by their largest.",
        )
    return np.where(seen, whole, -1).astype(np.int32)


def check_parts(flow: Any, noise: Any, num_values: Any) -> int:
    """Refuse a flow and a dequantiser that do not fit together.

    Args:
        flow: of the data.
        noise: of their noise.
        num_values: V.

    Returns:
        V.

    Raises:
        ValueError: noise of another shape or of another context, or fewer than two levels.
    """
    size = math.prod(flow.event_shape)
    known = sorted({0, size, size + flow.context_dim})
    if noise.event_shape != flow.event_shape or noise.context_dim not in known:
        raise checks.problem(
            "noise",
            got=f"a flow of shape {noise.event_shape} given a context of {noise.context_dim}",
            expected=f"one of shape {flow.event_shape} given one of {known}: nothing, the data's entries, or these and "
            "what the flow is given",
            fix="Make it by Dequantized.uniform, .mlp or .conv.",
        )
    return arguments.whole("num_values", num_values, least=2)
