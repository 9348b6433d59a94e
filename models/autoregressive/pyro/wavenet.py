"""WaveNet in Pyro: all conditionals in one pass, or step by step with a queue for each layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from deepgen.models.autoregressive import inputs, orders, receptive
from deepgen.models.autoregressive.gates import gated
from deepgen.nn import arguments
from deepgen.nn.torch_convolution import Conv1d
from deepgen.nn.torch_layers import Activation, Linear, activation_function


class DilatedBlock(torch.nn.Module):
    """A gated dilated convolution with what it adds to the next layer and to the outputs.

    Args:
        channels: of its input and its output.
        skip_channels: of what it adds to the outputs.
        kernel_size: at least 2.
        dilation: the steps from one tap to the next.
        last: whether there is no next layer.
        context_size: the length of the context, 0 for none.
    """

    def __init__(
        self,
        channels: int,
        skip_channels: int,
        kernel_size: int,
        dilation: int,
        *,
        last: bool,
        context_size: int,
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.convolution = Conv1d(channels, 2 * channels, kernel_size, padding="causal", dilation=dilation)
        self.residual = None if last else Linear(channels, channels)
        self.skip = Linear(channels, skip_channels)
        self.context = Linear(context_size, 2 * channels, bias=False) if context_size else None

    def forward(self, h: torch.Tensor, context: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The next layer's input and what is added to the outputs, of whole sequences.

        Args:
            h: (n, channels, length).
            context: (n, context_size, length or 1), or None.

        Returns:
            (n, channels, length) and (n, skip_channels, length).
        """
        a = self.convolution(h)
        z = gated(a if self.context is None else a + _pointwise(context, self.context), 1)
        return h if self.residual is None else h + _pointwise(z, self.residual), _pointwise(z, self.skip)

    def step(
        self, h: torch.Tensor, queue: torch.Tensor, t: int, context: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of one step.

        Args:
            h: (n, channels).
            queue: (n, channels, reach), the inputs of the last steps, that of step s at s modulo the reach.
            t: the step.
            context: (n, context_size), or None.

        Returns:
            (n, channels), (n, skip_channels), and the queue, into which h is written.
        """
        reach = queue.shape[2]
        taps = [queue[:, :, (t - back) % reach] for back in range(reach, 0, -self.dilation)]
        seen = torch.stack([*taps, h], dim=2).flatten(1)
        queue[:, :, t % reach] = h
        a = F.linear(seen, self.convolution.weight.flatten(1), self.convolution.bias)
        z = gated(a if self.context is None else a + self.context(context), 1)
        return h if self.residual is None else h + self.residual(z), self.skip(z), queue


class WaveNet(torch.nn.Module):
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

    Raises:
        ValueError: sizes out of their range, or an unknown activation.
    """

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
    ) -> None:
        super().__init__()
        self.event_shape = inputs.sequence_shape(tuple(event_shape))
        self.num_params = arguments.whole("num_params", num_params)
        self.num_categories, self.input_range = num_categories, inputs.bounds(input_range)
        self.context_size = arguments.whole("context_size", context_size, least=0)
        arguments.activation(activation)
        self.activation = activation
        self.dilations = receptive.dilations(dilations)
        self.kernel_size = arguments.whole("kernel_size", kernel_size, least=2)
        width = int(np.prod(self.event_shape[1:]))
        self.embed = Linear(width * inputs.num_features(num_categories, self.input_range), channels)
        self.blocks = torch.nn.ModuleList(
            DilatedBlock(
                channels,
                skip_channels,
                self.kernel_size,
                dilation,
                last=i == len(self.dilations) - 1,
                context_size=self.context_size,
            )
            for i, dilation in enumerate(self.dilations)
        )
        self.hidden = Linear(skip_channels, skip_channels)
        self.output = Linear(skip_channels, self.num_params * width)

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
        return receptive.of_dilations(self.kernel_size, self.dilations)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
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
        inputs.check_batch("WaveNet", tuple(x.shape), self.event_shape)
        shown = self._shown(len(x), context)
        before = F.pad(inputs.frames(self._features(x))[:, :-1], (0, 0, 1, 0))
        h = self.embed(before).transpose(1, 2)
        total: Any = 0.0
        for block in self.blocks:
            h, skip = block(h, shown)
            total = total + skip
        outputs = self._head(total.transpose(1, 2)).reshape(*x.shape[:2], self.num_params, *self.element_shape)
        return outputs.movedim(2, 1)

    def start(self, n: int, context: torch.Tensor | None = None) -> Any:
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
        like, channels = self.output.weight, self.embed.out_features
        queues = [like.new_zeros(n, channels, (self.kernel_size - 1) * dilation) for dilation in self.dilations]
        return {"queues": queues} | ({} if shown is None else {"context": shown})

    @torch.no_grad()
    def step(self, cache: Any, t: int, previous: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The outputs of what step t decides.

        There are no gradients here, and the cache is written to: do not go on from it a second time.

        Args:
            cache: of `start` or of the step before.
            t: the step.
            previous: (n, entries of a step), what the step before decided; at t = 0 it is ignored.

        Returns:
            (n, num_params, entries of a step), and the cache of the next step.
        """
        before = self._features(previous).flatten(1)
        h = self.embed(before if t else torch.zeros_like(before))
        shown = None
        if "context" in cache:
            shown = cache["context"][:, :, min(t, cache["context"].shape[2] - 1)]
        total: Any = 0.0
        for block, queue in zip(self.blocks, cache["queues"], strict=True):
            # a module's methods besides forward are no part of what torch's types know
            layer: Any = block
            h, skip, _ = layer.step(h, queue, t, shown)
            total = total + skip
        return self._head(total).reshape(len(previous), self.num_params, -1), cache

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "WaveNet",
            {
                "event_shape": self.event_shape,
                "num_params": self.num_params,
                "channels": self.embed.out_features,
                "skip_channels": self.hidden.out_features,
                "dilations": self.dilations,
                "kernel_size": self.kernel_size,
                "num_categories": self.num_categories,
                "input_range": self.input_range,
                "context_size": self.context_size,
                "activation": self.activation,
            },
        )

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        return inputs.features(x, self.num_categories, self.input_range, self.output.weight.dtype)

    def _shown(self, n: int, context: torch.Tensor | None) -> torch.Tensor | None:
        """The context as (n, context_size, length or 1)."""
        shape = None if context is None else tuple(context.shape)
        inputs.check_context("WaveNet", shape, self.context_size, n, self.event_shape[:1])
        if context is None:
            return None
        context = context.to(self.output.weight)
        return context[:, :, None] if context.ndim == 2 else context

    def _head(self, h: torch.Tensor) -> torch.Tensor:
        act = activation_function(self.activation)
        return self.output(act(self.hidden(act(h))))


def _pointwise(x: Any, layer: torch.nn.Linear) -> torch.Tensor:
    """A linear map of the channels of (n, channels, length)."""
    return F.conv1d(x, layer.weight[:, :, None], layer.bias)
