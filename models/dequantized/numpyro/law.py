"""What takes numbers to levels and noise into the cells of levels, in NumPyro."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from deepgen.models.dequantized import levels
from deepgen.models.flow import shapes
from deepgen.models.flow.numpyro.transforms import FlowTransform


class Levels(dist.Distribution):
    """The levels of numbers: floor(V y) with certainty, cut off at 0 and V - 1.

    Args:
        y: (*batch, *event_shape) numbers.
        num_values: V.
        event_dim: how many axes a datum has.
        validate_args: as of any distribution.
    """

    pytree_data_fields = ("y",)
    pytree_aux_fields = ("num_values",)

    def __init__(self, y: Any, num_values: int, event_dim: int, *, validate_args: bool | None = None):
        self.y, self.num_values = y, num_values
        shape = jnp.shape(y)
        super().__init__(shape[:-event_dim], shape[-event_dim:], validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Whole numbers 0 … V - 1."""
        return constraints.independent(constraints.integer_interval(0, self.num_values - 1), self.event_dim)

    def sample(self, rng_key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """The levels, which are certain.

        Args:
            rng_key: not needed.
            sample_shape: leading axes of draws.
        """
        found = levels.level(self.y, self.num_values).astype(jnp.int32)
        return jnp.broadcast_to(found, (*sample_shape, *found.shape))

    def log_prob(self, value: Any) -> jax.Array:
        """Zero where all levels are right, else minus infinity."""
        right = levels.contains(jnp.asarray(value), self.y, self.num_values)
        return jnp.where(right.all(tuple(range(-self.event_dim, 0))), 0.0, -jnp.inf)


class Place(FlowTransform):
    """From real numbers into the intervals of levels, ``y = (x + sigmoid(v)) / V``.

    Args:
        x: (n, *event_shape) levels.
        num_values: V.
    """

    x: jax.Array
    num_values: int = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(self, x: jax.Array, num_values: int):
        self.x, self.num_values, self.context_dim = x, num_values, 0

    @property
    def domain(self) -> Any:
        """Arrays of real numbers."""
        return constraints.independent(constraints.real, self.x.ndim - 1)

    @property
    def codomain(self) -> Any:
        """Arrays of real numbers."""
        return self.domain

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the image: the levels' rows and those of the argument."""
        return jnp.broadcast_shapes(shape, self.x.shape)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As `forward_shape`."""
        return self.forward_shape(shape)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(x, context, False)

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(y, context, True)

    def _carry(self, v: jax.Array, context: jax.Array | None, inverse: bool) -> tuple[jax.Array, jax.Array]:
        shapes.check_context(0, None if context is None else jnp.shape(context))
        value, log_slopes = levels.place(jnp.asarray(v), self.x, self.num_values, inverse=inverse)
        return value, log_slopes.sum(tuple(range(1 - self.x.ndim, 0)))
