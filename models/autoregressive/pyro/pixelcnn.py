"""The gated PixelCNN in Pyro: all conditionals in one pass, or pixel by pixel with cached rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from deepgen.models.autoregressive import channels as colour
from deepgen.models.autoregressive import inputs, orders, receptive
from deepgen.models.autoregressive.pyro.stacks import GatedBlock, add_mask, pointwise
from deepgen.nn import arguments
from deepgen.nn.torch_layers import Activation, Linear, activation_function


class PixelCNN(torch.nn.Module):
    r"""A gated PixelCNN: the outputs of a pixel depend on the pixels above and to the left.

    Two stacks of gated convolutions, one over the rows above and one along the row, so that within its receptive field
    (`receptive_field`) no earlier pixel goes unseen. The channels of a pixel are decided one after the other: features
    are shared out among them, and masks let each see only the earlier ones (mask A in the first layer, mask B behind),
    or together, where the law couples them itself.

    van den Oord, Kalchbrenner & Kavukcuoglu 2016, Pixel Recurrent Neural Networks; van den Oord et al. 2016,
    Conditional Image Generation with PixelCNN Decoders.

    Args:
        event_shape: (channels, height, width).
        num_params: how many numbers the law takes for each entry, or for each pixel where ``coupled``.
        channels: of each stack.
        num_layers: gated layers, the first counted.
        kernel_size: of the layers after the first, odd.
        first_kernel_size: of the first, odd.
        num_categories: V, where entries are integers 0 … V - 1 and enter as one-hot codes; None for numbers.
        input_range: the (low, high) that enter as -1 and 1; None for numbers as they are.
        coupled: whether the channels of a pixel are decided together.
        context_size: the length of a context, 0 for none.
        place_size: how many learned features a place of the image has, which every layer sees beside the context; 0
            where all places are alike, but for how near the edges are. For images that stand where they stand.
        activation: between the last linear maps.

    Raises:
        ValueError: an event that is no image, or sizes out of their range.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        num_params: int = 1,
        *,
        channels: int = 32,
        num_layers: int = 6,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        num_categories: int | None = None,
        input_range: Sequence[float] | None = None,
        coupled: bool = False,
        context_size: int = 0,
        place_size: int = 0,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.event_shape: tuple[int, ...] = arguments.image_shape("event_shape", event_shape)
        self.num_params = arguments.whole("num_params", num_params)
        self.num_categories, self.coupled = num_categories, bool(coupled)
        self.input_range = inputs.bounds(input_range)
        self.context_size = arguments.whole("context_size", context_size, least=0)
        self.place_size = arguments.whole("place_size", place_size, least=0)
        arguments.activation(activation)
        self.activation = activation
        self.channels = arguments.whole("channels", channels)
        self.kernels = receptive.odd(first_kernel_size, kernel_size, arguments.whole("num_layers", num_layers))
        colours = 1 if self.coupled else self.event_shape[0]
        colour.check_width(self.channels, colours)
        entering = self.event_shape[0] * inputs.num_features(num_categories, self.input_range)
        self.blocks = torch.nn.ModuleList(
            GatedBlock(
                self.channels if i else entering,
                self.channels,
                size,
                num_colours=colours,
                first=i == 0,
                context_size=self.context_size + self.place_size,
            )
            for i, size in enumerate(self.kernels)
        )
        self.hidden = Linear(self.channels, self.channels)
        self.output = Linear(self.channels, self.num_params * colours)
        places = inputs.PLACE_SCALE * torch.randn(self.place_size, *self.event_shape[1:])
        self.places = torch.nn.Parameter(places) if self.place_size else None
        groups = colour.colours(self.channels, colours)
        add_mask(self, "seen_hidden", colour.mask(groups, groups, strict=False))
        ends = colour.colours(self.num_params * colours, colours)
        add_mask(self, "seen_output", colour.mask(ends, groups, strict=False))

    @property
    def element_shape(self) -> tuple[int, ...]:
        """``()`` for one channel of a pixel, (channels,) for a pixel whose channels are coupled."""
        return self.event_shape[:1] if self.coupled else ()

    @property
    def order(self) -> np.ndarray:
        """(steps, entries of a step): the flat indices of the entries that each step decides, row by row."""
        channels, height, width = self.event_shape
        return orders.raster((channels, height, width), self.coupled)

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that the context of one row may have; none where there is no context."""
        return inputs.context_shapes(self.context_size, self.event_shape[1:])

    @property
    def receptive_field(self) -> int:
        """How many rows up and columns to either side a pixel sees."""
        return receptive.of_kernels(self.kernels)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """The outputs of all entries, in one pass.

        Args:
            x: (n, channels, height, width).
            context: (n, context_size), or (n, context_size, height, width) where it differs from pixel to pixel.

        Returns:
            (n, num_params, channels, height, width), or (n, num_params, height, width) where channels are coupled.

        Raises:
            ValueError: data or a context of another shape.
        """
        inputs.check_batch("PixelCNN", tuple(x.shape), self.event_shape)
        shown = self._shown(len(x), context)
        found = inputs.features(x, self.num_categories, self.input_range, self.output.weight.dtype)
        v = h = found.reshape(len(x), -1, *self.event_shape[1:])
        for block in self.blocks:
            v, h = block(v, h, shown)
        shape = self.event_shape[1:] if self.coupled else self.event_shape
        return self._head(h).reshape(len(x), self.num_params, *shape)

    def start(self, n: int, context: torch.Tensor | None = None) -> Any:
        """The cache before the first step.

        Args:
            n: how many rows are drawn.
            context: as in a call.

        Returns:
            Arrays whose first axis is the row's: the last rows of every layer's input, and the present one.

        Raises:
            ValueError: a context of another shape.
        """
        shown = self._shown(n, context)
        _, height, width = self.event_shape
        like = self.output.weight
        cache: dict[str, Any] = {"above": [], "row": [], "link": []}
        for block, kernel in zip(self.blocks, self.kernels, strict=True):
            size, half = int(block.get_parameter("horizontal.weight").shape[1]), kernel // 2
            cache["above"].append(like.new_zeros(n, size, half, width))
            cache["row"].append(like.new_zeros(n, size, half + width))
            cache["link"].append(like.new_zeros(n, 2 * self.channels, width))
        if shown is not None:
            cache["context"] = shown.expand(n, shown.shape[1], height, width)
        return cache

    @torch.no_grad()
    def step(self, cache: Any, t: int, previous: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The outputs of what step t decides; at the first pixel of a row the vertical stack computes that row.

        There are no gradients here, and the cache is written to: do not go on from it a second time.

        Args:
            cache: of `start` or of the step before.
            t: the step.
            previous: (n, entries of a step), what the step before decided; at t = 0 it is ignored.

        Returns:
            (n, num_params, entries of a step), where coupled (n, num_params, 1), and the cache of the next step.
        """
        channels, _, width = self.event_shape
        turns = 1 if self.coupled else channels
        pixel, turn = t // turns, t % turns
        column, rows = pixel % width, cache["row"]
        if t:
            self._write(rows[0], t - 1, previous)
        if column == 0 and turn == 0:
            self._row(cache, pixel // width)
        h: torch.Tensor = rows[0]
        for i, block in enumerate(self.blocks):
            taps = self.kernels[i] // 2 + 1
            if i:
                rows[i][:, :, column + taps - 1] = h
            # a module's methods besides forward are no part of what torch's types know
            layer: Any = block
            h = layer.pixel(rows[i][:, :, column : column + taps], cache["link"][i][:, :, column])
        outputs = self._head(h[:, :, None, None]).reshape(len(h), self.num_params, turns)
        return outputs[:, :, turn : turn + 1], cache

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "PixelCNN",
            {
                "event_shape": self.event_shape,
                "num_params": self.num_params,
                "channels": self.channels,
                "num_layers": len(self.kernels),
                "kernel_size": self.kernels[-1],
                "first_kernel_size": self.kernels[0],
                "num_categories": self.num_categories,
                "input_range": self.input_range,
                "coupled": self.coupled,
                "context_size": self.context_size,
                "place_size": self.place_size,
                "activation": self.activation,
            },
        )

    def _row(self, cache: Any, row: int) -> None:
        """The vertical stack's caches moved on to a new row."""
        shown = cache["context"][:, :, row] if "context" in cache else None
        v = cache["row"][0][:, :, self.kernels[0] // 2 :]
        for i, block in enumerate(self.blocks):
            layer: Any = block
            rows = torch.cat([cache["above"][i], v[:, :, None]], dim=2)
            # of the input itself the present row is not yet known, so what is in the cache is the row above
            v, cache["link"][i] = layer.row(rows[:, :, 1:] if layer.first else rows, shown)
            cache["above"][i] = rows[:, :, 1:]

    def _write(self, row: torch.Tensor, t: int, decided: torch.Tensor) -> None:
        """Write what step t decided into the row of the input."""
        channels, _, width = self.event_shape
        turns = 1 if self.coupled else channels
        new = inputs.features(decided, self.num_categories, self.input_range, row.dtype)
        pixel = row[:, :, t // turns % width + self.kernels[0] // 2].view(len(row), -1, channels)
        pixel[:, :, slice(None) if self.coupled else slice(t % turns, t % turns + 1)] = new

    def _shown(self, n: int, context: torch.Tensor | None) -> torch.Tensor | None:
        """What all layers see: (n or 1, context_size + place_size, height or 1, width or 1)."""
        shape = None if context is None else tuple(context.shape)
        inputs.check_context("PixelCNN", shape, self.context_size, n, self.event_shape[1:])
        places = None if self.places is None else self.places[None]
        if context is None:
            return places
        context = context.to(self.output.weight)
        context = context[:, :, None, None] if context.ndim == 2 else context
        if places is None:
            return context
        whole = self.event_shape[1:]
        return torch.cat([part.expand(n, part.shape[1], *whole) for part in (context, places)], dim=1)

    def _head(self, h: torch.Tensor) -> torch.Tensor:
        act = activation_function(self.activation)
        h = pointwise(act(h), self.hidden.weight * self.get_buffer("seen_hidden"), self.hidden.bias)
        return pointwise(act(h), self.output.weight * self.get_buffer("seen_output"), self.output.bias)
