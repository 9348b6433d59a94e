"""What all transforms of this room are in Pyro, and the distribution that they make of a base."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_transform import TransformModule
from torch.distributions import constraints
from torch.distributions.utils import _sum_rightmost

from deepgen.models.flow import shapes
from deepgen.nn import torch as nn


class FlowTransform(TransformModule, ABC):
    """An invertible map of the base's draws towards the data, with its log-Jacobian in both directions.

    It is a Pyro ``TransformModule``: it can stand in any ``TransformedDistribution``, declared in a model as modules
    are, ``pyro.module("coupling", coupling)``. Nothing is remembered from one call to the other.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True
    context_dim: int

    def __init__(self) -> None:
        super().__init__(cache_size=0)

    @property
    def takes(self) -> shapes.Takes:
        """The shape of what it carries towards the data, None where an axis may have any size; None for any shape."""
        return None

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

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """The transform's own."""
        return self.transform.domain

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """The transform's own."""
        return self.transform.codomain

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the image: the context's rows and those of the argument."""
        return self._shape(self.transform.forward_shape(shape), self.codomain.event_dim)

    def inverse_shape(self, shape: Any) -> torch.Size:
        """As `forward_shape`."""
        return self._shape(self.transform.inverse_shape(shape), self.domain.event_dim)

    def _shape(self, shape: Any, event_dim: int) -> torch.Size:
        batch = torch.broadcast_shapes(shape[:-event_dim], self.context.shape[:-1])
        return torch.Size((*batch, *shape[-event_dim:]))


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
        return self._along(value, [None] * len(self.transforms))

    def _along(self, value: torch.Tensor, known: Sequence[tuple[torch.Tensor, torch.Tensor] | None]) -> torch.Tensor:
        """The log density, given of each transform what came before it and its log-Jacobian, where that is known."""
        event_dim: int = len(self.event_shape)
        total: Any = 0.0
        for transform, found in reversed(list(zip(self.transforms, known, strict=True))):
            if found is not None:
                x, log_det = found[0], -found[1]
            elif isinstance(transform, FlowTransform):
                x, log_det = transform.inverse_and_log_det(value)
            else:
                x = transform.inv(value)
                log_det = -transform.log_abs_det_jacobian(x, value)
            batch_ndim = event_dim - transform.codomain.event_dim
            total, value = total + _sum_rightmost(log_det, batch_ndim), x
            event_dim = transform.domain.event_dim + batch_ndim
        base = self.base_dist.log_prob(value)
        return total + _sum_rightmost(base, event_dim - len(self.base_dist.event_shape))


class GuideFlow(FlowDistribution):
    """A `FlowDistribution` for guides, which has the log density of its latest draw at hand, as NumPyro's sites do.

    Otherwise an inverse autoregressive map would have to solve for its own draw, entry by entry. That log density is
    a function of the parameters and the base's draw; by the draw itself it can be differentiated only as a copy.

    Args:
        base_distribution: of the draws.
        transforms: a transform or a list of them, from the base to the latents.
    """

    _latest: tuple[torch.Tensor, int, bool, list[tuple[torch.Tensor, torch.Tensor]]] | None = None

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draws that can be differentiated by the parameters."""
        value = self.base_dist.rsample(torch.Size(sample_shape))
        passed: list[tuple[torch.Tensor, torch.Tensor]] = []
        for transform in self.transforms:
            before = value
            if isinstance(transform, FlowTransform):
                value, log_det = transform.forward_and_log_det(before)
            else:
                value = transform(before)
                log_det = transform.log_abs_det_jacobian(before, value)
            passed.append((before, log_det))
        self._latest = value, value._version, value.requires_grad, passed
        return value

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of each value."""
        if self._latest is not None:
            drawn, version, differentiable, passed = self._latest
            # a draw that was changed, or by which alone it is now to be differentiated, is any other value
            if drawn is value and version == value._version and differentiable == value.requires_grad:
                return self._along(value, list(passed))
        return super().log_prob(value)


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
    x: torch.Tensor, context: torch.Tensor | None, event_dim: int = 1
) -> tuple[tuple[int, ...], torch.Tensor, torch.Tensor | None]:
    """The leading axes of a value and its context, and both with one axis in their place.

    Args:
        x: (..., *event), with ``event_dim`` axes of a datum.
        context: (..., C), whose leading axes broadcast with those of x, or None.
        event_dim: how many axes a datum has.

    Returns:
        The broadcast leading axes, (n, *event), and (n, C) or None.
    """
    batch, event = tuple(x.shape[:-event_dim]), x.shape[-event_dim:]
    if context is None:
        return batch, x if len(batch) == 1 else x.reshape(-1, *event), None
    batch = tuple(torch.broadcast_shapes(batch, context.shape[:-1]))
    flat = x.expand(*batch, *event).reshape(-1, *event)
    return batch, flat, context.expand(*batch, context.shape[-1]).reshape(-1, context.shape[-1])


def silent_linear(in_size: int, out_size: int) -> nn.Linear:
    """A linear map without bias that is zero at first."""
    linear = nn.Linear(in_size, out_size, bias=False)
    torch.nn.init.zeros_(linear.weight)
    return linear
