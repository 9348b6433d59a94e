"""The causal transformer in Pyro: all conditionals in one pass, or step by step with cached keys and values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from deepgen.models.autoregressive import attention, inputs, orders
from deepgen.nn import arguments
from deepgen.nn.torch_layers import Activation, LayerNorm, Linear, activation_function


class AttentionBlock(torch.nn.Module):
    """Self-attention and a perceptron, each normalised before and added to its input.

    Args:
        width: of the residual stream.
        num_heads: of the attention, which divide the width.
        residual_scale: the standard deviation of the initial weights that add to the stream.
        activation: of the perceptron, whose hidden layer is four times as wide.
        dropout: the share of units that are dropped where a call is given noise.
    """

    def __init__(
        self, width: int, num_heads: int, *, residual_scale: float, activation: Activation, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_1 = LayerNorm(width)
        self.project = _linear(width, 3 * width, attention.SCALE)
        self.attend = _linear(width, width, residual_scale)
        self.norm_2 = LayerNorm(width)
        self.expand = _linear(width, 4 * width, attention.SCALE)
        self.contract = _linear(4 * width, width, residual_scale)
        self.num_heads, self.activation, self.dropout = num_heads, activation, dropout

    def forward(self, h: torch.Tensor, noise: Any = None) -> torch.Tensor:
        """The next layer's input, of whole sequences.

        Args:
            h: (n, length, width).
            noise: uniforms, see `attention.noise_shapes`; None drops nothing.

        Returns:
            (n, length, width).
        """
        queries, keys, values = self._heads(h)
        seen = torch.as_tensor(attention.causal(h.shape[1]), device=h.device)
        if noise is None:
            return self._after(h, F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen))
        scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
        weights = torch.softmax(scores.masked_fill(~seen, -math.inf), dim=-1)
        return self._after(h, attention.drop(weights, noise[0], self.dropout) @ values, *noise[1:])

    def step(
        self, h: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, t: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of one place.

        Args:
            h: (n, 1, width).
            keys: (n, num_heads, length, width of a head), those of the places before.
            values: likewise.
            t: the place.

        Returns:
            (n, 1, width), and keys and values, into which those of the place are written.
        """
        queries, key, value = self._heads(h)
        keys[:, :, t], values[:, :, t] = key[:, :, 0], value[:, :, 0]
        attended = F.scaled_dot_product_attention(queries, keys[:, :, : t + 1], values[:, :, : t + 1])
        return self._after(h, attended), keys, values

    def _heads(self, h: torch.Tensor) -> Any:
        """Queries, keys and values, (n, num_heads, length, width of a head) each."""
        found = self.project(self.norm_1(h)).reshape(*h.shape[:2], 3, self.num_heads, -1)
        return found.movedim((2, 3), (0, 2)).unbind()

    def _after(self, h: torch.Tensor, attended: torch.Tensor, first: Any = None, second: Any = None) -> torch.Tensor:
        h = h + attention.drop(self.attend(attended.transpose(1, 2).reshape(h.shape)), first, self.dropout)
        act = activation_function(self.activation)
        return h + attention.drop(self.contract(act(self.expand(self.norm_2(h)))), second, self.dropout)


class CausalTransformer(torch.nn.Module):
    r"""A transformer whose outputs for a step depend on the steps before, all of them.

    Pre-normalised blocks of causal self-attention and perceptron over embeddings of what was decided and learned
    positions (the layout of GPT-2); at the first step a learned vector stands for what was before. A frame of several
    entries, such as the keys of a piano, is decided at once, given the frames before. Drawing keeps keys and values: a
    step costs the same wherever it is, but for the attention over what was before.

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

    Raises:
        ValueError: sizes out of their range, heads that do not divide the width, a rate outside [0, 1), or weights that
            cannot be tied.
    """

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
    ) -> None:
        super().__init__()
        self.event_shape = inputs.sequence_shape(tuple(event_shape))
        self.num_params = arguments.whole("num_params", num_params)
        self.num_categories, self.input_range = num_categories, inputs.bounds(input_range)
        self.dropout = attention.check_dropout(dropout)
        tied = attention.check_tied(tied, self.num_params, num_categories, self.event_shape)
        self.context_size = arguments.whole("context_size", context_size, least=0)
        arguments.activation(activation)
        self.activation, self.num_heads = activation, num_heads
        attention.check_heads(width, num_heads)
        num_layers = arguments.whole("num_layers", num_layers)
        entries = int(np.prod(self.event_shape[1:]))
        entering = entries * inputs.num_features(num_categories, self.input_range)
        self.embed = _linear(entering, width, attention.SCALE, bias=False)
        self.first = torch.nn.Parameter(attention.SCALE * torch.randn(width))
        self.positions = torch.nn.Parameter(attention.SCALE * torch.randn(self.event_shape[0], width))
        self.context = _linear(self.context_size, width, attention.SCALE, bias=False) if self.context_size else None
        scale = attention.residual_scale(num_layers)
        self.blocks = torch.nn.ModuleList(
            AttentionBlock(width, num_heads, residual_scale=scale, activation=activation, dropout=self.dropout)
            for _ in range(num_layers)
        )
        self.norm = LayerNorm(width)
        self.output = None if tied else _linear(width, self.num_params * entries, attention.SCALE)

    @property
    def element_shape(self) -> tuple[int, ...]:
        """``()`` for one entry a step, (width of a frame,) for a frame."""
        return self.event_shape[1:]

    @property
    def order(self) -> np.ndarray:
        """(steps, entries of a step): the flat indices of the entries that each step decides, in time."""
        return orders.sequence(self.event_shape)

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that the context of one row may have; none where there is no context."""
        return inputs.context_shapes(self.context_size, self.event_shape[:1])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None, *, noise: Any = None) -> torch.Tensor:
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
        inputs.check_batch("CausalTransformer", tuple(x.shape), self.event_shape)
        shown = self._shown(len(x), context)
        first = self.first.expand(len(x), 1, len(self.first))
        h = torch.cat([first, self._embedded(x)[:, :-1]], dim=1) + self.positions + shown
        noise = [[None], *[None] * len(self.blocks)] if noise is None else noise
        (stream,), *layers = noise
        h = attention.drop(h, stream, self.dropout)
        for block, own in zip(self.blocks, layers, strict=True):
            h = block(h, own)
        return self._head(h).reshape(*x.shape[:2], self.num_params, *self.element_shape).movedim(2, 1)

    def noise(self, n: int) -> list[list[torch.Tensor]]:
        """Which units a call is to drop, drawn anew.

        Args:
            n: how many rows the call is of.

        Returns:
            Uniforms, as `attention.noise_shapes` has them.
        """
        length, width = self.positions.shape
        shapes = attention.noise_shapes(n, length, width, self.num_heads, len(self.blocks))
        return [[torch.rand(shape, device=self.positions.device) for shape in own] for own in shapes]

    def start(self, n: int, context: torch.Tensor | None = None) -> Any:
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
        added = (self._shown(n, context) + self.positions).detach().expand(n, length, width)
        empty = [
            [added.new_zeros(n, self.num_heads, length, width // self.num_heads) for _ in self.blocks] for _ in range(2)
        ]
        return {"keys": empty[0], "values": empty[1], "added": added}

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
        before = self._embedded(previous.reshape(len(previous), 1, *self.element_shape)) if t else self.first
        h = before + cache["added"][:, t : t + 1]
        for block, keys, values in zip(self.blocks, cache["keys"], cache["values"], strict=True):
            # a module's methods besides forward are no part of what torch's types know
            layer: Any = block
            h, _, _ = layer.step(h, keys, values, t)
        return self._head(h).reshape(len(previous), self.num_params, -1), cache

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
                "num_heads": self.num_heads,
                "num_layers": len(self.blocks),
                "num_categories": self.num_categories,
                "input_range": self.input_range,
                "tied": self.output is None,
                "context_size": self.context_size,
                "dropout": self.dropout,
                "activation": self.activation,
            },
        )

    def _embedded(self, x: torch.Tensor) -> torch.Tensor:
        """(n, length, width) the embeddings of (n, length, *element_shape)."""
        if self.num_categories is not None and x.ndim == 2:
            return F.embedding(x.long().clamp(0, self.num_categories - 1), self.embed.weight.T)
        found = inputs.features(x, self.num_categories, self.input_range, self.positions.dtype)
        return self.embed(inputs.frames(found))

    def _shown(self, n: int, context: torch.Tensor | None) -> torch.Tensor:
        """What the context adds to the embeddings, (n or 1, length or 1, width)."""
        shape = None if context is None else tuple(context.shape)
        inputs.check_context("CausalTransformer", shape, self.context_size, n, self.event_shape[:1])
        if self.context is None or context is None:
            return self.positions.new_zeros(1, 1, self.positions.shape[1])
        context = context.to(self.positions)
        return self.context(context[:, None] if context.ndim == 2 else context.transpose(1, 2))

    def _head(self, h: torch.Tensor) -> torch.Tensor:
        h = self.norm(h)
        return h @ self.embed.weight if self.output is None else self.output(h)


def _linear(in_size: int, out_size: int, scale: float, *, bias: bool = True) -> Linear:
    """A linear map whose weights are drawn from N(0, scale^2), its bias zero."""
    layer = Linear(in_size, out_size, bias=bias)
    torch.nn.init.normal_(layer.weight, std=scale)
    if bias:
        torch.nn.init.zeros_(layer.bias)
    return layer
