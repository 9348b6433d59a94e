"""The vertical and the horizontal stack of a gated PixelCNN in NumPyro, one layer of both."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen.models.autoregressive import channels as colour
from deepgen.models.autoregressive.gates import GATE_GAIN, LINEAR_GAIN, gated
from deepgen.nn import geometry as sizes
from deepgen.nn.equinox_convolution import Conv, Conv2d, convolution
from deepgen.nn.equinox_layers import Linear, scaled


class GatedBlock(eqx.Module):
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
        key: for the initial parameters.
    """

    vertical: Conv
    horizontal: Conv
    link: Linear
    mix: Linear
    context: Linear | None
    num_colours: int = eqx.field(static=True)
    first: bool = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        *,
        num_colours: int,
        first: bool,
        context_size: int,
        key: jax.Array,
    ) -> None:
        keys = jax.random.split(key, 5)
        half = kernel_size // 2
        rows = half if first else half + 1
        above = Conv2d(in_channels, 2 * channels, (rows, kernel_size), padding=((half, 0), (half, half)), key=keys[0])
        beside = Conv2d(in_channels, 2 * channels, (1, half + 1), padding=((0, 0), (half, 0)), key=keys[1])
        self.vertical = scaled(above, GATE_GAIN)
        # the horizontal stack and the vertical one come to the gate in equal parts
        self.horizontal = scaled(beside, GATE_GAIN / math.sqrt(2))
        self.link = scaled(Linear(2 * channels, 2 * channels, bias=False, key=keys[2]), LINEAR_GAIN / math.sqrt(2))
        self.mix = scaled(Linear(channels, channels, key=keys[3]), LINEAR_GAIN)
        self.context = Linear(context_size, 4 * channels, bias=False, key=keys[4]) if context_size else None
        self.num_colours, self.first = num_colours, first

    def __call__(self, v: jax.Array, h: jax.Array, context: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """Both stacks' outputs, of whole images, channels last.

        Args:
            v: (n, height, width, in_channels), the vertical stack's input.
            h: the horizontal stack's, of the same shape.
            context: (n, height or 1, width or 1, context_size), or None.

        Returns:
            Two arrays (n, height, width, channels).
        """
        # a first kernel, which has no row for the pixel's own, ends one row below the image
        a = self.vertical.channels_last(v)[:, : v.shape[1]]
        horizontal = eqx.tree_at(lambda layer: layer.weight, self.horizontal, self._taps())
        return self._combine(a, horizontal.channels_last(h), h, context)

    def row(self, rows: jax.Array, context: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The vertical stack of one row of pixels.

        Args:
            rows: (n, rows of the kernel, width, in_channels), its input.
            context: (n, width, context_size), or None.

        Returns:
            The vertical stack's output (n, width, channels), and what it and the context add to the horizontal stack
            (n, width, 2 channels).
        """
        half = self.vertical.padding[1][0]
        kernel = jnp.moveaxis(self.vertical.weight, (1, 0), (-2, -1))
        geometry = sizes.of_input(rows.shape[1:3], kernel.shape[:2], (1, 1), ((0, 0), (half, half)), (1, 1))
        bias, across_bias = self._biases()
        a = (convolution(rows, kernel, geometry) + bias)[:, 0]
        link = self.link(a) + across_bias
        if self.context is not None:
            own, across = jnp.split(self.context(context), 2, axis=-1)
            a, link = a + own, link + across
        return gated(a, -1), link

    def pixel(self, window: jax.Array, link: jax.Array) -> jax.Array:
        """The horizontal stack of one pixel.

        Args:
            window: (n, taps, in_channels), its input to the left and of the pixel.
            link: (n, 2 channels), the pixel's of `row`.

        Returns:
            (n, channels).
        """
        taps = jnp.moveaxis(self._taps()[:, :, 0], 0, -1).swapaxes(0, 1)
        flat = window.reshape(len(window), -1)
        return self._mixed(gated(flat @ taps.reshape(flat.shape[1], -1) + link, -1), window[:, -1])

    def _combine(
        self, a: jax.Array, b: jax.Array, h: jax.Array, context: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        b = b + self.link(a)
        if self.context is not None:
            own, across = jnp.split(self.context(context), 2, axis=-1)
            a, b = a + own, b + across
        return gated(a, -1), self._mixed(gated(b, -1), h)

    def _mixed(self, b: jax.Array, h: jax.Array) -> jax.Array:
        groups = colour.colours(b.shape[-1], self.num_colours)
        seen = colour.mask(groups, groups, strict=False)
        bias: Any = self.mix.bias
        mixed = b @ jnp.where(seen, self.mix.weight, 0.0).T + bias
        return mixed if self.first else h + mixed

    def _biases(self) -> tuple[Any, Any]:
        return self.vertical.bias, self.horizontal.bias

    def _taps(self) -> jax.Array:
        outer, inner, _, width = self.horizontal.weight.shape
        groups = colour.colours(outer, self.num_colours, 2), colour.colours(inner, self.num_colours)
        return jnp.where(colour.taps_mask(*groups, width, strict=self.first), self.horizontal.weight, 0.0)
