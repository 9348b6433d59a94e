"""The gated PixelCNN in NumPyro: all conditionals in one pass, or pixel by pixel with cached rows."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.models.autoregressive import channels as colour
from deepgen.models.autoregressive import inputs, orders, receptive
from deepgen.models.autoregressive.numpyro.stacks import GatedBlock
from deepgen.nn import arguments
from deepgen.nn.equinox_layers import Activation, Linear, activation_function


class PixelCNN(eqx.Module):
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
        key: for the initial parameters.

    Raises:
        ValueError: an event that is no image, or sizes out of their range.
    """

    blocks: tuple[GatedBlock, ...]
    hidden: Linear
    output: Linear
    places: jax.Array | None
    event_shape: tuple[int, ...] = eqx.field(static=True)
    num_params: int = eqx.field(static=True)
    num_categories: int | None = eqx.field(static=True)
    input_range: tuple[float, float] | None = eqx.field(static=True)
    coupled: bool = eqx.field(static=True)
    context_size: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

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
        key: jax.Array,
    ) -> None:
        self.event_shape = arguments.image_shape("event_shape", event_shape)
        self.num_params = arguments.whole("num_params", num_params)
        self.num_categories, self.coupled = num_categories, bool(coupled)
        self.input_range = inputs.bounds(input_range)
        self.context_size = arguments.whole("context_size", context_size, least=0)
        place_size = arguments.whole("place_size", place_size, least=0)
        arguments.activation(activation)
        self.activation = activation
        channels = arguments.whole("channels", channels)
        kernels = receptive.odd(first_kernel_size, kernel_size, arguments.whole("num_layers", num_layers))
        colours = 1 if self.coupled else self.event_shape[0]
        colour.check_width(channels, colours)
        entering = self.event_shape[0] * inputs.num_features(num_categories, self.input_range)
        keys = jax.random.split(key, len(kernels) + 3)
        self.blocks = tuple(
            GatedBlock(
                channels if i else entering,
                channels,
                size,
                num_colours=colours,
                first=i == 0,
                context_size=self.context_size + place_size,
                key=keys[i],
            )
            for i, size in enumerate(kernels)
        )
        self.hidden = Linear(channels, channels, key=keys[-3])
        self.output = Linear(channels, self.num_params * colours, key=keys[-2])
        shape = (place_size, *self.event_shape[1:])
        self.places = inputs.PLACE_SCALE * jax.random.normal(keys[-1], shape) if place_size else None

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
        return receptive.of_kernels([block.vertical.weight.shape[-1] for block in self.blocks])

    def __call__(self, x: Any, context: Any = None) -> jax.Array:
        """The outputs of all entries, in one pass.

        Args:
            x: (n, channels, height, width).
            context: (n, context_size), or (n, context_size, height, width) where it differs from pixel to pixel.

        Returns:
            (n, num_params, channels, height, width), or (n, num_params, height, width) where channels are coupled.

        Raises:
            ValueError: data or a context of another shape.
        """
        x = jnp.asarray(x)
        inputs.check_batch("PixelCNN", x.shape, self.event_shape)
        shown = self._shown(len(x), context)
        v = h = jnp.moveaxis(self._features(x), 1, -1)
        for block in self.blocks:
            v, h = block(v, h, shown)
        outputs = jnp.moveaxis(self._head(h), -1, 1)
        shape = self.event_shape[1:] if self.coupled else self.event_shape
        return outputs.reshape(len(x), self.num_params, *shape)

    def start(self, n: int, context: Any = None) -> Any:
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
        _, _, width = self.event_shape
        dtype = self.output.weight.dtype
        entering = self.blocks[0].horizontal.weight.shape[1]

        def zeros(*shape: int) -> jax.Array:
            return jnp.zeros((n, *shape), dtype)

        cache: dict[str, Any] = {"above": [], "row": [], "link": []}
        for block in self.blocks:
            half, size = block.vertical.padding[1][0], entering if block.first else block.mix.weight.shape[0]
            cache["above"].append(zeros(half, width, size))
            cache["row"].append(zeros(half + width, size))
            cache["link"].append(zeros(width, block.link.weight.shape[0]))
        if shown is not None:
            cache["context"] = jnp.broadcast_to(shown, (n, *self.event_shape[1:], shown.shape[-1]))
        return cache

    def step(self, cache: Any, t: Any, previous: jax.Array) -> tuple[jax.Array, Any]:
        """The outputs of what step t decides; at the first pixel of a row the vertical stack computes that row.

        Args:
            cache: of `start` or of the step before.
            t: the step.
            previous: (n, entries of a step), what the step before decided; at t = 0 it is ignored.

        Returns:
            (n, num_params, entries of a step), where coupled (n, num_params, 1), and the cache of the next step.
        """
        channels, _, width = self.event_shape
        turns = 1 if self.coupled else channels
        t = jnp.asarray(t)
        pixel, turn = t // turns, t % turns
        cache = {**cache, "row": [self._written(cache["row"][0], t, previous), *cache["row"][1:]]}
        at_start = ((pixel % width == 0) & (turn == 0)).astype(jnp.int32)
        moved = {"above": cache["above"], "link": cache["link"]}
        # a loop of one turn or none: unlike a conditional it leaves the arrays where they are
        moved = lax.fori_loop(0, at_start, lambda _, old: self._row(cache, old, pixel // width), moved)
        rows = list(cache["row"])
        h: jax.Array = rows[0]
        for i, block in enumerate(self.blocks):
            taps = block.horizontal.weight.shape[-1]
            if i:
                rows[i] = lax.dynamic_update_slice_in_dim(rows[i], h[:, None], pixel % width + taps - 1, axis=1)
            window = lax.dynamic_slice_in_dim(rows[i], pixel % width, taps, axis=1)
            link = lax.dynamic_index_in_dim(moved["link"][i], pixel % width, axis=1, keepdims=False)
            h = block.pixel(window, link)
        outputs = self._head(h).reshape(len(h), self.num_params, turns)
        if turns > 1:
            outputs = lax.dynamic_slice_in_dim(outputs, turn, 1, axis=2)
        return outputs, {**cache, **moved, "row": rows}

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        kernels = [block.vertical.weight.shape[-1] for block in self.blocks]
        return arguments.spec(
            "PixelCNN",
            {
                "event_shape": self.event_shape,
                "num_params": self.num_params,
                "channels": self.hidden.weight.shape[0],
                "num_layers": len(kernels),
                "kernel_size": kernels[-1],
                "first_kernel_size": kernels[0],
                "num_categories": self.num_categories,
                "input_range": self.input_range,
                "coupled": self.coupled,
                "context_size": self.context_size,
                "place_size": 0 if self.places is None else len(self.places),
                "activation": self.activation,
            },
        )

    def _row(self, cache: Any, moved: Any, row: jax.Array) -> Any:
        """The vertical stack's caches moved on to a new row."""
        shown = None
        if "context" in cache:
            shown = lax.dynamic_index_in_dim(cache["context"], row, axis=1, keepdims=False)
        half = self.blocks[0].vertical.padding[1][0]
        above, links = [], []
        v = cache["row"][0][:, half:]
        for block, old in zip(self.blocks, moved["above"], strict=True):
            rows = jnp.concatenate([old, v[:, None]], axis=1)
            # of the input itself the present row is not yet known, so what is in the cache is the row above
            v, link = block.row(rows[:, 1:] if block.first else rows, shown)
            above.append(rows[:, 1:])
            links.append(link)
        return {"above": above, "link": links}

    def _written(self, row: jax.Array, t: jax.Array, previous: jax.Array) -> jax.Array:
        """The row of the input with what the step before decided."""
        channels, _, width = self.event_shape
        turns = 1 if self.coupled else channels
        place = (t - 1) // turns % width + self.blocks[0].vertical.padding[1][0]
        new = inputs.features(previous, self.num_categories, self.input_range, row.dtype) * (t > 0)
        if turns > 1:
            old = lax.dynamic_index_in_dim(row, place, axis=1, keepdims=False).reshape(len(row), -1, channels)
            new = jnp.where(jnp.arange(channels) == (t - 1) % turns, new, old)
        return lax.dynamic_update_slice_in_dim(row, new.reshape(len(row), 1, -1), place, axis=1)

    def _features(self, x: jax.Array) -> jax.Array:
        found = inputs.features(x, self.num_categories, self.input_range, self.output.weight.dtype)
        return found.reshape(len(x), -1, *self.event_shape[1:])

    def _shown(self, n: int, context: Any) -> jax.Array | None:
        """What all layers see, channels last: (n or 1, height or 1, width or 1, context_size + place_size)."""
        shape = None if context is None else jnp.shape(context)
        inputs.check_context("PixelCNN", shape, self.context_size, n, self.event_shape[1:])
        places = None if self.places is None else jnp.moveaxis(self.places, 0, -1)[None]
        if context is None:
            return places
        context = jnp.asarray(context, self.output.weight.dtype)
        context = context[:, None, None] if context.ndim == 2 else jnp.moveaxis(context, 1, -1)
        if places is None:
            return context
        whole = (n, *self.event_shape[1:])
        parts = [jnp.broadcast_to(part, (*whole, part.shape[-1])) for part in (context, places)]
        return jnp.concatenate(parts, axis=-1)

    def _head(self, h: jax.Array) -> jax.Array:
        act = activation_function(self.activation)
        groups = colour.colours(h.shape[-1], self.blocks[0].num_colours)
        ends = colour.colours(len(self.output.weight), self.blocks[0].num_colours)
        for layer, outer in ((self.hidden, groups), (self.output, ends)):
            seen = colour.mask(outer, groups, strict=False)
            h = act(h) @ jnp.where(seen, layer.weight, 0.0).T + layer.bias
        return h
