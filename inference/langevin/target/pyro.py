"""Targets in torch: flat position -> (log density, score)."""

from collections.abc import Callable

import torch
from torch import Tensor

from deepgen.inference.langevin import arguments

__all__ = ["bare"]

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


def bare(
    potential_fn: Callable[[Tensor], Tensor] | None = None,
    score_fn: Callable[[Tensor], Tensor] | None = None,
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
        A callable with (n, d) or (n, d, k).
    """
    return _Bare(potential_fn, score_fn, tuple(event_shape))


class _Bare:
    def __init__(
        self,
        potential_fn: Callable[[Tensor], Tensor] | None,
        score_fn: Callable[[Tensor], Tensor] | None,
        event_shape: tuple[int, ...],
    ) -> None:
        self.potential_fn, self.score_fn, self.event_shape = potential_fn, score_fn, event_shape

    def __call__(self, position: Tensor) -> tuple[Tensor, Tensor]:
        x = position.detach().reshape(position.shape[0], *self.event_shape)
        with torch.set_grad_enabled(self.score_fn is None):
            x = x.requires_grad_(self.score_fn is None)
            value = x.new_full(x.shape[:1], torch.nan) if self.potential_fn is None else self.potential_fn(x)
            arguments.check_value("potential_fn", tuple(value.shape), tuple(x.shape[:1]))
            score = self.score_fn(x) if self.score_fn is not None else -torch.autograd.grad(value.sum(), x)[0]
        arguments.check_value("score_fn", tuple(score.shape), tuple(x.shape))
        return -value.detach(), score.detach().reshape(position.shape)
