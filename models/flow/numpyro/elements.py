"""The laws by which couplings and autoregressive transforms move one number, in NumPyro."""

from functools import partial
from typing import Any

import jax

from deepgen.models.flow import affine, spline, spline_gradient


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def rational_quadratic(x: jax.Array, parameters: jax.Array, bound: float, inverse: bool) -> tuple[jax.Array, jax.Array]:
    """`deepgen.models.flow.spline.spline` with its derivatives in closed form.

    Args:
        x: values.
        parameters: (3K - 1, *shape).
        bound: where the tails begin.
        inverse: whether the spline is inverted.

    Returns:
        Values and log-slopes.
    """
    return spline.spline(x, parameters, bound, inverse=inverse)


@rational_quadratic.defjvp
def _rational_quadratic_jvp(bound: float, inverse: bool, primals: Any, tangents: Any) -> Any:
    (x, parameters), (dx, dparameters) = primals, tangents
    return spline_gradient.tangent(x, parameters, dx, dparameters, bound, inverse=inverse)


def additive(x: jax.Array, parameters: jax.Array, inverse: bool) -> tuple[jax.Array, jax.Array]:
    """`deepgen.models.flow.affine.shift`."""
    return affine.shift(x, parameters, inverse=inverse)


def scaled(
    x: jax.Array, parameters: jax.Array, inverse: bool, bound: float = affine.LOG_SCALE
) -> tuple[jax.Array, jax.Array]:
    """`deepgen.models.flow.affine.affine`."""
    return affine.affine(x, parameters, inverse=inverse, bound=bound)
