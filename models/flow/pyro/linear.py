"""Transforms without networks in Pyro: shifts and scales, triangular maps, permutations, the logit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.distributions import constraints

from deepgen import checks
from deepgen.models.flow import affine, shapes
from deepgen.models.flow.pyro import elements
from deepgen.models.flow.pyro.transforms import FlowTransform, rows, silent_linear
from deepgen.nn import arguments


class ActNorm(FlowTransform):
    r""":math:`y = x\, e^s + t` for each entry, s within (-5, 5), set so that data have zero mean and unit variance.

    With a context c it is :math:`y = x\, e^{s + S c} + t + T c`, S and T zero at first.

    Kingma & Dhariwal 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        size: D.
        data: (n, D), a large first batch that `initialise` takes; None for the identity.
        context_dim: of a context; 0 for none.

    Raises:
        ValueError: data of another shape, of fewer than two rows, or of which a column is never observed.
    """

    def __init__(self, size: int, *, data: Any | None = None, context_dim: int = 0):
        super().__init__()
        size, self.context_dim = arguments.whole("size", size), context_dim
        loc, log_scale = (np.zeros(size),) * 2 if data is None else _statistics(data, size)
        dtype = torch.get_default_dtype()
        self.shift = torch.nn.Parameter(torch.as_tensor(loc, dtype=dtype))
        self.raw_log_scale = torch.nn.Parameter(torch.as_tensor(affine.raw_log_scale(log_scale), dtype=dtype))
        self.context = silent_linear(context_dim, 2 * size) if context_dim else None

    def initialise(self, x: Any) -> "ActNorm":
        """Set the transform so that its inverse gives data zero mean and unit variance.

        Args:
            x: (n, D), NaN where missing.

        Returns:
            The same transform, with this shift and scale.

        Raises:
            ValueError: as the class.
        """
        loc, log_scale = _statistics(x, len(self.shift))
        with torch.no_grad():
            self.shift.copy_(torch.as_tensor(loc))
            self.raw_log_scale.copy_(torch.as_tensor(affine.raw_log_scale(log_scale)))
        return self

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.shift),)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, False)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, True)

    def _carry(self, x: torch.Tensor, context: torch.Tensor | None, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        parameters = torch.cat([self.shift, self.raw_log_scale])
        if self.context is not None:
            parameters = parameters + self.context(context)
        value, log_slopes = elements.scaled(x, torch.stack(parameters.chunk(2, -1)), inverse)
        return value, log_slopes.expand(value.shape).sum(-1)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "ActNorm", "size": len(self.shift), "context_dim": self.context_dim}


class LULinear(FlowTransform):
    r""":math:`x = L U (y - b)`, L unit lower triangular, U upper triangular with a positive diagonal.

    The product is the inverse, the direction of densities; draws solve two triangular systems. At first the identity.
    With a context c, b + B c stands for b, B zero at first.

    Kingma & Dhariwal 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        size: D.
        context_dim: of a context; 0 for none.

    Raises:
        ValueError: a size that is no whole number.
    """

    def __init__(self, size: int, *, context_dim: int = 0):
        super().__init__()
        size, self.context_dim = arguments.whole("size", size), context_dim
        self.weight = torch.nn.Parameter(torch.zeros(size, size))
        self.log_diagonal = torch.nn.Parameter(torch.zeros(size))
        self.bias = torch.nn.Parameter(torch.zeros(size))
        self.context = silent_linear(context_dim, size) if context_dim else None

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.bias),)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        lower, upper, bias = self._parts(context)
        batch, flat, _ = rows(x, None)
        solved = torch.linalg.solve_triangular(lower, flat.mT, upper=False, unitriangular=True)
        value = torch.linalg.solve_triangular(upper, solved, upper=True).mT.reshape(*batch, -1) + bias
        return value, (-self._log_det()).expand(value.shape[:-1])

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        lower, upper, bias = self._parts(context)
        value = (y - bias) @ (lower @ upper).mT
        return value, self._log_det().expand(value.shape[:-1])

    def _parts(self, context: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        moved = 0.0 if self.context is None else self.context(context)
        return *affine.triangles(self.weight, affine.kept(self.log_diagonal)), self.bias + moved

    def _log_det(self) -> torch.Tensor:
        return affine.kept(self.log_diagonal).sum()

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "LULinear", "size": len(self.bias), "context_dim": self.context_dim}


class Permute(FlowTransform):
    """``y[..., i] = x[..., permutation[i]]``.

    Args:
        permutation: (D,) each of 0 … D - 1 once.

    Raises:
        ValueError: no permutation.
    """

    there: torch.Tensor
    back: torch.Tensor

    def __init__(self, permutation: Sequence[int]):
        super().__init__()
        self.permutation, self.context_dim = shapes.check_permutation(permutation), 0
        self.register_buffer("there", torch.as_tensor(self.permutation), persistent=False)
        self.register_buffer("back", torch.as_tensor(np.argsort(self.permutation)), persistent=False)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.permutation),)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, self.there)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, self.back)

    def _carry(self, x: torch.Tensor, context: Any, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(0, None if context is None else tuple(context.shape))
        # as couplings, which have rows last, so that nothing is copied into another order
        batch, flat, _ = rows(x, None)
        return flat.mT.index_select(0, order).mT.reshape(*batch, -1), x.new_zeros(batch)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "Permute", "permutation": list(self.permutation)}


class Logit(FlowTransform):
    r"""From real numbers to the unit interval; its inverse is logit(alpha + (1 - 2 alpha) x), for data in [0, 1].

    Its image is slightly wider than [0, 1], by alpha on either side.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.

    Args:
        alpha: in [0, 1/2), what keeps the logit of 0 and 1 finite.
        axes: how many axes a datum has: 1 of a vector, 3 of an image.

    Raises:
        ValueError: another alpha, or no number of axes.
    """

    def __init__(self, alpha: float = 1e-6, *, axes: int = 1):
        super().__init__()
        affine.logit(np.zeros(()) + 0.5, alpha)
        self.alpha, self.axes, self.context_dim = float(alpha), arguments.whole("axes", axes), 0

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """Arrays of real numbers."""
        return constraints.independent(constraints.real, self.axes)

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """Arrays of real numbers."""
        return self.domain

    @property
    def interval(self) -> tuple[float, float]:
        """What its images lie in: [0, 1], and as much more on both sides as alpha lets them come."""
        return affine.logit_interval(self.alpha)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (None,) * self.axes

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, True)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, False)

    def _carry(self, x: torch.Tensor, context: torch.Tensor | None, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(0, None if context is None else tuple(context.shape))
        value, log_slopes = affine.logit(x, self.alpha, inverse=inverse)
        return value, log_slopes.sum(tuple(range(-self.axes, 0)))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "Logit", "alpha": self.alpha, "axes": self.axes}


class Unflatten(FlowTransform):
    """From vectors to data of another shape, row-major.

    Args:
        event_shape: of a datum.

    Raises:
        ValueError: no shape.
    """

    def __init__(self, event_shape: Sequence[int]):
        super().__init__()
        self.event_shape, self.context_dim = checks.event_shape(tuple(event_shape)), 0

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """Arrays of real numbers."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (int(np.prod(self.event_shape)),)

    def forward_shape(self, shape: Any) -> torch.Size:
        """The image's shape."""
        return torch.Size((*shape[:-1], *self.event_shape))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """The argument's shape."""
        return torch.Size((*shape[: len(shape) - len(self.event_shape)], int(np.prod(self.event_shape))))

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, self.forward_shape)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, self.inverse_shape)

    def _carry(self, x: torch.Tensor, context: torch.Tensor | None, shape_of: Any) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(0, None if context is None else tuple(context.shape))
        flat = x.reshape(shape_of(x.shape))
        batch = x.shape[:-1] if shape_of == self.forward_shape else flat.shape[:-1]
        return flat, x.new_zeros(batch)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "Unflatten", "event_shape": list(self.event_shape)}


def _statistics(data: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    return affine.statistics(checks.data("data", data, (size,), missing=True).astype(np.float64))
