"""Paths between two latents."""

from typing import Any

import array_api_compat
from jaxtyping import Float

from deepgen import checks

KINDS = ("linear", "spherical")


def interpolate(
    start: Float[Any, "*batch d"], end: Float[Any, "*batch d"], weights: Float[Any, " k"], kind: str = "spherical"
) -> Float[Any, "k *batch d"]:
    r"""Points on a path from ``start`` (weight 0) to ``end`` (weight 1).

    linear: (1 - w) a + w b. spherical (White 2016): with Omega the angle between a and b,

        sin((1 - w) Omega) / sin(Omega) a + sin(w Omega) / sin(Omega) b,

    which keeps the norm typical of a normal prior; where a and b are (anti)parallel, or one of
    them is zero, it is the straight line.

    Args:
        start: the latents at weight 0.
        end: the latents at weight 1.
        weights: where on the path, usually within [0, 1].
        kind: ``"linear"`` or ``"spherical"``.

    Returns:
        The points, the path's axis in front.

    Raises:
        ValueError: an unknown ``kind``.
    """
    checks.one_of("kind", kind, KINDS)
    xp = array_api_compat.array_namespace(start, end, weights)
    w = xp.reshape(weights, (-1,) + (1,) * start.ndim)
    line = (1 - w) * start[None, ...] + w * end[None, ...]
    if kind == "linear":
        return line

    def norm(v: Any) -> Any:
        return xp.sqrt(xp.sum(v * v, axis=-1, keepdims=True))

    tiny = xp.finfo(start.dtype).tiny
    length_a, length_b = norm(start), norm(end)
    a = start / xp.where(length_a > 0, length_a, xp.ones_like(length_a))
    b = end / xp.where(length_b > 0, length_b, xp.ones_like(length_b))
    omega = 2 * xp.atan2(norm(a - b), norm(a + b) + tiny)
    sine = xp.sin(omega)
    straight = (xp.abs(sine) < 10 * xp.finfo(start.dtype).eps ** 0.5) | (length_a == 0) | (length_b == 0)
    divisor = xp.where(straight, xp.ones_like(sine), sine)
    arc = (xp.sin((1 - w) * omega) * start[None, ...] + xp.sin(w * omega) * end[None, ...]) / divisor
    return xp.where(straight, line, arc)
