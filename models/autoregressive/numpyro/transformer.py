"""The causal transformer in NumPyro: all conditionals in one pass, or step by step with cached keys and values."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.models.autoregressive import attention, inputs, orders
from deepgen.nn import arguments
from deepgen.nn.equinox_layers import Activation, LayerNorm, Linear, activation_function


class AttentionBlock(eqx.Module):
    """Self-attention and a perceptron, each normalised before and added to its input.

    Args:
        width: of the residual stream.
        num_heads: of the attention, which divide the width.
        residual_scale: the standard deviation of the initial weights that add to the stream.
        activation: of the perceptron, whose hidden layer is four times as wide.
        dropout: the share of units that are dropped where a call is given noise.
        key: for the initial parameters.
    """

    norm_1: LayerNorm
    project: Linear
    attend: Linear
    norm_2: LayerNorm
    expand: Linear
    contract: Linear
    num_heads: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        residual_scale: float,
        activation: Activation,
        dropout: float = 0.0,
        key: jax.Array,
    ) -> None:
        keys = jax.random.split(key, 4)
        self.norm_1, self.norm_2 = LayerNorm(width), LayerNorm(width)
        self.project = _linear(width, 3 * width, attention.SCALE, keys[0])
        self.attend = _linear(width, width, residual_scale, keys[1])
        self.expand = _linear(width, 4 * width, attention.SCALE, keys[2])
        self.contract = _linear(4 * width, width, residual_scale, keys[3])
        self.num_heads, self.activation, self.dropout = num_heads, activation, dropout

    def __call__(self, h: jax.Array, noise: Any = None) -> jax.Array:
        """The next layer's input, of whole sequences.

        Args:
            h: (n, length, width).
            noise: uniforms, see `attention.noise_shapes`; None drops nothing.

        Returns:
            (n, length, width).
        """
        queries, keys, values = self._heads(h)
        weights, *sums = noise or (None, None, None)
        attended = self._attended(queries, keys, values, attention.causal(h.shape[1]), weights)
        return self._after(h, attended, *sums)

    def step(
        self, h: jax.Array, keys: jax.Array, values: jax.Array, t: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same of one place.

        Args:
            h: (n, 1, width).
            keys: (n, num_heads, length, width of a head), those of the places before.
            values: likewise.
            t: the place.

        Returns:
            (n, 1, width), and keys and values with those of the place.
        """
        queries, key, value = self._heads(h)
        keys = lax.dynamic_update_slice_in_dim(keys, key, t, axis=2)
        values = lax.dynamic_update_slice_in_dim(values, value, t, axis=2)
        seen = jnp.arange(keys.shape[2]) <= t
        return self._after(h, self._attended(queries, keys, values, seen)), keys, values

    def _heads(self, h: jax.Array) -> Any:
        """Queries, keys and values, (n, num_heads, length, width of a head) each."""
        found = self.project(self.norm_1(h)).reshape(*h.shape[:2], 3, self.num_heads, -1)
        return jnp.moveaxis(found, (2, 3), (0, 2))

    def _attended(
        self, queries: jax.Array, keys: jax.Array, values: jax.Array, seen: Any, noise: Any = None
    ) -> jax.Array:
        scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.swapaxes(attention.drop(weights, noise, self.dropout) @ values, 1, 2)

    def _after(self, h: jax.Array, attended: jax.Array, first: Any = None, second: Any = None) -> jax.Array:
        h = h + attention.drop(self.attend(attended.reshape(h.shape)), first, self.dropout)
        act = activation_function(self.activation)
        return h + attention.drop(self.contract(act(self.expand(self.norm_2(h)))), second, self.dropout)


class CausalTransformer(eqx.Module):
    r"""A transformer whose outputs for a step depend on the steps before, all of them.

    Pre-normalised blocks of causal self-attention and perceptron over embeddings of what was decided and learned
    positions (the layout of GPT-2); at the first step a learned vector stands for what was before. A frame of several
    entries, such as the keys of a piano, is decided at once, given the frames before. Drawing keeps keys and values: a
    step costs the same wherever it is, but for the attention, which goes over the whole length.

    Where a call is given noise, embeddings, attention weights and what each branch adds to the stream lose units at
    random; `fit` gives it where the rate is not zero, by `RandomDropout`, and nothing else does.

    Vaswani et al. 2017, Attention Is All You Need; Radford et al. 2019, Language Models are Unsupervised Multitask
    Learners; Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.

    Args:
        event_shape: (length,), or (length, width of a frame).
        num_params: how many numbers the law takes for each entry.
        width: of the residual stream.
        num_heads: of each layer's attention; they divide the width.
        num_layers: how many blocks.
        num_categories: V, where entries are integers 0 … V - 1 (tokens); None for numbers.
        input_range: the (low, high) that enter as -1 and 1; None for numbers as they are.
        tied: whether the outputs are the embeddings' inner products, so that both share their weights.
        context_size: the length of a context, 0 for none.
        dropout: the share of units that are dropped while the network is fitted, in [0, 1).
        activation: of the perceptrons.
        key: for the initial parameters.

    Raises:
        ValueError: sizes out of their range, heads that do not divide the width, a rate outside [0, 1), or weights that
            cannot be tied.
    """

    embed: Linear
    first: jax.Array
    positions: jax.Array
    context: Linear | None
    blocks: tuple[AttentionBlock, ...]
    norm: LayerNorm
    output: Linear | None
    event_shape: tuple[int, ...] = eqx.field(static=True)
    num_params: int = eqx.field(static=True)
    num_categories: int | None = eqx.field(static=True)
    input_range: tuple[float, float] | None = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        event_shape: Sequence[int],
        num_params: int = 1,
        *,
        width: int = 128,
        num_heads: int = 4,
        num_layers: int = 4,
        num_categories: int | None = None,
        input_range: Sequence[float] | None = None,
        tied: bool = False,
        context_size: int = 0,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        key: jax.Array,
    ) -> None:
        self.event_shape = inputs.sequence_shape(tuple(event_shape))
        self.num_params = arguments.whole("num_params", num_params)
        self.num_categories, self.input_range = num_categories, inputs.bounds(input_range)
        self.dropout = attention.check_dropout(dropout)
        tied = attention.check_tied(tied, self.num_params, num_categories, self.event_shape)
        context_size = arguments.whole("context_size", context_size, least=0)
        arguments.activation(activation)
        attention.check_heads(width, num_heads)
        num_layers = arguments.whole("num_layers", num_layers)
        entries = int(np.prod(self.event_shape[1:]))
        keys = jax.random.split(key, num_layers + 5)
        entering = entries * inputs.num_features(num_categories, self.input_range)
        self.embed = _linear(entering, width, attention.SCALE, keys[0], bias=False)
        self.first = attention.SCALE * jax.random.normal(keys[1], (width,))
        self.positions = attention.SCALE * jax.random.normal(keys[2], (self.event_shape[0], width))
        self.context = _linear(context_size, width, attention.SCALE, keys[3], bias=False) if context_size else None
        scale = attention.residual_scale(num_layers)
        self.blocks = tuple(
            AttentionBlock(
                width, num_heads, residual_scale=scale, activation=activation, dropout=self.dropout, key=keys[5 + i]
            )
            for i in range(num_layers)
        )
        self.norm = LayerNorm(width)
        self.output = None if tied else _linear(width, self.num_params * entries, attention.SCALE, keys[4])

    @property
    def element_shape(self) -> tuple[int, ...]:
        """``()`` for one entry a step, (width of a frame,) for a frame."""
        return self.event_shape[1:]

    @property
    def order(self) -> np.ndarray:
        """(steps, entries of a step): the flat indices of the entries that each step decides, in time."""
        return orders.sequence(self.event_shape)

    @property
    def context_size(self) -> int:
        """The length of a context, 0 for none."""
        return 0 if self.context is None else self.context.weight.shape[1]

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that the context of one row may have; none where there is no context."""
        return inputs.context_shapes(self.context_size, self.event_shape[:1])

    def __call__(self, x: Any, context: Any = None, *, noise: Any = None) -> jax.Array:
        """The outputs of all entries, in one pass.

        Args:
            x: (n, *event_shape).
            context: (n, context_size), or (n, context_size, length) where it differs from step to step.
            noise: of `noise`, which says what units are dropped; None drops nothing.

        Returns:
            (n, num_params, *event_shape).

        Raises:
            ValueError: data or a context of another shape.
        """
        x = jnp.asarray(x)
        inputs.check_batch("CausalTransformer", x.shape, self.event_shape)
        shown = self._shown(len(x), context)
        first = jnp.broadcast_to(self.first, (len(x), 1, len(self.first)))
        h = jnp.concatenate([first, self._embedded(x)[:, :-1]], axis=1) + self.positions + shown
        noise = [[None], *[None] * len(self.blocks)] if noise is None else noise
        (stream,), *layers = noise
        h = attention.drop(h, stream, self.dropout)
        for block, own in zip(self.blocks, layers, strict=True):
            h = block(h, own)
        return jnp.moveaxis(self._head(h).reshape(*x.shape[:2], self.num_params, *self.element_shape), 2, 1)

    def noise(self, rng_key: jax.Array, n: int) -> list[list[jax.Array]]:
        """Which units a call is to drop, drawn anew.

        Args:
            rng_key: a random key.
            n: how many rows the call is of.

        Returns:
            Uniforms, as `attention.noise_shapes` has them.
        """
        length, width = self.positions.shape
        shapes = attention.noise_shapes(n, length, width, self.blocks[0].num_heads, len(self.blocks))
        sizes = [math.prod(shape) for own in shapes for shape in own]
        # one flat draw for all: in a loop XLA on CPU takes about a second to compile each draw of several axes
        parts = iter(jnp.split(jax.random.uniform(rng_key, (sum(sizes),)), np.cumsum(sizes)[:-1]))
        return [[next(parts).reshape(shape) for shape in own] for own in shapes]

    def start(self, n: int, context: Any = None) -> Any:
        """The cache before the first step.

        Args:
            n: how many rows are drawn.
            context: as in a call.

        Returns:
            Arrays whose first axis is the row's: keys and values of each layer, and what the context adds.

        Raises:
            ValueError: a context of another shape.
        """
        length, width = self.positions.shape
        shown = jnp.broadcast_to(self._shown(n, context), (n, length, width))
        heads = self.blocks[0].num_heads
        empty = [jnp.zeros((n, heads, length, width // heads), self.positions.dtype) for _ in self.blocks]
        return {"keys": empty, "values": empty, "added": shown + self.positions}

    def step(self, cache: Any, t: Any, previous: jax.Array) -> tuple[jax.Array, Any]:
        """The outputs of what step t decides.

        Args:
            cache: of `start` or of the step before.
            t: the step.
            previous: (n, entries of a step), what the step before decided; at t = 0 it is ignored.

        Returns:
            (n, num_params, entries of a step), and the cache of the next step.
        """
        t = jnp.asarray(t)
        before = self._embedded(previous.reshape(len(previous), 1, *self.element_shape))
        h = jnp.where(t > 0, before, self.first) + lax.dynamic_slice_in_dim(cache["added"], t, 1, axis=1)
        all_keys, all_values = [], []
        for block, keys, values in zip(self.blocks, cache["keys"], cache["values"], strict=True):
            h, keys, values = block.step(h, keys, values, t)
            all_keys.append(keys)
            all_values.append(values)
        outputs = self._head(h).reshape(len(previous), self.num_params, -1)
        return outputs, {**cache, "keys": all_keys, "values": all_values}

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "CausalTransformer",
            {
                "event_shape": self.event_shape,
                "num_params": self.num_params,
                "width": self.positions.shape[1],
                "num_heads": self.blocks[0].num_heads,
                "num_layers": len(self.blocks),
                "num_categories": self.num_categories,
                "input_range": self.input_range,
                "tied": self.output is None,
                "context_size": self.context_size,
                "dropout": self.dropout,
                "activation": self.blocks[0].activation,
            },
        )

    def _embedded(self, x: jax.Array) -> jax.Array:
        """(n, length, width) the embeddings of (n, length, *element_shape)."""
        if self.num_categories is not None and x.ndim == 2:
            return jnp.take(self.embed.weight.T, x.astype(jnp.int32), axis=0, mode="clip")
        return self.embed(
            inputs.frames(inputs.features(x, self.num_categories, self.input_range, self.positions.dtype))
        )

    def _shown(self, n: int, context: Any) -> jax.Array:
        """What the context adds to the embeddings, (n or 1, length or 1, width)."""
        shape = None if context is None else jnp.shape(context)
        inputs.check_context("CausalTransformer", shape, self.context_size, n, self.event_shape[:1])
        if self.context is None or context is None:
            return jnp.zeros((1, 1, self.positions.shape[1]), self.positions.dtype)
        context = jnp.asarray(context, self.positions.dtype)
        return self.context(context[:, None] if context.ndim == 2 else jnp.moveaxis(context, 1, -1))

    def _head(self, h: jax.Array) -> jax.Array:
        h = self.norm(h)
        return h @ self.embed.weight if self.output is None else self.output(h)


def _linear(in_size: int, out_size: int, scale: float, key: jax.Array, *, bias: bool = True) -> Linear:
    """A linear map whose weights are drawn from N(0, scale^2), its bias zero."""
    layer = Linear(in_size, out_size, bias=bias, key=key)
    layer = eqx.tree_at(lambda layer: layer.weight, layer, scale * jax.random.normal(key, (out_size, in_size)))
    return eqx.tree_at(lambda layer: layer.bias, layer, jnp.zeros(out_size)) if bias else layer
