"""A flow cut where each entry begins to be moved by itself, in Pyro."""

from collections.abc import Sequence
from typing import Any

import torch

from deepgen.models.flow.pyro.linear import Logit, Unflatten
from deepgen.models.flow.pyro.transforms import FlowTransform


class Chart:
    """The `deepgen.program.invertible.Chart` of a flow.

    Args:
        base: the law of the base's draws, (D,).
        transforms: from the base to the data.
        context: (n, context_dim) of a conditional flow, or None.
    """

    def __init__(self, base: Any, transforms: Sequence[Any], context: Any = None):
        cut = len(transforms)
        while cut and _by_entry(transforms[cut - 1]):
            cut -= 1
        self.base, self.inner, self.outer = base, tuple(transforms[:cut]), tuple(transforms[cut:])
        self.context = context

    def take(self, rows: Any) -> "Chart":
        """See `deepgen.program.invertible.Chart`."""
        context = None if self.context is None else self.context[rows]
        return Chart(self.base, [*self.inner, *self.outer], context)

    def to_base(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `deepgen.program.invertible.Chart`."""
        total = torch.zeros_like(v[..., 0])
        for transform in reversed(self._given()):
            v, log_det = _inverse(transform, v)
            total = total + log_det
        return v, total

    def from_base(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `deepgen.program.invertible.Chart`."""
        total = torch.zeros_like(z[..., 0])
        for transform in self._given():
            z, log_det = _forward(transform, z)
            total = total + log_det
        return z, total

    def log_base(self, z: torch.Tensor) -> torch.Tensor:
        """See `deepgen.program.invertible.Chart`."""
        return self.base.log_prob(z)

    def log_prob(self, v: torch.Tensor) -> torch.Tensor:
        """See `deepgen.program.invertible.Chart`."""
        z, log_det = self.to_base(v)
        return self.log_base(z) + log_det

    def to_data(self, v: torch.Tensor) -> torch.Tensor:
        """See `deepgen.program.invertible.Chart`."""
        for transform in self.outer:
            v = transform(v)
        return v

    def from_data(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `deepgen.program.invertible.Chart`."""
        total = torch.zeros_like(x)
        for transform in reversed(self.outer):
            if isinstance(transform, Unflatten):
                x, total = transform.inv(x), transform.inv(total)
                continue
            # as vectors of one entry each, so that the log-Jacobians are those of the entries
            x, log_det = _inverse(transform, x[..., None])
            x, total = x[..., 0], total + log_det
        return x, total

    def _given(self) -> list[Any]:
        """The inner transforms, given the context."""
        return [t.condition(self.context) if getattr(t, "context_dim", 0) else t for t in self.inner]


def _by_entry(transform: Any) -> bool:
    return isinstance(transform, Logit | Unflatten) or transform.domain.event_dim == 0


def _inverse(transform: Any, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(transform, FlowTransform):
        return transform.inverse_and_log_det(y)
    x = transform.inv(y)
    return x, -_whole(transform, transform.log_abs_det_jacobian(x, y), x)


def _forward(transform: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(transform, FlowTransform):
        return transform.forward_and_log_det(x)
    y = transform(x)
    return y, _whole(transform, transform.log_abs_det_jacobian(x, y), x)


def _whole(transform: Any, log_det: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """That of vectors, of a transform that moves numbers."""
    return log_det if transform.domain.event_dim else log_det.expand(x.shape).sum(-1)
