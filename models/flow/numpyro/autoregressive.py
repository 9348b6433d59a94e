"""Masked autoregressive transforms in NumPyro: each entry is moved by a law that depends on those before it."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen import checks
from deepgen.models.flow import affine, shapes, spline
from deepgen.models.flow.numpyro import elements
from deepgen.models.flow.numpyro.transforms import FlowTransform, rows
from deepgen.nn import arguments
from deepgen.nn import equinox as nn
from deepgen.program import files

Law = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class AffineAutoregressive(FlowTransform):
    r"""In one pass :math:`v_i\, e^{s_i} + t_i`, s bounded, with s and t of the entries of v before i.

    With ``parallel="inverse"`` v is y, and x is given: densities take one pass, draws one step an entry (masked
    autoregressive flow). With ``parallel="forward"`` v is x, and y is given: draws take one pass, densities of given
    values one step an entry (inverse autoregressive flow). The steps run in one loop that updates only what has
    changed. The masked flow of the paper, :math:`(y_i - \mu_i)\, e^{-\alpha_i}`, is the same with
    :math:`t_i = -\mu_i e^{-\alpha_i}`; here an error of the shift is not enlarged where the scale is small.

    Papamakarios, Pavlakou & Murray 2017, Masked autoregressive flow for density estimation; Kingma et al. 2016,
    Improving variational inference with inverse autoregressive flow.

    Args:
        network: a `MaskedMLP` of event shape (D,) with two numbers an entry: t, and s before it is bounded.
        parallel: ``"inverse"`` or ``"forward"``, the direction that takes one pass.
        max_log_scale: s is kept within plus and minus this.
        context_dim: of a context that the network sees; 0 for none.

    Raises:
        ValueError: an unknown direction, a network of another number of numbers, or a bound that is not positive.
    """

    network: Any
    parallel: str = eqx.field(static=True)
    max_log_scale: float = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        *,
        parallel: str = "inverse",
        max_log_scale: float = affine.NETWORK_LOG_SCALE,
        context_dim: int = 0,
    ):
        _check(network, 2, parallel)
        checks.positive("max_log_scale", max_log_scale)
        self.network, self.parallel, self.context_dim = network, parallel, context_dim
        self.max_log_scale = float(max_log_scale)

    @classmethod
    def mlp(
        cls,
        size: int,
        *,
        parallel: str = "inverse",
        max_log_scale: float = affine.NETWORK_LOG_SCALE,
        order: Sequence[int] | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        context_dim: int = 0,
        key: jax.Array,
    ) -> "AffineAutoregressive":
        """With a masked perceptron, whose last layer is zero: at first the identity.

        Args:
            size: D.
            parallel: the direction that takes one pass.
            max_log_scale: s is kept within plus and minus this.
            order: (D,) the entries in their order; None for first to last.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.
            key: for the weights.

        Returns:
            The transform.
        """
        network = _perceptron(size, 2, order, hidden, activation, context_dim, key)
        return cls(network, parallel=parallel, max_log_scale=max_log_scale, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return tuple(self.network.event_shape)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(x, context, "forward")

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(y, context, "inverse")

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> jax.Array:
        """log |det dy/dx|, in one pass."""
        return _log_det(self, x, y) if intermediates is None else intermediates

    def _carry(self, x: jax.Array, context: jax.Array | None, direction: str) -> tuple[jax.Array, jax.Array]:
        solved = direction != self.parallel
        return _move(self, x, context, direction, lambda v, p: elements.scaled(v, p, solved, self.max_log_scale))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {**_spec("AffineAutoregressive", self), "max_log_scale": self.max_log_scale, "form": affine.FORM}


class SplineAutoregressive(FlowTransform):
    r"""Each entry is moved by a monotone rational-quadratic spline whose parameters depend on the entries before it.

    With ``parallel="inverse"`` they are those of y, with ``"forward"`` those of x, as in `AffineAutoregressive`. The
    spline itself is the direction that takes one pass; see `deepgen.models.flow.spline`.

    Durkan, Bekasov, Murray & Papamakarios 2019, Neural spline flows.

    Args:
        network: a `MaskedMLP` of event shape (D,) with 3K - 1 numbers an entry.
        parallel: ``"inverse"`` or ``"forward"``, the direction that takes one pass.
        num_bins: K.
        bound: beyond (-bound, bound) it is the identity.
        context_dim: of a context that the network sees; 0 for none.

    Raises:
        ValueError: an unknown direction, or a network of another number of numbers.
    """

    network: Any
    parallel: str = eqx.field(static=True)
    num_bins: int = eqx.field(static=True)
    bound: float = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        *,
        parallel: str = "inverse",
        num_bins: int = 8,
        bound: float = 5.0,
        context_dim: int = 0,
    ):
        spline.check(num_bins, bound)
        _check(network, spline.num_params(num_bins), parallel)
        self.network, self.parallel, self.context_dim = network, parallel, context_dim
        self.num_bins, self.bound = num_bins, float(bound)

    @classmethod
    def mlp(
        cls,
        size: int,
        *,
        parallel: str = "inverse",
        num_bins: int = 8,
        bound: float = 5.0,
        order: Sequence[int] | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
        context_dim: int = 0,
        key: jax.Array,
    ) -> "SplineAutoregressive":
        """With a masked perceptron, whose last layer is zero: at first the identity.

        Args:
            size: D.
            parallel: the direction that takes one pass.
            num_bins: K.
            bound: beyond (-bound, bound) it is the identity.
            order: (D,) the entries in their order; None for first to last.
            hidden: the widths of the hidden layers.
            activation: of the network.
            context_dim: of a context.
            key: for the weights.

        Returns:
            The transform.
        """
        network = _perceptron(size, spline.num_params(num_bins), order, hidden, activation, context_dim, key)
        return cls(network, parallel=parallel, num_bins=num_bins, bound=bound, context_dim=context_dim)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return tuple(self.network.event_shape)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(x, context, "forward")

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return self._carry(y, context, "inverse")

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> jax.Array:
        """log |det dy/dx|, in one pass."""
        return _log_det(self, x, y) if intermediates is None else intermediates

    def _carry(self, x: jax.Array, context: jax.Array | None, direction: str) -> tuple[jax.Array, jax.Array]:
        solved = direction != self.parallel
        return _move(self, x, context, direction, lambda v, p: elements.rational_quadratic(v, p, self.bound, solved))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {**_spec("SplineAutoregressive", self), "num_bins": self.num_bins, "bound": self.bound}


def _check(network: Any, num_params: int, parallel: str) -> None:
    checks.one_of("parallel", parallel, shapes.DIRECTIONS)
    shapes.check_network(num_params, (network.num_params,), 1)


def _perceptron(
    size: int,
    num_params: int,
    order: Sequence[int] | None,
    hidden: Sequence[int],
    activation: str,
    context_dim: int,
    key: jax.Array,
) -> Any:
    widths = arguments.wholes("hidden", hidden)
    network = nn.MaskedMLP(
        (size,), num_params, widths, order=order, activation=activation, context_size=context_dim, direct=False,
        key=key,
    )  # fmt: skip
    return nn.silent(network)


def _log_det(transform: Any, x: Any, y: Any) -> jax.Array:
    if transform.parallel == "inverse":
        return -transform.inverse_and_log_det(y)[1]
    return transform.forward_and_log_det(x)[1]


def _move(
    transform: Any, x: jax.Array, context: jax.Array | None, direction: str, law: Law
) -> tuple[jax.Array, jax.Array]:
    shapes.check_context(transform.context_dim, None if context is None else jnp.shape(context))
    batch, flat, given = rows(x, context)
    if direction == transform.parallel:
        raw = transform.network.leading(flat.T, None if given is None else given.T)
        value, log_slopes = law(flat.T, raw.reshape(-1, *flat.T.shape))
    else:
        value, log_slopes = (part.T for part in _one_by_one(transform.network, flat, given, law))
    return value.T.reshape(*batch, -1), log_slopes.sum(0).reshape(batch)


def _one_by_one(network: Any, x: jax.Array, context: jax.Array | None, law: Law) -> tuple[jax.Array, jax.Array]:
    """Move the entries in their order, in one loop."""
    order = np.asarray(network.order)

    def body(carry: Any, item: Any) -> Any:
        cache, previous = carry
        t, entries = item
        outputs, cache = network.step(cache, t, previous)
        value, log_slope = law(entries, jnp.moveaxis(outputs, -2, 0))
        return (cache, value), (value, log_slope)

    entries = jnp.moveaxis(x[:, order], 0, 1)
    first = (network.start(len(x), context), jnp.zeros((len(x), order.shape[1]), x.dtype))
    _, found = lax.scan(body, first, (jnp.arange(len(order)), entries))
    back = np.argsort(order.reshape(-1))
    value, log_slopes = (jnp.moveaxis(part, 0, 1).reshape(len(x), -1)[:, back] for part in found)
    return value, log_slopes


def _spec(name: str, transform: Any) -> dict[str, Any]:
    return {
        "transform": name,
        "network": files.describe(transform.network, nn.NETWORKS),
        "parallel": transform.parallel,
        "context_dim": transform.context_dim,
    }
