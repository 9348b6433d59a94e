"""Activations, linear maps and layer normalisation as torch modules, and the perceptron made of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn import LayerNorm, Linear

from deepgen.nn import arguments

__all__ = ["MLP", "Activation", "LayerNorm", "Linear", "activation_function"]

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

    def leading(self, x: Float[Tensor, "n in_size"]) -> Float[Tensor, "out_size n"]:
        """The output with its axis in front, as the last matrix product can give it at no cost.

        Raises:
            ValueError: unless the last axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.shape, self.in_size)
        last: Any = self.layers[-1]
        y = torch.addmm(last.bias[:, None], last.weight, self._hidden(x).mT)
        return y if self.skip is None else torch.addmm(y, self.skip.weight, x.mT)

    def _hidden(self, x: Tensor) -> Tensor:
        act = activation_function(self.activation)
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
