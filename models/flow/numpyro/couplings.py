"""Couplings in NumPyro: some entries are moved, by a law whose parameters a network reads off the others."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen import checks
from deepgen.models.flow import affine, shapes, spline
from deepgen.models.flow.numpyro import elements
from deepgen.models.flow.numpyro.transforms import FlowTransform, rows
from deepgen.nn import arguments
from deepgen.nn import equinox as nn
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

    network: Any
    mask: tuple[bool, ...] = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(self, network: Any, mask: Sequence[bool], *, context_dim: int = 0):
        self.network, self.mask, self.context_dim = network, shapes.check_mask(mask), context_dim

    @classmethod
    def mlp(
        cls,
        mask: Sequence[bool],
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        context_dim: int = 0,
        key: jax.Array,
    ) -> "AdditiveCoupling":
        """With a perceptron, whose last layer is zero: at first the identity.

        Args:
            mask: (D,) booleans, True where an entry is moved.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.
            key: for the weights.

        Returns:
            The coupling.
        """
        return cls(_perceptron(mask, 1, hidden, activation, context_dim, key), mask, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.mask),)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _couple(self, x, context, 1, lambda v, p: elements.additive(v, p, False))

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
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

    network: Any
    mask: tuple[bool, ...] = eqx.field(static=True)
    max_log_scale: float = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        mask: Sequence[bool],
        *,
        max_log_scale: float = affine.NETWORK_LOG_SCALE,
        context_dim: int = 0,
    ):
        checks.positive("max_log_scale", max_log_scale)
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
        key: jax.Array,
    ) -> "AffineCoupling":
        """With a perceptron, whose last layer is zero: at first the identity.

        Args:
            mask: (D,) booleans, True where an entry is moved.
            max_log_scale: s is kept within plus and minus this.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.
            key: for the weights.

        Returns:
            The coupling.
        """
        network = _perceptron(mask, 2, hidden, activation, context_dim, key)
        return cls(network, mask, max_log_scale=max_log_scale, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.mask),)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _couple(self, x, context, 2, lambda v, p: elements.scaled(v, p, False, self.max_log_scale))

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
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

    network: Any
    mask: tuple[bool, ...] = eqx.field(static=True)
    num_bins: int = eqx.field(static=True)
    bound: float = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(
        self, network: Any, mask: Sequence[bool], *, num_bins: int = 8, bound: float = 5.0, context_dim: int = 0
    ):
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
        key: jax.Array,
    ) -> "SplineCoupling":
        """With a perceptron, whose last layer is zero: at first the identity.

        Args:
            mask: (D,) booleans, True where an entry is moved.
            num_bins: K.
            bound: beyond (-bound, bound) it is the identity.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.
            key: for the weights.

        Returns:
            The coupling.
        """
        network = _perceptron(mask, spline.num_params(num_bins), hidden, activation, context_dim, key)
        return cls(network, mask, num_bins=num_bins, bound=bound, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.mask),)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(x, context, True)

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(y, context, False)

    def _carry(self, x: jax.Array, context: jax.Array | None, solved: bool) -> tuple[jax.Array, jax.Array]:
        law = lambda v, p: elements.rational_quadratic(v, p, self.bound, solved)  # noqa: E731
        return _couple(self, x, context, spline.num_params(self.num_bins), law)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {**_spec("SplineCoupling", self), "num_bins": self.num_bins, "bound": self.bound}


def _perceptron(
    mask: Sequence[bool], num_params: int, hidden: Sequence[int], activation: str, context_dim: int, key: jax.Array
) -> nn.MLP:
    found = shapes.split(shapes.check_mask(mask))
    size = num_params * len(found.moved)
    seen = len(found.kept) + arguments.whole("context_dim", context_dim, least=0)
    network = nn.MLP(seen, size, arguments.wholes("hidden", hidden), activation=activation, key=key)
    return nn.silent(network)


def _couple(
    transform: Any, x: jax.Array, context: jax.Array | None, num_params: int, law: Any
) -> tuple[jax.Array, jax.Array]:
    """Move the masked entries; the rows stand last for the network and for the law."""
    shapes.check_context(transform.context_dim, None if context is None else jnp.shape(context))
    batch, flat, given = rows(x, context)
    found = shapes.split(transform.mask)
    kept, moved = _take(flat.T, found)
    inputs = kept if given is None else jnp.concatenate([kept, given.T.astype(kept.dtype)])
    network = transform.network
    raw = network.leading(inputs) if isinstance(network, nn.MLP) else network(inputs.T).reshape(len(flat), -1).T
    shapes.check_network(num_params * len(found.moved), raw.shape, len(flat))
    changed, log_slopes = law(moved, raw.reshape(num_params, len(found.moved), len(flat)))
    return _put(kept, changed, found).T.reshape(*batch, -1), log_slopes.sum(0).reshape(batch)


def _take(x: jax.Array, found: shapes.Split) -> tuple[jax.Array, jax.Array]:
    if not found.first:
        return x[jnp.asarray(found.kept)], x[jnp.asarray(found.moved)]
    front, rear = x[: found.first], x[found.first :]
    return (front, rear) if found.kept_first else (rear, front)


def _put(kept: jax.Array, moved: jax.Array, found: shapes.Split) -> jax.Array:
    if not found.first:
        return jnp.concatenate([kept, moved])[jnp.asarray(found.back)]
    return jnp.concatenate([kept, moved] if found.kept_first else [moved, kept])


def _spec(name: str, transform: Any) -> dict[str, Any]:
    return {
        "transform": name,
        "network": files.describe(transform.network, nn.NETWORKS),
        "mask": list(transform.mask),
        "context_dim": transform.context_dim,
    }
