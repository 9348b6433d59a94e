"""The vertical and the horizontal stack of a gated PixelCNN in Pyro, one layer of both."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from deepgen.models.autoregressive import channels as colour
from deepgen.models.autoregressive.gates import GATE_GAIN, LINEAR_GAIN, gated
from deepgen.nn.torch_convolution import Conv2d
from deepgen.nn.torch_layers import Linear, scaled

__all__ = ["GatedBlock"]


def add_mask(module: torch.nn.Module, name: str, mask: np.ndarray) -> None:
    """Give a module a mask that moves with it and is no part of its parameters.

    Args:
        module: the module.
        name: of the mask.
        mask: booleans.
    """
    module.register_buffer(name, torch.as_tensor(mask, dtype=torch.get_default_dtype()), persistent=False)


def pointwise(x: Any, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A linear map of the channels of an image.

    Args:
        x: (n, channels, height, width).
        weight: (out, channels).
        bias: (out,), or None.

    Returns:
        (n, out, height, width).
    """
    return F.conv2d(x, weight[:, :, None, None], bias)


class GatedBlock(torch.nn.Module):
    """One layer of both stacks.

    The vertical stack sees whole rows above the pixel, the horizontal one its own row to the left and, through
    ``link``, the vertical one: between them there is no blind spot.

    Args:
        in_channels: of each stack's input.
        channels: of each stack's output.
        kernel_size: odd.
        num_colours: the channels of a pixel that are decided one after the other.
        first: whether this is the first layer: the vertical stack then leaves out the pixel's own row, the horizontal
            one what the pixel's later channels and its own are, and nothing is added to the output.
        context_size: the length of the context, 0 for none.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        *,
        num_colours: int,
        first: bool,
        context_size: int,
    ) -> None:
        super().__init__()
        half = kernel_size // 2
        self.reach = half
        rows = half if first else half + 1
        above = Conv2d(in_channels, 2 * channels, (rows, kernel_size), padding=((half, 0), (half, half)))
        beside = Conv2d(in_channels, 2 * channels, (1, half + 1), padding=((0, 0), (half, 0)))
        self.vertical = scaled(above, GATE_GAIN)
        # the horizontal stack and the vertical one come to the gate in equal parts
        self.horizontal = scaled(beside, GATE_GAIN / math.sqrt(2))
        self.link = scaled(Linear(2 * channels, 2 * channels, bias=False), LINEAR_GAIN / math.sqrt(2))
        self.mix = scaled(Linear(channels, channels), LINEAR_GAIN)
        self.context = Linear(context_size, 4 * channels, bias=False) if context_size else None
        self.num_colours, self.first = num_colours, first
        inner, outer = colour.colours(in_channels, num_colours), colour.colours(2 * channels, num_colours, 2)
        groups = colour.colours(channels, num_colours)
        add_mask(self, "seen_taps", colour.taps_mask(outer, inner, half + 1, strict=first))
        add_mask(self, "seen_mix", colour.mask(groups, groups, strict=False))

    def forward(
        self, v: torch.Tensor, h: torch.Tensor, context: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both stacks' outputs, of whole images.

        Args:
            v: (n, in_channels, height, width), the vertical stack's input.
            h: the horizontal stack's, of the same shape.
            context: (n, context_size, height or 1, width or 1), or None.

        Returns:
            Two arrays (n, channels, height, width).
        """
        # a first kernel, which has no row for the pixel's own, ends one row below the image
        a = self.vertical(v)[:, :, : v.shape[2]]
        b = F.conv2d(F.pad(h, (self.reach, 0)), self._taps(), self.horizontal.bias)
        b = b + pointwise(a, self.link.weight)
        if self.context is not None:
            own, across = pointwise(context, self.context.weight).chunk(2, 1)
            a, b = a + own, b + across
        mixed = pointwise(gated(b, 1), self._mix(), self.mix.bias)
        return gated(a, 1), mixed if self.first else h + mixed

    def row(self, rows: torch.Tensor, context: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """The vertical stack of one row of pixels.

        Args:
            rows: (n, in_channels, rows of the kernel, width), its input.
            context: (n, context_size, width), or None.

        Returns:
            The vertical stack's output (n, channels, width), and what it and the context add to the horizontal stack
            (n, 2 channels, width).
        """
        shown: Any = context
        a = F.conv2d(rows, self.vertical.weight, self.vertical.bias, padding=(0, self.reach))[:, :, 0]
        link = F.conv1d(a, self.link.weight[:, :, None], self.horizontal.bias)
        if self.context is not None:
            own, across = F.conv1d(shown, self.context.weight[:, :, None]).chunk(2, 1)
            a, link = a + own, link + across
        return gated(a, 1), link

    def pixel(self, window: torch.Tensor, link: torch.Tensor) -> torch.Tensor:
        """The horizontal stack of one pixel.

        Args:
            window: (n, in_channels, taps), its input to the left and of the pixel.
            link: (n, 2 channels), the pixel's of `row`.

        Returns:
            (n, channels).
        """
        b = torch.addmm(link, window.flatten(1), self._taps().flatten(1).T)
        mixed = F.linear(gated(b, 1), self._mix(), self.mix.bias)
        return mixed if self.first else window[:, :, -1] + mixed

    def _taps(self) -> torch.Tensor:
        return self.horizontal.weight * self.get_buffer("seen_taps")

    def _mix(self) -> torch.Tensor:
        return self.mix.weight * self.get_buffer("seen_mix")
