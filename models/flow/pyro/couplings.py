"""Couplings in Pyro: some entries are moved, by a law whose parameters a network reads off the others."""

from collections.abc import Sequence
from typing import Any

import torch

from deepgen import checks
from deepgen.models.flow import affine, shapes, spline
from deepgen.models.flow.pyro import elements
from deepgen.models.flow.pyro.transforms import FlowTransform, rows
from deepgen.nn import arguments
from deepgen.nn import torch as nn
from deepgen.program import files


class AdditiveCoupling(FlowTransform):
    r""":math:`y_b = x_b + t(x_a)`, the entries a as they are; the volume does not change.

    Dinh, Krueger & Bengio 2015, NICE: non-linear independent components estimation.

    Args:
        network: from (n, kept + context_dim) to (n, moved) numbers.
        mask: (D,) booleans, True where an entry is moved.
        context_dim: of a context that the network sees behind the kept entries; 0 for none.

    Raises:
        ValueError: a mask that keeps or moves nothing.
    """

    def __init__(self, network: Any, mask: Sequence[bool], *, context_dim: int = 0):
        super().__init__()
        self.network, self.mask, self.context_dim = network, shapes.check_mask(mask), context_dim

    @classmethod
    def mlp(
        cls,
        mask: Sequence[bool],
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        context_dim: int = 0,
    ) -> "AdditiveCoupling":
        """With a perceptron, whose last layer is zero: at first the identity.

        Args:
            mask: (D,) booleans, True where an entry is moved.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.

        Returns:
            The coupling.
        """
        return cls(_perceptron(mask, 1, hidden, activation, context_dim), mask, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.mask),)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return _couple(self, x, context, 1, lambda v, p: elements.additive(v, p, False))

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return _couple(self, y, context, 1, lambda v, p: elements.additive(v, p, True))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return _spec("AdditiveCoupling", self)


class AffineCoupling(FlowTransform):
    r""":math:`y_b = x_b\, e^{s(x_a)} + t(x_a)`, the entries a as they are, s bounded.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.

    Args:
        network: from (n, kept + context_dim) to (n, 2 * moved) numbers: all t, then all s before they are bounded.
        mask: (D,) booleans, True where an entry is moved.
        max_log_scale: s is kept within plus and minus this.
        context_dim: of a context that the network sees behind the kept entries; 0 for none.

    Raises:
        ValueError: a mask that keeps or moves nothing, or a bound that is not positive.
    """

    def __init__(
        self,
        network: Any,
        mask: Sequence[bool],
        *,
        max_log_scale: float = affine.NETWORK_LOG_SCALE,
        context_dim: int = 0,
    ):
        checks.positive("max_log_scale", max_log_scale)
        super().__init__()
        self.network, self.mask, self.context_dim = network, shapes.check_mask(mask), context_dim
        self.max_log_scale = float(max_log_scale)

    @classmethod
    def mlp(
        cls,
        mask: Sequence[bool],
        *,
        max_log_scale: float = affine.NETWORK_LOG_SCALE,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        context_dim: int = 0,
    ) -> "AffineCoupling":
        """With a perceptron, whose last layer is zero: at first the identity.

        Args:
            mask: (D,) booleans, True where an entry is moved.
            max_log_scale: s is kept within plus and minus this.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.

        Returns:
            The coupling.
        """
        network = _perceptron(mask, 2, hidden, activation, context_dim)
        return cls(network, mask, max_log_scale=max_log_scale, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.mask),)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return _couple(self, x, context, 2, lambda v, p: elements.scaled(v, p, False, self.max_log_scale))

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return _couple(self, y, context, 2, lambda v, p: elements.scaled(v, p, True, self.max_log_scale))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {**_spec("AffineCoupling", self), "max_log_scale": self.max_log_scale}


class SplineCoupling(FlowTransform):
    r""":math:`x_b = f_{\theta(x_a)}(y_b)` with monotone rational-quadratic splines f, the entries a as they are.

    The spline itself is the inverse, the direction of densities and training; see `deepgen.models.flow.spline`.

    Durkan, Bekasov, Murray & Papamakarios 2019, Neural spline flows.

    Args:
        network: from (n, kept + context_dim) to (n, (3K - 1) * moved) numbers, the moved entries running fastest.
        mask: (D,) booleans, True where an entry is moved.
        num_bins: K.
        bound: beyond (-bound, bound) it is the identity.
        context_dim: of a context that the network sees behind the kept entries; 0 for none.

    Raises:
        ValueError: a mask that keeps or moves nothing, fewer than two bins, or a bound that is not positive.
    """

    def __init__(
        self, network: Any, mask: Sequence[bool], *, num_bins: int = 8, bound: float = 5.0, context_dim: int = 0
    ):
        super().__init__()
        spline.check(num_bins, bound)
        self.network, self.mask, self.context_dim = network, shapes.check_mask(mask), context_dim
        self.num_bins, self.bound = num_bins, float(bound)

    @classmethod
    def mlp(
        cls,
        mask: Sequence[bool],
        *,
        num_bins: int = 8,
        bound: float = 5.0,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        context_dim: int = 0,
    ) -> "SplineCoupling":
        """With a perceptron, whose last layer is zero: at first the identity.

        Args:
            mask: (D,) booleans, True where an entry is moved.
            num_bins: K.
            bound: beyond (-bound, bound) it is the identity.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.

        Returns:
            The coupling.
        """
        network = _perceptron(mask, spline.num_params(num_bins), hidden, activation, context_dim)
        return cls(network, mask, num_bins=num_bins, bound=bound, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.mask),)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, True)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, False)

    def _carry(self, x: torch.Tensor, context: torch.Tensor | None, solved: bool) -> tuple[torch.Tensor, torch.Tensor]:
        law = lambda v, p: elements.rational_quadratic(v, p, self.bound, solved)  # noqa: E731
        return _couple(self, x, context, spline.num_params(self.num_bins), law)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {**_spec("SplineCoupling", self), "num_bins": self.num_bins, "bound": self.bound}


def _perceptron(
    mask: Sequence[bool], num_params: int, hidden: Sequence[int], activation: str, context_dim: int
) -> nn.MLP:
    found = shapes.split(shapes.check_mask(mask))
    size = num_params * len(found.moved)
    seen = len(found.kept) + arguments.whole("context_dim", context_dim, least=0)
    network = nn.MLP(seen, size, arguments.wholes("hidden", hidden), activation=activation)
    return nn.silent(network)


def _couple(
    transform: Any, x: torch.Tensor, context: torch.Tensor | None, num_params: int, law: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the masked entries; the rows stand last for the network and for the law."""
    shapes.check_context(transform.context_dim, None if context is None else tuple(context.shape))
    batch, flat, given = rows(x, context)
    found = shapes.split(transform.mask)
    # in one layout with what the network gives, which the value then keeps for the next transform
    kept, moved = _take(flat.mT.contiguous(), found)
    inputs = kept if given is None else torch.cat([kept, given.mT.to(kept.dtype)])
    network = transform.network
    raw = network.leading(inputs) if isinstance(network, nn.MLP) else network(inputs.mT).reshape(len(flat), -1).mT
    shapes.check_network(num_params * len(found.moved), tuple(raw.shape), len(flat))
    changed, log_slopes = law(moved, raw.reshape(num_params, len(found.moved), len(flat)))
    value, log_det = _put(kept, changed, found).mT, log_slopes.sum(0)
    return (value, log_det) if len(batch) == 1 else (value.reshape(*batch, -1), log_det.reshape(batch))


def _take(x: torch.Tensor, found: shapes.Split) -> tuple[torch.Tensor, torch.Tensor]:
    if not found.first:
        return x[list(found.kept)], x[list(found.moved)]
    front, rear = x.split([found.first, len(x) - found.first])
    return (front, rear) if found.kept_first else (rear, front)


def _put(kept: torch.Tensor, moved: torch.Tensor, found: shapes.Split) -> torch.Tensor:
    if not found.first:
        return torch.cat([kept, moved])[list(found.back)]
    return torch.cat([kept, moved] if found.kept_first else [moved, kept])


def _spec(name: str, transform: Any) -> dict[str, Any]:
    return {
        "transform": name,
        "network": files.describe(transform.network, nn.NETWORKS),
        "mask": list(transform.mask),
        "context_dim": transform.context_dim,
    }
