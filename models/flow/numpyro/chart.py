"""A flow cut where each entry begins to be moved by itself, in NumPyro."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen.models.flow.numpyro.linear import Logit, Unflatten
from deepgen.models.flow.numpyro.transforms import FlowTransform


class Chart(eqx.Module):
    """The `deepgen.program.invertible.Chart` of a flow.

    Args:
        base: the law of the base's draws, (D,).
        transforms: from the base to the data.
        event_shape: of a datum.
        context: (n, context_dim) of a conditional flow, or None.
    """

    base: Any
    inner: tuple[Any, ...]
    outer: tuple[Any, ...]
    event_shape: tuple[int, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    context: Any

    def __init__(self, base: Any, transforms: Sequence[Any], event_shape: Sequence[int], context: Any = None):
        cut = len(transforms)
        while cut and _by_entry(transforms[cut - 1]):
            cut -= 1
        self.base, self.inner, self.outer = base, tuple(transforms[:cut]), tuple(transforms[cut:])
        self.event_shape, self.context = tuple(event_shape), context
        # what the inner transforms make: an image, unless it is shaped only afterwards
        flat = any(isinstance(transform, Unflatten) for transform in self.outer)
        self.shape = (math.prod(event_shape),) if flat else self.event_shape

    def take(self, rows: Any) -> "Chart":
        """See `deepgen.program.invertible.Chart`."""
        context = None if self.context is None else self.context[rows]
        return Chart(self.base, [*self.inner, *self.outer], self.event_shape, context)

    def to_base(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `deepgen.program.invertible.Chart`."""
        total = jnp.zeros(v.shape[:-1], v.dtype)
        y = v.reshape(*v.shape[:-1], *self.shape)
        for transform in reversed(self._given()):
            y, log_det = _inverse(transform, y, v.ndim - 1)
            total = total + log_det
        return y, total

    def from_base(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `deepgen.program.invertible.Chart`."""
        total = jnp.zeros(z.shape[:-1], z.dtype)
        y = z
        for transform in self._given():
            y, log_det = _forward(transform, y, z.ndim - 1)
            total = total + log_det
        return y.reshape(z.shape), total

    def log_base(self, z: jax.Array) -> jax.Array:
        """See `deepgen.program.invertible.Chart`."""
        return self.base.log_prob(z)

    def log_prob(self, v: jax.Array) -> jax.Array:
        """See `deepgen.program.invertible.Chart`."""
        z, log_det = self.to_base(v)
        return self.log_base(z) + log_det

    def to_data(self, v: jax.Array) -> jax.Array:
        """See `deepgen.program.invertible.Chart`."""
        x = v.reshape(*v.shape[:-1], *self.shape)
        for transform in self.outer:
            x = transform(x)
        return x

    def from_data(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `deepgen.program.invertible.Chart`."""
        total = jnp.zeros(x.shape, x.dtype)
        for transform in reversed(self.outer):
            if isinstance(transform, Unflatten):
                x, total = transform._inverse(x), transform._inverse(total)
                continue
            # as vectors of one entry each, so that the log-Jacobians are those of the entries
            single = Logit(transform.alpha) if isinstance(transform, Logit) else transform
            x, log_det = _inverse(single, x[..., None], x.ndim)
            x, total = x[..., 0], total + log_det
        lead = x.shape[: x.ndim - len(self.shape)]
        return x.reshape(*lead, -1), total.reshape(*lead, -1)

    def _given(self) -> list[Any]:
        """The inner transforms, given the context."""
        return [t.condition(self.context) if getattr(t, "context_dim", 0) else t for t in self.inner]


def _by_entry(transform: Any) -> bool:
    return isinstance(transform, Logit | Unflatten) or transform.domain.event_dim == 0


def _inverse(transform: Any, y: jax.Array, lead: int) -> tuple[jax.Array, jax.Array]:
    if isinstance(transform, FlowTransform):
        return transform.inverse_and_log_det(y)
    x = transform._inverse(y)
    return x, -_whole(transform, transform.log_abs_det_jacobian(x, y), x, lead)


def _forward(transform: Any, x: jax.Array, lead: int) -> tuple[jax.Array, jax.Array]:
    if isinstance(transform, FlowTransform):
        return transform.forward_and_log_det(x)
    y = transform(x)
    return y, _whole(transform, transform.log_abs_det_jacobian(x, y), x, lead)


def _whole(transform: Any, log_det: Any, x: jax.Array, lead: int) -> jax.Array:
    """That of a datum, of a transform that moves numbers."""
    if transform.domain.event_dim:
        return jnp.asarray(log_det)
    return jnp.broadcast_to(jnp.asarray(log_det), x.shape).sum(tuple(range(lead, x.ndim)))
