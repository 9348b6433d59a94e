"""WaveNet in NumPyro: all conditionals in one pass, or step by step with a queue for each layer."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.models.autoregressive import inputs, orders, receptive
from deepgen.models.autoregressive.gates import gated
from deepgen.nn import arguments
from deepgen.nn.equinox_convolution import Conv, Conv1d
from deepgen.nn.equinox_layers import Activation, Linear, activation_function


class DilatedBlock(eqx.Module):
    """A gated dilated convolution with what it adds to the next layer and to the outputs.

    Args:
        channels: of its input and its output.
        skip_channels: of what it adds to the outputs.
        kernel_size: at least 2.
        dilation: the steps from one tap to the next.
        last: whether there is no next layer.
        context_size: the length of the context, 0 for none.
        key: for the initial parameters.
    """

    convolution: Conv
    residual: Linear | None
    skip: Linear
    context: Linear | None

    def __init__(
        self,
        channels: int,
        skip_channels: int,
        kernel_size: int,
        dilation: int,
        *,
        last: bool,
        context_size: int,
        key: jax.Array,
    ) -> None:
        keys = jax.random.split(key, 4)
        self.convolution = Conv1d(channels, 2 * channels, kernel_size, padding="causal", dilation=dilation, key=keys[0])
        self.residual = None if last else Linear(channels, channels, key=keys[1])
        self.skip = Linear(channels, skip_channels, key=keys[2])
        self.context = Linear(context_size, 2 * channels, bias=False, key=keys[3]) if context_size else None

    def __call__(self, h: jax.Array, context: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The next layer's input and what is added to the outputs, of whole sequences, channels last.

        Args:
            h: (n, length, channels).
            context: (n, length or 1, context_size), or None.

        Returns:
            (n, length, channels) and (n, length, skip_channels).
        """
        return self._after(self.convolution.channels_last(h), h, context)

    def step(
        self, h: jax.Array, queue: jax.Array, t: jax.Array, context: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same of one step.

        Args:
            h: (n, channels).
            queue: (n, reach, channels), the inputs of the last steps, that of step s at s modulo the reach.
            t: the step.
            context: (n, context_size), or None.

        Returns:
            (n, channels), (n, skip_channels), and the queue with h in it.
        """
        (dilation,), reach = self.convolution.dilation, queue.shape[1]
        taps = [
            lax.dynamic_index_in_dim(queue, (t - back) % reach, axis=1, keepdims=False)
            for back in range(reach, 0, -dilation)
        ]
        kernel = jnp.moveaxis(self.convolution.weight, (2, 1, 0), (0, 1, 2))
        seen = jnp.concatenate([*taps, h], axis=-1)
        bias: Any = self.convolution.bias
        a = seen @ kernel.reshape(seen.shape[-1], -1) + bias
        return *self._after(a, h, context), lax.dynamic_update_slice_in_dim(queue, h[:, None], t % reach, axis=1)

    def _after(self, a: jax.Array, h: jax.Array, context: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        z = gated(a if self.context is None else a + self.context(context), -1)
        return h if self.residual is None else h + self.residual(z), self.skip(z)


class WaveNet(eqx.Module):
    r"""A WaveNet: the outputs of a step depend on the steps before, as far back as its dilations reach.

    .. math:: z_l = \tanh(W_l * h_l + V_l c) \odot \sigma(W'_l * h_l + V'_l c), \quad
        h_{l+1} = h_l + R_l z_l, \quad \mathrm{outputs} = f\Big(\sum_l S_l z_l\Big)

    A frame of several entries is decided at once, given the frames before.

    van den Oord et al. 2016, WaveNet: A Generative Model for Raw Audio; the queues of its steps: Le Paine et al. 2016,
    Fast Wavenet Generation Algorithm.

    Args:
        event_shape: (length,), or (length, width) for frames of several entries.
        num_params: how many numbers the law takes for each entry.
        channels: of the layers.
        skip_channels: of the sum that the outputs are computed from.
        dilations: of each layer.
        kernel_size: of all layers, at least 2.
        num_categories: V, where entries are integers 0 … V - 1 and enter as one-hot codes; None for numbers.
        input_range: the (low, high) that enter as -1 and 1; None for numbers as they are.
        context_size: the length of a context, 0 for none.
        activation: between the last linear maps.
        key: for the initial parameters.

    Raises:
        ValueError: sizes out of their range, or an unknown activation.
    """

    embed: Linear
    blocks: tuple[DilatedBlock, ...]
    hidden: Linear
    output: Linear
    event_shape: tuple[int, ...] = eqx.field(static=True)
    num_params: int = eqx.field(static=True)
    num_categories: int | None = eqx.field(static=True)
    input_range: tuple[float, float] | None = eqx.field(static=True)
    context_size: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        event_shape: Sequence[int],
        num_params: int = 1,
        *,
        channels: int = 32,
        skip_channels: int = 64,
        dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
        kernel_size: int = 2,
        num_categories: int | None = None,
        input_range: Sequence[float] | None = None,
        context_size: int = 0,
        activation: Activation = "relu",
        key: jax.Array,
    ) -> None:
        self.event_shape = inputs.sequence_shape(tuple(event_shape))
        self.num_params = arguments.whole("num_params", num_params)
        self.num_categories, self.input_range = num_categories, inputs.bounds(input_range)
        self.context_size = arguments.whole("context_size", context_size, least=0)
        arguments.activation(activation)
        self.activation = activation
        dilations = receptive.dilations(dilations)
        kernel_size = arguments.whole("kernel_size", kernel_size, least=2)
        width = int(np.prod(self.event_shape[1:]))
        keys = jax.random.split(key, len(dilations) + 3)
        self.embed = Linear(width * inputs.num_features(num_categories, self.input_range), channels, key=keys[0])
        self.blocks = tuple(
            DilatedBlock(
                channels,
                skip_channels,
                kernel_size,
                dilation,
                last=i == len(dilations) - 1,
                context_size=self.context_size,
                key=keys[1 + i],
            )
            for i, dilation in enumerate(dilations)
        )
        self.hidden = Linear(skip_channels, skip_channels, key=keys[-2])
        self.output = Linear(skip_channels, self.num_params * width, key=keys[-1])

    @property
    def element_shape(self) -> tuple[int, ...]:
        """``()`` for one entry a step, (width,) for a frame."""
        return self.event_shape[1:]

    @property
    def order(self) -> np.ndarray:
        """(steps, entries of a step): the flat indices of the entries that each step decides, in time."""
        return orders.sequence(self.event_shape)

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that the context of one row may have; none where there is no context."""
        return inputs.context_shapes(self.context_size, self.event_shape[:1])

    @property
    def receptive_field(self) -> int:
        """How many steps back a step sees."""
        convolutions = [block.convolution for block in self.blocks]
        return receptive.of_dilations(convolutions[0].weight.shape[2], [layer.dilation[0] for layer in convolutions])

    def __call__(self, x: Any, context: Any = None) -> jax.Array:
        """The outputs of all entries, in one pass.

        Args:
            x: (n, *event_shape).
            context: (n, context_size), such as a speaker, or (n, context_size, length) where it differs from step to
                step, such as a text; for both, one behind the other, the first repeated.

        Returns:
            (n, num_params, *event_shape).

        Raises:
            ValueError: data or a context of another shape.
        """
        x = jnp.asarray(x)
        inputs.check_batch("WaveNet", x.shape, self.event_shape)
        shown = self._shown(len(x), context)
        before = jnp.pad(inputs.frames(self._features(x))[:, :-1], ((0, 0), (1, 0), (0, 0)))
        h = self.embed(before)
        total: Any = 0.0
        for block in self.blocks:
            h, skip = block(h, shown)
            total = total + skip
        outputs = self._head(total).reshape(*x.shape[:2], self.num_params, *self.element_shape)
        return jnp.moveaxis(outputs, 2, 1)

    def start(self, n: int, context: Any = None) -> Any:
        """The cache before the first step.

        Args:
            n: how many rows are drawn.
            context: as in a call.

        Returns:
            Arrays whose first axis is the row's: of each layer a queue of its last inputs.

        Raises:
            ValueError: a context of another shape.
        """
        shown = self._shown(n, context)
        queues = []
        for block in self.blocks:
            _, inner, taps = block.convolution.weight.shape
            reach = (taps - 1) * block.convolution.dilation[0]
            queues.append(jnp.zeros((n, reach, inner), block.convolution.weight.dtype))
        return {"queues": queues} | ({} if shown is None else {"context": shown})

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
        before = self._features(previous).reshape(len(previous), -1)
        h = self.embed(before * (t > 0))
        shown = None
        if "context" in cache:
            place = jnp.minimum(t, cache["context"].shape[1] - 1)
            shown = lax.dynamic_index_in_dim(cache["context"], place, axis=1, keepdims=False)
        total: Any = 0.0
        queues = []
        for block, queue in zip(self.blocks, cache["queues"], strict=True):
            h, skip, queue = block.step(h, queue, t, shown)
            total = total + skip
            queues.append(queue)
        return self._head(total).reshape(len(previous), self.num_params, -1), {**cache, "queues": queues}

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        convolutions = [block.convolution for block in self.blocks]
        return arguments.spec(
            "WaveNet",
            {
                "event_shape": self.event_shape,
                "num_params": self.num_params,
                "channels": self.embed.weight.shape[0],
                "skip_channels": self.hidden.weight.shape[0],
                "dilations": tuple(layer.dilation[0] for layer in convolutions),
                "kernel_size": convolutions[0].weight.shape[2],
                "num_categories": self.num_categories,
                "input_range": self.input_range,
                "context_size": self.context_size,
                "activation": self.activation,
            },
        )

    def _features(self, x: jax.Array) -> jax.Array:
        return inputs.features(x, self.num_categories, self.input_range, self.output.weight.dtype)

    def _shown(self, n: int, context: Any) -> jax.Array | None:
        """The context with its channels last, (n, length or 1, context_size)."""
        shape = None if context is None else jnp.shape(context)
        inputs.check_context("WaveNet", shape, self.context_size, n, self.event_shape[:1])
        if context is None:
            return None
        context = jnp.asarray(context, self.output.weight.dtype)
        return context[:, None] if context.ndim == 2 else jnp.moveaxis(context, 1, -1)

    def _head(self, h: jax.Array) -> jax.Array:
        act = activation_function(self.activation)
        return self.output(act(self.hidden(act(h))))
