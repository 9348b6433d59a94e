"""What takes numbers to levels and noise into the cells of levels, in Pyro."""

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch.distributions import constraints

from deepgen.models.dequantized import levels
from deepgen.models.flow import shapes
from deepgen.models.flow.pyro.transforms import FlowTransform


class Levels(dist.TorchDistribution):
    """The levels of numbers: floor(V y) with certainty, cut off at 0 and V - 1.

    Args:
        y: (*batch, *event_shape) numbers.
        num_values: V.
        event_dim: how many axes a datum has.
        validate_args: as of any distribution.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, y: Any, num_values: int, event_dim: int, *, validate_args: bool | None = None):
        self.y, self.num_values = y, num_values
        super().__init__(y.shape[:-event_dim], y.shape[-event_dim:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Whole numbers 0 … V - 1."""
        return constraints.independent(constraints.integer_interval(0, self.num_values - 1), self.event_dim)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Levels":
        """The same law with other batch axes."""
        y = self.y.expand(*batch_shape, *self.event_shape)
        return Levels(y, self.num_values, self.event_dim, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """The levels, which are certain.

        Args:
            sample_shape: leading axes of draws.
        """
        found = levels.level(self.y, self.num_values).to(torch.int32)
        return found.expand(*sample_shape, *found.shape)

    def log_prob(self, value: Any) -> torch.Tensor:
        """Zero where all levels are right, else minus infinity."""
        right = levels.contains(value, self.y, self.num_values).flatten(-self.event_dim).all(-1)
        return torch.where(right, 0.0, -torch.inf).to(self.y.dtype)


class Place(FlowTransform):
    """From real numbers into the intervals of levels, ``y = (x + sigmoid(v)) / V``.

    Args:
        x: (n, *event_shape) levels.
        num_values: V.
    """

    def __init__(self, x: torch.Tensor, num_values: int):
        super().__init__()
        self.x, self.num_values, self.context_dim = x, num_values, 0

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """Arrays of real numbers."""
        return constraints.independent(constraints.real, self.x.ndim - 1)

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """Arrays of real numbers."""
        return self.domain

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the image: the levels' rows and those of the argument."""
        return torch.broadcast_shapes(shape, self.x.shape)

    def inverse_shape(self, shape: Any) -> torch.Size:
        """As `forward_shape`."""
        return self.forward_shape(shape)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, False)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, True)

    def _carry(self, v: torch.Tensor, context: torch.Tensor | None, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(0, None if context is None else tuple(context.shape))
        value, log_slopes = levels.place(v, self.x, self.num_values, inverse=inverse)
        return value, log_slopes.sum(tuple(range(1 - self.x.ndim, 0)))
