"""Numbers kept between bounds, smoothly: for log-scales that must neither explode nor collapse."""

from typing import Any

import array_api_compat
from jaxtyping import Float

from deepgen import checks


def bounded(x: Float[Any, "*shape"], low: float, high: float) -> Float[Any, "*shape"]:
    r"""Map the real line smoothly and increasingly into (low, high).

    With m = (low + high) / 2, r = (high - low) / 2 and u = (x - m) / r,

        y = m + r u / sqrt(1 + u^2),      dy/dx = (1 + u^2)^(-3/2).

    Near the middle it is the identity, and far out its slope falls off like |u|^-3 only, so that a network that has run
    out to a bound still gets a gradient that leads it back (with tanh, the slope would be exactly zero in float32).

    Args:
        x: any numbers, of any shape.
        low: the lower bound.
        high: the upper bound.

    Returns:
        Numbers between the bounds, of the same shape; rounding may reach a bound itself.

    Raises:
        ValueError: unless ``low < high``, both finite.

    >>> import numpy as np
    >>> bounded(np.array([-1e30, -2.0, 1e30]), -7.0, 3.0)
    array([-7., -2.,  3.])
    """
    middle, radius = _interval(low, high)
    xp = array_api_compat.array_namespace(x)
    # an eager engine pays for each pass over the numbers, also for one that adds zero
    distance = x - middle if middle else x
    y = radius * (distance / xp.hypot(xp.full_like(distance, radius), distance))
    return middle + y if middle else y


def unbounded(y: Float[Any, "*shape"], low: float, high: float) -> Float[Any, "*shape"]:
    r"""Invert ``bounded``: x = m + r v / sqrt((1 - v)(1 + v)) with v = (y - m) / r.

    Args:
        y: numbers strictly between the bounds, of any shape.
        low: the lower bound.
        high: the upper bound.

    Returns:
        The ``x`` with ``bounded(x, low, high) == y``, up to rounding; infinite at a bound.

    Raises:
        ValueError: unless ``low < high``, both finite.
    """
    middle, radius = _interval(low, high)
    xp = array_api_compat.array_namespace(y)
    v = (y - middle) / radius
    return middle + radius * v / xp.sqrt((1.0 - v) * (1.0 + v))


def _interval(low: float, high: float) -> tuple[float, float]:
    if not (-float("inf") < low < high < float("inf")):
        raise checks.problem(
            "bounds",
            got=f"low={low}, high={high}",
            expected="finite numbers, low < high",
            fix="For a log-scale: -7 and 3.",
        )
    return (low + high) / 2, (high - low) / 2
