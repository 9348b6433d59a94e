"""What all transforms of this room are in Pyro, and the distribution that they make of a base."""

from abc import ABC, abstractmethod
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_transform import TransformModule
from torch.distributions import constraints
from torch.distributions.utils import _sum_rightmost

from deepgen.models.flow import shapes


class FlowTransform(TransformModule, ABC):
    """An invertible map of the base's draws towards the data, with its log-Jacobian in both directions.

    It is a Pyro ``TransformModule``: it can stand in any ``TransformedDistribution``. Nothing is remembered from one
    call to the other.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    context_dim: int

    def __init__(self) -> None:
        super().__init__(cache_size=0)

    @abstractmethod
    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The image of x, and log |det dy/dx| of each."""

    @abstractmethod
    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """What is mapped to y, and log |det dx/dy| of each."""

    def image(self, x: torch.Tensor, context: Any = None) -> torch.Tensor:
        """The image of x alone."""
        return self.forward_and_log_det(x, context)[0]

    def preimage(self, y: torch.Tensor, context: Any = None) -> torch.Tensor:
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
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        return self if context is None else Conditioned(self, context)

    def _call(self, x: torch.Tensor) -> torch.Tensor:
        return self.image(x)

    def _inverse(self, y: torch.Tensor) -> torch.Tensor:
        return self.preimage(y)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """log |det dy/dx|."""
        return self.forward_and_log_det(x)[1]

    def with_cache(self, cache_size: int = 1) -> "FlowTransform":
        """The transform as it is: it keeps no cache."""
        return self


class Conditioned(FlowTransform):
    """A transform given its context.

    Args:
        transform: what takes a context.
        context: (..., context_dim).
    """

    def __init__(self, transform: Any, context: torch.Tensor):
        super().__init__()
        self.transform, self.context, self.context_dim = transform, context, 0

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else tuple(context.shape))
        return self.transform.forward_and_log_det(x, self.context)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else tuple(context.shape))
        return self.transform.inverse_and_log_det(y, self.context)

    def image(self, x: torch.Tensor, context: Any = None) -> torch.Tensor:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else tuple(context.shape))
        return self.transform.image(x, self.context)

    def preimage(self, y: torch.Tensor, context: Any = None) -> torch.Tensor:
        """See `FlowTransform`."""
        shapes.check_context(0, None if context is None else tuple(context.shape))
        return self.transform.preimage(y, self.context)

    def log_abs_det_jacobian(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """log |det dy/dx|."""
        return self.forward_and_log_det(x)[1]

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the image: the context's rows and those of the argument."""
        return torch.Size((*torch.broadcast_shapes(shape[:-1], self.context.shape[:-1]), shape[-1]))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """As `forward_shape`."""
        return self.forward_shape(shape)


class FlowDistribution(dist.TransformedDistribution):
    """A ``TransformedDistribution`` that takes value and log-Jacobian of each inverse together, in one pass.

    Args:
        base_distribution: of the draws.
        transforms: a transform or a list of them, from the base to the data; Pyro's own too.
    """

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of each value."""
        if self._validate_args:
            self._validate_sample(value)
        event_dim: int = len(self.event_shape)
        total: Any = 0.0
        for transform in reversed(self.transforms):
            if isinstance(transform, FlowTransform):
                x, log_det = transform.inverse_and_log_det(value)
            else:
                x = transform.inv(value)
                log_det = -transform.log_abs_det_jacobian(x, value)
            batch_ndim = event_dim - transform.codomain.event_dim
            total, value = total + _sum_rightmost(log_det, batch_ndim), x
            event_dim = transform.domain.event_dim + batch_ndim
        base = self.base_dist.log_prob(value)
        return total + _sum_rightmost(base, event_dim - len(self.base_dist.event_shape))


def rows(x: torch.Tensor, context: torch.Tensor | None) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor | None]:
    """The leading axes of a value and its context, and both as matrices.

    Args:
        x: (..., D).
        context: (..., C), whose leading axes broadcast with those of x, or None.

    Returns:
        The broadcast leading axes, (n, D), and (n, C) or None.
    """
    if context is None:
        return tuple(x.shape[:-1]), x.reshape(-1, x.shape[-1]), None
    batch = tuple(torch.broadcast_shapes(x.shape[:-1], context.shape[:-1]))
    flat = x.expand(*batch, x.shape[-1]).reshape(-1, x.shape[-1])
    return batch, flat, context.expand(*batch, context.shape[-1]).reshape(-1, context.shape[-1])
