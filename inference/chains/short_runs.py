"""One unadjusted Langevin step of short training chains, with what practice adds to it."""

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float


def langevin(
    x: Float[Any, "n d"],
    gradient: Float[Any, "n d"],
    noise: Float[Any, "n d"],
    step_size: Any,
    spread: Float[Any, " d"],
    noise_scale: float = 1.0,
    max_gradient: float | None = None,
) -> Float[Any, "n d"]:
    r"""x' = x + (e^2 / 2) s^2 grad + c e s noise, entry by entry.

    Args:
        x: where the chains are.
        gradient: of the log density.
        noise: standard normals.
        step_size: e, in units of the spread.
        spread: s, the standard deviations of the entries.
        noise_scale: c; 1 for the Langevin diffusion, less for a colder one.
        max_gradient: each entry of s grad is clipped to plus or minus this; None for no limit.

    Returns:
        The new places.
    """
    xp = array_namespace(x)
    scaled = spread * gradient
    if max_gradient is not None:
        limit = max_gradient * xp.ones_like(scaled)
        scaled = xp.where(scaled > limit, limit, xp.where(scaled < -limit, -limit, scaled))
    return x + spread * (0.5 * step_size**2 * scaled + noise_scale * step_size * noise)
