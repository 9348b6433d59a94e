"""What all transforms of this room are in NumPyro, and the distribution that they make of a base."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform, _InverseTransform
from numpyro.distributions.util import sum_rightmost, validate_sample

from deepgen.models.flow import shapes
from deepgen.nn import equinox as nn


class _Unregistered(Transform):
    """NumPyro registers every subclass of `Transform` as a pytree, which Equinox does for its modules itself."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super(Transform, cls).__init_subclass__(**kwargs)


class FlowTransform(eqx.Module, _Unregistered):
    """An invertible map of the base's draws towards the data, with its log-Jacobian in both directions.

    It is a ``numpyro.distributions.transforms.Transform`` and an ``equinox.Module``: it can stand in any
    ``TransformedDistribution``, declared in a model as any module, ``eqx_module("coupling", coupling)``. Nothing is
    remembered from one call to the other.
    """

    context_dim: eqx.AbstractVar[int]

    @property
    def domain(self) -> Any:
        """Vectors of real numbers."""
        return constraints.real_vector

    @property
    def codomain(self) -> Any:
        """Vectors of real numbers."""
        return constraints.real_vector

    @property
    def inv(self) -> Transform:
        """The inverse transform."""
        return _InverseTransform(self)

    @property
    def takes(self) -> shapes.Takes:
        """The shape of what it carries towards the data, None where an axis may have any size; None for any shape."""
        return None

    @abstractmethod
    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """The image of x, and log |det dy/dx| of each."""

    @abstractmethod
    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """What is mapped to y, and log |det dx/dy| of each."""

    def image(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """The image of x alone."""
        return self.forward_and_log_det(x, context)[0]

    def preimage(self, y: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """What is mapped to y, alone."""
        return self.inverse_and_log_det(y, context)[0]

    def condition(self, context: Any) -> Any:
        """The transform given a context.

        Args:
            context: (..., context_dim); None where the transform takes none.

        Returns:
            A transform; the transform itself where it takes no context.

        Raises:
            ValueError: a context that is missing, not wanted, or of another size.
        """
        shapes.check_context(self.context_dim, None if context is None else jnp.shape(context))
        return self if context is None else Conditioned(self, jnp.asarray(context))

    def __call__(self, x: Any) -> jax.Array:
        """The image of x."""
        return self.image(x)

    def _inverse(self, y: Any) -> jax.Array:
        return self.preimage(y)

    def call_with_intermediates(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """The image of x, and its log-Jacobian for `log_abs_det_jacobian`."""
        return self.forward_and_log_det(x)

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> jax.Array:
        """log |det dy/dx|."""
        return self.forward_and_log_det(x)[1] if intermediates is None else intermediates

    def eq(self, other: object, static: bool = False) -> Any:
        """Whether the other one is this very transform, or an equal one."""
        return self is other or bool(eqx.tree_equal(self, other))


class Conditioned(FlowTransform):
    """A transform given its context.

    Args:
        transform: what takes a context.
        context: (..., context_dim).
    """

    transform: FlowTransform
    context: jax.Array
    context_dim: int = eqx.field(static=True)

    def __init__(self, transform: Any, context: jax.Array):
        self.transform, self.context, self.context_dim = transform, context, 0

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else jnp.shape(context))
        return self.transform.forward_and_log_det(x, self.context)

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else jnp.shape(context))
        return self.transform.inverse_and_log_det(y, self.context)

    def image(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else jnp.shape(context))
        return self.transform.image(x, self.context)

    def preimage(self, y: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else jnp.shape(context))
        return self.transform.preimage(y, self.context)

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> jax.Array:
        """log |det dy/dx|."""
        return self.forward_and_log_det(x)[1] if intermediates is None else intermediates

    @property
    def domain(self) -> Any:
        """The transform's own."""
        return self.transform.domain

    @property
    def codomain(self) -> Any:
        """The transform's own."""
        return self.transform.codomain

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the image: the context's rows and those of the argument."""
        return self._shape(self.transform.forward_shape(shape), self.codomain.event_dim)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """As `forward_shape`."""
        return self._shape(self.transform.inverse_shape(shape), self.domain.event_dim)

    def _shape(self, shape: tuple[int, ...], event_dim: int) -> tuple[int, ...]:
        batch = jnp.broadcast_shapes(shape[:-event_dim], self.context.shape[:-1])
        return (*batch, *shape[-event_dim:])


class FlowDistribution(dist.TransformedDistribution):
    """A ``TransformedDistribution`` that takes value and log-Jacobian of each inverse together, in one pass.

    Args:
        base_distribution: of the draws.
        transforms: a transform or a list of them, from the base to the data; NumPyro's own too.
    """

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """The log density of each value."""
        if intermediates is not None:
            return super().log_prob(value, intermediates)
        event_dim, total = len(self.event_shape), jnp.zeros(())
        for transform in reversed(self.transforms):
            if isinstance(transform, FlowTransform):
                x, log_det = transform.inverse_and_log_det(value)
            else:
                x = transform._inverse(value)
                log_det = -jnp.asarray(transform.log_abs_det_jacobian(x, value))
            batch_ndim = event_dim - transform.codomain.event_dim
            total, value = total + sum_rightmost(log_det, batch_ndim), x
            event_dim = transform.domain.event_dim + batch_ndim
        base = self.base_dist.log_prob(value)
        return total + sum_rightmost(base, event_dim - len(self.base_dist.event_shape))


def given_context(transforms: Iterable[Any], context: Any) -> list[Any]:
    """The transforms given a context, those that take none as they are.

    Args:
        transforms: of this room or of the engine.
        context: (..., context_dim), or None.

    Returns:
        As many transforms.
    """
    return [each.condition(context) if getattr(each, "context_dim", 0) else each for each in transforms]


def rows(
    x: jax.Array, context: jax.Array | None, event_dim: int = 1
) -> tuple[tuple[int, ...], jax.Array, jax.Array | None]:
    """The leading axes of a value and its context, and both with one axis in their place.

    Args:
        x: (..., *event), with ``event_dim`` axes of a datum.
        context: (..., C), whose leading axes broadcast with those of x, or None.
        event_dim: how many axes a datum has.

    Returns:
        The broadcast leading axes, (n, *event), and (n, C) or None.
    """
    x = jnp.asarray(x)
    batch, event = x.shape[:-event_dim], x.shape[-event_dim:]
    if context is None:
        return batch, x.reshape(-1, *event), None
    context = jnp.asarray(context)
    batch = jnp.broadcast_shapes(batch, context.shape[:-1])
    flat = jnp.broadcast_to(x, (*batch, *event)).reshape(-1, *event)
    return batch, flat, jnp.broadcast_to(context, (*batch, context.shape[-1])).reshape(-1, context.shape[-1])


def silent_linear(in_size: int, out_size: int) -> nn.Linear:
    """A linear map without bias that is zero at first."""
    linear = nn.Linear(in_size, out_size, bias=False, key=jax.random.key(0))
    return eqx.tree_at(lambda layer: layer.weight, linear, jnp.zeros_like(linear.weight))
