"""Activations, linear maps and layer normalisation as torch modules, and the perceptron made of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn import LayerNorm, Linear

from deepgen.nn import arguments

__all__ = ["MLP", "Activation", "LayerNorm", "Linear", "activation_function", "scaled", "spent"]

Activation = str | Callable[..., Any]

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "leaky_relu": F.leaky_relu,
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": F.tanh,
}


def activation_function(activation: Activation) -> Callable[..., Any]:
    """The function of that name, or the function itself."""
    return _FUNCTIONS[activation] if isinstance(activation, str) else activation


# what these overwrite is not needed for their gradient
_IN_PLACE: dict[Any, Callable[..., Any]] = {"relu": torch.relu_, "sigmoid": torch.sigmoid_, "tanh": torch.tanh_}


def spent(activation: Activation) -> Callable[..., Any]:
    """As `activation_function`, of an argument that nobody needs any more: it may be overwritten."""
    return _IN_PLACE.get(activation) or activation_function(activation)


def scaled(layer: Any, gain: float) -> Any:
    """The layer, its weight multiplied by a number."""
    with torch.no_grad():
        layer.weight.mul_(gain)
    return layer


class MLP(torch.nn.Module):
    """A multilayer perceptron over the last axis.

    Every hidden layer computes act(W h + b), or act(LayerNorm(W h + b)); the last layer is linear, so that without
    hidden layers the network is one linear map. Weights and biases are drawn from U(-1/sqrt(fan in), 1/sqrt(fan in)),
    torch's own law.

    Args:
        in_size: the length of the input's last axis.
        out_size: the length of the output's.
        hidden: the widths of the hidden layers.
        activation: its name (elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh), or a function.
        residual: whether a hidden layer that is as wide as its input adds its input to its output,
            h + act(W h + b); the first one too, where its width is ``in_size``. The others are as without.
        layer_norm: whether each hidden layer is normalised before its activation.
        skip: whether a linear map of the input without bias is added to the output, a linear path beside the network.

    Raises:
        ValueError: sizes that are not whole numbers >= 1, an unknown activation.
    """

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden: Sequence[int] = (),
        *,
        activation: Activation = "gelu",
        residual: bool = False,
        layer_norm: bool = False,
        skip: bool = False,
    ) -> None:
        super().__init__()
        arguments.activation(activation)
        self.in_size = arguments.whole("in_size", in_size)
        self.out_size = arguments.whole("out_size", out_size)
        self.hidden = arguments.wholes("hidden", hidden)
        self.activation = activation
        self.residual = bool(residual)
        self.layer_norm = bool(layer_norm)
        sizes = (self.in_size, *self.hidden, self.out_size)
        self.layers = torch.nn.ModuleList([Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)])
        self.skip = Linear(self.in_size, self.out_size, bias=False) if skip else None
        self.norms = torch.nn.ModuleList([LayerNorm(size) for size in self.hidden] if self.layer_norm else [])

    def forward(self, x: Float[Tensor, "*batch in_size"]) -> Float[Tensor, "*batch out_size"]:
        """The network's output, whatever axes stand before the last.

        Raises:
            ValueError: unless the last axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.shape, self.in_size)
        direct = None if self.skip is None else self.skip(x)
        last: Any = self.layers[-1]
        y = F.linear(self._hidden(x), last.weight, last.bias)
        return y if direct is None else y + direct

    def leading(self, x: Float[Tensor, "in_size n"]) -> Float[Tensor, "out_size n"]:
        """The output of an input whose axis stands in front, in front too: rows last, in all layers.

        Raises:
            ValueError: unless the first axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.mT.shape, self.in_size)
        act, layers = spent(self.activation), list(self.layers)
        h = x
        for i, layer in enumerate(layers[:-1]):
            g = _leading(layer, h)
            if self.layer_norm:
                g = self.norms[i](g.mT).mT
            g = act(g)
            h = h + g if self.residual and g.shape == h.shape else g
        y = _leading(layers[-1], h)
        return y if self.skip is None else torch.addmm(y, self.skip.weight, x)

    def _hidden(self, x: Tensor) -> Tensor:
        act = spent(self.activation)
        layers: list[Any] = list(self.layers)
        norms: list[Any] = list(self.norms)
        for i, layer in enumerate(layers[:-1]):
            h = F.linear(x, layer.weight, layer.bias)
            if self.layer_norm:
                h = norms[i](h)
            h = act(h)
            x = x + h if self.residual and h.shape == x.shape else h
        return x

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "MLP",
            {
                "in_size": self.in_size,
                "out_size": self.out_size,
                "hidden": self.hidden,
                "activation": self.activation,
                "residual": self.residual,
                "layer_norm": self.layer_norm,
                "skip": self.skip is not None,
            },
        )


def _leading(layer: Any, x: Tensor) -> Tensor:
    return torch.addmm(layer.bias[:, None], layer.weight, x)
