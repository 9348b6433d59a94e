"""Targets in JAX: flat position -> (log density, score)."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from deepgen.inference.langevin import arguments

__all__ = ["bare"]

Evaluate = Callable[[Array], tuple[Array, Array]]


def bare(
    potential_fn: Callable[[Array], Array] | None = None,
    score_fn: Callable[[Array], Array] | None = None,
    *,
    event_shape: tuple[int, ...],
) -> Evaluate:
    """The function that the dynamics follow: flat position -> (log density, score).

    Args:
        potential_fn: (n, *event) -> (n,), nats, minus the log density; each element's value depends on its own position
            only. Without it the log density is NaN, not known.
        score_fn: (n, *event) -> (n, *event), the gradient of the log density; None takes that of ``potential_fn``.
        event_shape: the shape of one element as these functions know it.

    Returns:
        A pytree, callable with (n, d) or (n, d, k).
    """
    return _Bare(potential_fn, score_fn, tuple(event_shape))


class _Bare(eqx.Module):
    potential_fn: Callable[[Array], Array] | None
    score_fn: Callable[[Array], Array] | None
    event_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, position: Array) -> tuple[Array, Array]:
        x = position.reshape(position.shape[0], *self.event_shape)
        if self.potential_fn is None:
            value = jnp.full(x.shape[:1], jnp.nan, x.dtype)
        elif self.score_fn is not None:
            value = self.potential_fn(x)
        else:
            value, pullback = jax.vjp(self.potential_fn, x)
        arguments.check_value("potential_fn", value.shape, x.shape[:1])
        score = pullback(-jnp.ones_like(value))[0] if self.score_fn is None else self.score_fn(x)
        arguments.check_value("score_fn", score.shape, x.shape)
        return -value, score.reshape(position.shape)
