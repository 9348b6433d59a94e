"""The masked perceptron as a torch module: all conditionals in one pass, or step by step."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Num
from torch import Tensor

from deepgen.math import degrees
from deepgen.nn import arguments, masked
from deepgen.nn.torch_layers import Activation, Linear, activation_function, spent


class Cache(NamedTuple):
    """What a masked perceptron keeps from step to step.

    Attributes:
        before: (n, width) the first hidden layer before its activation, as far as entries are decided; None where there
            are no hidden layers.
        hidden: of each hidden layer (n, width), zero where a unit is not complete.
        outputs: (n, num_params * places) what of the outputs comes from the inputs without hidden layers between; None
            where `decided` tells it.
        decided: (n, D) what the network sees of the entries so far, zero where they are not decided; None where entries
            are categories, or nothing is hidden.
    """

    before: Tensor | None
    hidden: tuple[Tensor, ...]
    outputs: Tensor | None
    decided: Tensor | None


class MaskedMLP(torch.nn.Module):
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

    Raises:
        ValueError: sizes that are not whole numbers, an order that is no permutation, an element that does not fit.
    """

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
    ) -> None:
        super().__init__()
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
        self.layers = torch.nn.ModuleList([Linear(widths[i], widths[i + 1]) for i in range(len(widths) - 1)])
        shortcut = bool(direct) and len(widths) > 2
        self.direct = Linear(widths[0], widths[-1], bias=False) if shortcut else None
        size = self.sizes.context_size
        self.context = Linear(size, widths[1], bias=False) if size else None
        own, shortcuts = masked.masks(self.sizes)
        self._names = (*(f"mask_{i}" for i in range(len(own))), "mask_direct")
        for name, mask in zip(self._names, [*own, shortcuts], strict=True):
            self.register_buffer(name, torch.as_tensor(mask).to(torch.get_default_dtype()), persistent=False)

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

    def forward(
        self, x: Num[Tensor, "*batch_and_event"], context: Float[Tensor, "*batch size"] | None = None
    ) -> Float[Tensor, "*batch_and_outputs"]:
        """The outputs for every entry, in one pass.

        Args:
            x: (..., *event_shape).
            context: (..., context_size), of the same leading axes.

        Returns:
            (..., num_params, *event_shape), or (..., num_params, *event_shape[1:]) where channels are coupled.

        Raises:
            ValueError: another shape than the network was built for.
        """
        return self._forward(x, context, self._masks())

    def leading(
        self, x: Num[Tensor, "entries n"], context: Float[Tensor, "size n"] | None = None
    ) -> Float[Tensor, "out n"]:
        """The outputs of `forward` with the rows last, as all layers have them: (num_params * places, n).

        Args:
            x: (D, n).
            context: (context_size, n), or None.

        Returns:
            (num_params * places, n).

        Raises:
            ValueError: another shape than the network was built for.
        """
        arguments.last_axis("MaskedMLP", x.mT.shape, self.sizes.num_entries)
        masked.check_context(self.sizes, None if context is None else context.mT, x.shape[1:])
        return self._leading(x, context, self._masks())

    def outputs(self, x: Tensor, context: Tensor | None, plan: masked.Sizes) -> Tensor:
        """The outputs under another plan than the network's own, as `forward` gives them.

        Args:
            x: (..., *event_shape).
            context: (..., context_size), or None.
            plan: of `deepgen.nn.masked.member`.

        Returns:
            As `forward`.
        """
        units = [torch.as_tensor(unit, device=x.device) for unit in masked.tiled(plan, masked.degrees_of(plan))]
        pairs = [(units[i + 1], units[i]) for i in range(len(units) - 1)]
        return self._forward(x, context, [degrees.mask(*pair) for pair in (*pairs, (units[-1], units[0]))])

    def _masks(self) -> list[Tensor]:
        """Of each layer, and last of the direct connections."""
        return [getattr(self, name) for name in self._names]

    def _forward(self, x: Tensor, context: Tensor | None, masks: list[Tensor]) -> Tensor:
        arguments.last_axes("MaskedMLP", x.shape, self.event_shape)
        batch = x.shape[: x.ndim - len(self.event_shape)]
        masked.check_context(self.sizes, context, batch)
        flat = x.reshape(-1, self.sizes.num_entries).mT
        given = None if context is None else context.reshape(-1, self.sizes.context_size).mT
        return self._leading(flat, given, masks).mT.reshape(*batch, *self.sizes.out_shape)

    def _leading(self, x: Tensor, context: Any, masks: list[Tensor]) -> Tensor:
        h = inputs = self._features(x.mT).mT
        act, last = spent(self.activation), len(self.layers) - 1
        for i, (layer, mask) in enumerate(zip(self.layers, masks, strict=False)):
            h = _apply(layer, h, mask)
            if i == 0 and self.context is not None:
                h = torch.addmm(h, self.context.weight, context)
            h = h if i == last else act(h)
        return h if self.direct is None else h + _apply(self.direct, inputs, masks[-1])

    def start(self, n: int, context: Tensor | None = None) -> Cache:
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
        layers: list[Any] = list(self.layers)
        first = layers[0].bias if self.context is None else layers[0].bias + self.context(context)
        first = first.expand(n, self.sizes.layers[1]).clone()
        if len(layers) == 1:
            return Cache(None, (), first, None)
        hidden = tuple(first.new_zeros((n, width)) for width in self.sizes.hidden)
        if self.sizes.num_categories is None:
            return Cache(first, hidden, None, first.new_zeros((n, self.sizes.num_entries)))
        return Cache(first, hidden, layers[-1].bias.expand(n, self.sizes.layers[-1]).clone(), None)

    def step(self, cache: Cache, t: int, previous: Tensor) -> tuple[Tensor, Cache]:
        """The outputs of one step, touching only what the step before has changed.

        The entry just decided is added to the first layer before its activation; the hidden units of degree t, which
        wait for nothing any more, are finished; the outputs of step t are computed from them and from what is decided.
        Only of categories, whose codes are long, the direct outputs of all steps are summed up as they are decided.
        Without gradients it is done in place: the cache that came is spent.

        Args:
            cache: of `start`, or of the step before.
            t: the number of the step, from 0.
            previous: (n, E) what the step before decided; of no meaning at t = 0.

        Returns:
            (n, num_params, E), or (n, num_params, 1) where channels are coupled, and the cache for the next step.
        """
        return self.advance(self.sizes, cache, t, previous)

    def advance(self, plan: masked.Sizes, cache: Cache, t: int, previous: Tensor) -> tuple[Tensor, Cache]:
        """A `step` under another plan than the network's own.

        Args:
            plan: of `deepgen.nn.masked.member`.
            cache: as in `step`.
            t: as in `step`.
            previous: as in `step`.

        Returns:
            As `step`.
        """
        first, hidden = cache.before, cache.hidden
        direct: Any = cache.outputs
        decided: Any = cache.decided
        layers: list[Any] = list(self.layers)
        if t > 0:
            entries = plan.order[t - 1]
            if first is None:
                direct = self._add(direct, layers[0].weight, entries, previous)
            else:
                first = self._add(first, layers[0].weight, entries, previous)
            if self.direct is not None and decided is None:
                direct = self._add(direct, self.direct.weight, entries, previous)
            elif self.direct is not None:
                decided = self._noted(decided, entries, previous)
        places = masked.read_at(plan)[t]
        if first is None:
            return direct[:, places].reshape(len(direct), self.num_params, -1), Cache(None, (), direct, None)
        act = activation_function(self.activation)
        finished: list[Tensor] = []
        for i, tables in enumerate(masked.completed(plan)):
            units, h = tables[t], hidden[i]
            if units is not None:
                layer = layers[i]
                before = first[:, units] if i == 0 else F.linear(finished[-1], layer.weight[units], layer.bias[units])
                h = _put(h, units, act(before))
            finished.append(h)
        if decided is None:
            found = direct[:, places] + F.linear(finished[-1], layers[-1].weight[places])
        else:
            found = F.linear(finished[-1], layers[-1].weight[places], layers[-1].bias[places])
            if self.direct is not None:
                found = found + F.linear(decided, self.direct.weight[places])
        return found.reshape(len(found), self.num_params, -1), Cache(first, tuple(finished), direct, decided)

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return masked.spec(self.sizes, self.activation, self.direct is not None)

    def _features(self, x: Tensor) -> Tensor:
        """(..., num_features * D) what the first layer sees of (..., D) entries."""
        dtype: Any = self.layers[0].weight.dtype
        if self.sizes.num_categories is not None:
            codes = x[..., None, :] == torch.arange(self.sizes.num_categories, device=x.device)[:, None]
            return codes.to(dtype).reshape(*x.shape[:-1], -1)
        x = x.to(dtype)
        if self.sizes.input_range is None:
            return x
        low, high = self.sizes.input_range
        return (x - low) * (2.0 / (high - low)) - 1.0

    def _add(self, sums: Tensor, weight: Tensor, entries: tuple[int, ...], previous: Tensor) -> Tensor:
        """(n, out) the sums with what the entries just decided add to them."""
        if self.sizes.num_categories is not None:
            columns = previous.long() * self.sizes.num_entries + torch.as_tensor(entries, device=previous.device)
            added = weight.T[columns].sum(-2)
            return sums + added if torch.is_grad_enabled() else sums.add_(added)
        seen = self._features(previous)
        columns = weight[:, entries[0] : entries[0] + 1] if len(entries) == 1 else weight[:, list(entries)]
        if torch.is_grad_enabled():
            return torch.addmm(sums, seen, columns.T)
        return sums.addmm_(seen, columns.T)

    def _noted(self, decided: Tensor, entries: tuple[int, ...], previous: Tensor) -> Tensor:
        """(n, D) what is decided, with the entries of the step before; in place without gradients."""
        columns = slice(entries[0], entries[0] + 1) if len(entries) == 1 else list(entries)
        return _put(decided, columns, self._features(previous))


def _apply(layer: Any, x: Tensor, mask: Tensor) -> Tensor:
    weight = layer.weight * mask
    return weight @ x if layer.bias is None else torch.addmm(layer.bias[:, None], weight, x)


def _put(h: Tensor, units: Any, values: Tensor) -> Tensor:
    """``h`` with some columns replaced; in place without gradients."""
    h = h.clone() if torch.is_grad_enabled() else h
    h[:, units] = values
    return h
