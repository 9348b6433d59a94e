"""The masked perceptron as an Equinox module: all conditionals in one pass, or step by step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Num, PRNGKeyArray

from deepgen.math import degrees
from deepgen.nn import arguments, masked
from deepgen.nn.equinox_layers import Activation, Linear, activation_function


class Cache(NamedTuple):
    """What a masked perceptron keeps from step to step.

    Attributes:
        before: (n, width) the first hidden layer before its activation, of each unit as far as it is to see what is
            decided; None where there are no hidden layers.
        hidden: of each hidden layer but the first (n, width), zero where a unit is not complete.
        outputs: (n, num_params * places) what of the outputs comes from the inputs without hidden layers between; None
            where `decided` tells it.
        decided: (n, D) what the network sees of the entries so far, zero where they are not decided; None where entries
            are categories, or nothing is hidden.
    """

    before: Array | None
    hidden: tuple[Array, ...]
    outputs: Array | None
    decided: Array | None


class MaskedMLP(eqx.Module):
    r"""A perceptron whose outputs for an entry depend on those entries alone that are decided before it (MADE).

    .. math:: h = \mathrm{act}((M_1 \odot W_1) x + b_1 + C c), \quad y = (M_2 \odot W_2) h + b_2 + (M_3 \odot A) x

    with masks by degrees, see `deepgen.math.degrees`, any number of hidden layers, and a context c that every unit may
    see. Weights and biases are drawn as in torch.

    Germain, Gregor, Murray & Larochelle 2015, MADE: masked autoencoder for distribution estimation.

    Args:
        event_shape: the shape of one datum, D entries.
        num_params: P, how many numbers are given for each entry.
        hidden: the widths of the hidden layers; fewer than T - 1 units cannot hold every degree.
        order: (D,) or (T, E) indices into the flattened datum, in the order of their decision; None for row-major.
        element_shape: the shape of what one step decides, E entries: ``()`` for one, ``(C,)`` for a pixel's channels.
        activation: its name (elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh), or a function.
        context_size: of the context; 0 for none.
        direct: whether there are connections from the inputs to the outputs (always, where nothing is hidden).
        num_categories: of entries that are integers 0 … F - 1 and seen as one-hot codes; None for numbers.
        input_range: the (low, high) that are seen as -1 and 1; None for numbers as they are.
        coupled: whether the P numbers are for each element of C channels rather than for each entry.
        seed: of random permutations of the hidden units' degrees; None where they ascend.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers, an order that is no permutation, an element that does not fit.
    """

    layers: tuple[Linear, ...]
    direct: Linear | None
    context: Linear | None
    sizes: masked.Sizes = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        event_shape: Sequence[int],
        num_params: int,
        hidden: Sequence[int] = (),
        *,
        order: Any = None,
        element_shape: Sequence[int] = (),
        activation: Activation = "gelu",
        context_size: int = 0,
        direct: bool = True,
        num_categories: int | None = None,
        input_range: Sequence[float] | None = None,
        coupled: bool = False,
        seed: int | None = None,
        key: PRNGKeyArray,
    ) -> None:
        arguments.activation(activation)
        self.activation = activation
        self.sizes = masked.sizes(
            event_shape,
            num_params,
            hidden,
            order=order,
            element_shape=element_shape,
            context_size=context_size,
            num_categories=num_categories,
            input_range=input_range,
            coupled=coupled,
            seed=seed,
        )
        widths = self.sizes.layers
        keys = jax.random.split(key, len(widths) + 1)
        self.layers = tuple(Linear(widths[i], widths[i + 1], key=keys[i]) for i in range(len(widths) - 1))
        shortcut = bool(direct) and len(widths) > 2
        self.direct = Linear(widths[0], widths[-1], bias=False, key=keys[-2]) if shortcut else None
        size = self.sizes.context_size
        self.context = Linear(size, widths[1], bias=False, key=keys[-1]) if size else None

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.sizes.event_shape

    @property
    def element_shape(self) -> tuple[int, ...]:
        """The shape of what one step decides."""
        return self.sizes.element_shape

    @property
    def num_params(self) -> int:
        """How many numbers are given for each entry."""
        return self.sizes.num_params

    @property
    def order(self) -> np.ndarray:
        """(T, E) indices into the flattened datum, which each step decides."""
        return np.asarray(self.sizes.order)

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape that the context of one row has; none where there is no context."""
        return ((self.sizes.context_size,),) if self.sizes.context_size else ()

    def __call__(
        self, x: Num[Any, "*batch_and_event"], context: Float[Any, "*batch size"] | None = None
    ) -> Float[Array, "*batch_and_outputs"]:
        """The outputs for every entry, in one pass.

        Args:
            x: (..., *event_shape).
            context: (..., context_size), of the same leading axes.

        Returns:
            (..., num_params, *event_shape), or (..., num_params, *event_shape[1:]) where channels are coupled.

        Raises:
            ValueError: another shape than the network was built for.
        """
        return self.outputs(x, context, masked.plan(self.sizes, seed=self.sizes.seed))

    def outputs(self, x: Array, context: Array | None, plan: masked.Plan) -> Array:
        """The outputs under another plan than the network's own, as `__call__` gives them.

        Args:
            x: (..., *event_shape).
            context: (..., context_size), or None.
            plan: of `deepgen.nn.masked.plan`, its arrays NumPy's or traced.

        Returns:
            As `__call__`.
        """
        x = jnp.asarray(x)
        arguments.last_axes("MaskedMLP", x.shape, self.event_shape)
        batch = x.shape[: x.ndim - len(self.event_shape)]
        masked.check_context(self.sizes, context, batch)
        flat = x.reshape(-1, self.sizes.num_entries).T
        given = None if context is None else context.reshape(-1, self.sizes.context_size).T
        return self._leading(flat, given, plan).T.reshape(*batch, *self.sizes.out_shape)

    def leading(self, x: Num[Any, "entries n"], context: Float[Any, "size n"] | None = None) -> Float[Array, "out n"]:
        """The outputs of `__call__` with the rows last, as all layers have them: (num_params * places, n).

        Args:
            x: (D, n).
            context: (context_size, n), or None.

        Returns:
            (num_params * places, n).

        Raises:
            ValueError: another shape than the network was built for.
        """
        arguments.last_axis("MaskedMLP", x.T.shape, self.sizes.num_entries)
        masked.check_context(self.sizes, None if context is None else context.T, x.shape[1:])
        return self._leading(x, context, masked.plan(self.sizes, seed=self.sizes.seed))

    def _leading(self, x: Array, context: Any, plan: masked.Plan) -> Array:
        units = masked.tiled(self.sizes, plan.degrees)
        act = activation_function(self.activation)
        h = inputs = self._features(x.T).T
        for i, layer in enumerate(self.layers):
            h = _apply(layer, h, degrees.mask(units[i + 1], units[i]))
            if i == 0 and self.context is not None:
                h = h + self.context.weight @ context
            h = h if i == len(self.layers) - 1 else act(h)
        return h if self.direct is None else h + _apply(self.direct, inputs, degrees.mask(units[-1], units[0]))

    def start(self, n: int, context: Array | None = None) -> Cache:
        """What `step` keeps, before anything is decided.

        Args:
            n: how many rows.
            context: (n, context_size), or None.

        Returns:
            The cache.

        Raises:
            ValueError: a context that is missing, not wanted, or of another shape.
        """
        masked.check_context(self.sizes, context, (n,))
        first: Any = self.layers[0].bias
        first = first if self.context is None else first + self.context(context)
        first = jnp.broadcast_to(first, (n, self.sizes.layers[1]))
        if len(self.layers) == 1:
            return Cache(None, (), first, None)
        hidden = tuple(jnp.zeros((n, width), first.dtype) for width in self.sizes.hidden[1:])
        if self.sizes.num_categories is None:
            return Cache(first, hidden, None, jnp.zeros((n, self.sizes.num_entries), first.dtype))
        last: Any = self.layers[-1].bias
        return Cache(first, hidden, jnp.broadcast_to(last, (n, self.sizes.layers[-1])), None)

    def step(self, cache: Cache, t: Any, previous: Array) -> tuple[Array, Cache]:
        """The outputs of one step, touching only what the step before has changed.

        The entry just decided is added to the first layer before its activation; the hidden units of degree t, which
        wait for nothing any more, are finished (of the first layer all of a degree up to t are, which is cheaper than
        to pick those); the outputs of step t are computed from them and from what is decided. Only of categories, whose
        codes are long, the direct outputs of all steps are summed up as they are decided.

        Args:
            cache: of `start`, or of the step before.
            t: the number of the step, from 0; it may be traced.
            previous: (n, E) what the step before decided; of no meaning at t = 0.

        Returns:
            (n, num_params, E), or (n, num_params, 1) where channels are coupled, and the cache for the next step.
        """
        return self.advance(masked.plan(self.sizes, seed=self.sizes.seed), cache, t, previous)

    def advance(self, plan: masked.Plan, cache: Cache, t: Any, previous: Array) -> tuple[Array, Cache]:
        """A `step` under another plan than the network's own.

        Args:
            plan: of `deepgen.nn.masked.plan`, its arrays NumPy's or traced.
            cache: as in `step`.
            t: as in `step`.
            previous: as in `step`.

        Returns:
            As `step`.
        """
        entries = jnp.asarray(plan.order)[jnp.maximum(t - 1, 0)]
        places = self._places(plan, t)
        direct: Any = cache.outputs
        if cache.before is None:
            direct = direct + self._column(self.layers[0].weight, entries, previous, t)
            return direct[:, places].reshape(len(direct), self.num_params, -1), Cache(None, (), direct, None)
        act, degree = activation_function(self.activation), jnp.asarray(plan.degrees.hidden[0])
        # what is complete stays as it is
        added = jnp.where(degree >= t, self._column(self.layers[0].weight, entries, previous, t), 0.0)
        first = cache.before + added
        h = jnp.where(degree <= t, act(first), 0.0)
        hidden: list[Array] = []
        for layer, table, old in zip(self.layers[1:-1], plan.completed[1:], cache.hidden, strict=True):
            units = jnp.asarray(table)[t]
            bias: Any = layer.bias
            complete = h @ layer.weight.at[units].get(mode="clip").T + bias.at[units].get(mode="clip")
            h = old.at[:, units].set(act(complete), mode="drop")
            hidden.append(h)
        found = h @ _rows(self.layers[-1].weight, places).T
        decided = cache.decided
        if direct is None:
            decided = self._noted(decided, entries, previous, t)
            last: Any = self.layers[-1].bias
            found = found + _rows(last, places)
            if self.direct is not None:
                found = found + decided @ _rows(self.direct.weight, places).T
        else:
            if self.direct is not None:
                direct = direct + self._column(self.direct.weight, entries, previous, t)
            found = found + direct[:, places]
        return found.reshape(len(found), self.num_params, -1), Cache(first, tuple(hidden), direct, decided)

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return masked.spec(self.sizes, self.activation, self.direct is not None)

    def _features(self, x: Array) -> Array:
        """(..., num_features * D) what the first layer sees of (..., D) entries."""
        dtype = self.layers[0].weight.dtype
        if self.sizes.num_categories is not None:
            codes = x[..., None, :] == jnp.arange(self.sizes.num_categories)[:, None]
            return codes.astype(dtype).reshape(*x.shape[:-1], -1)
        x = x.astype(dtype)
        if self.sizes.input_range is None:
            return x
        low, high = self.sizes.input_range
        return (x - low) * (2.0 / (high - low)) - 1.0

    def _column(self, weight: Array, entries: Array, previous: Array, t: Any) -> Array:
        """(n, out) what the entries just decided add to a layer; nothing at t = 0."""
        if self.sizes.num_categories is None:
            seen = jnp.where(t > 0, self._features(previous), 0.0)
            # rows of the transpose, which is made once before a loop, lie together
            return seen @ _rows(weight.T, entries)
        columns = previous.astype(jnp.int32) * self.sizes.num_entries + entries
        added = weight.T.at[columns].get(mode="clip").sum(-2)
        return jnp.where(t > 0, added, 0.0)

    def _noted(self, decided: Any, entries: Array, previous: Array, t: Any) -> Array:
        """(n, D) what is decided, with the entries of the step before; as it was at t = 0."""
        seen = jnp.where(t > 0, self._features(previous), 0.0)
        if len(entries) == 1:
            return lax.dynamic_update_slice_in_dim(decided, seen, entries[0], axis=1)
        return decided.at[:, entries].set(seen)

    def _places(self, plan: masked.Plan, t: Any) -> Array:
        """(num_params * E,) where the outputs of a step are among all."""
        here = jnp.asarray(plan.places)[t]
        return (jnp.arange(self.num_params)[:, None] * self.sizes.num_places + here).reshape(-1)


def _rows(array: Array, index: Array) -> Array:
    """``array[index]``; one row as a slice, which is faster than what gathers several."""
    return lax.dynamic_slice_in_dim(array, index[0], 1) if len(index) == 1 else array[index]


def _apply(layer: Linear, x: Array, mask: Any) -> Array:
    y = jnp.where(mask, layer.weight, 0.0) @ x
    return y if layer.bias is None else y + layer.bias[:, None]
