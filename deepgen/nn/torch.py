"""Networks for Pyro programs, as torch modules: batched, any leading axes, the same names and shapes as `equinox`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deepgen.nn import arguments
from deepgen.nn.torch_layers import Activation, LayerNorm, Linear, activation_function

__all__ = ["MLP", "LayerNorm", "Linear", "build", "load_state_dict", "output_bias", "state_dict"]

Network = TypeVar("Network", bound=torch.nn.Module)


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
        self.norms = torch.nn.ModuleList([LayerNorm(size) for size in self.hidden] if self.layer_norm else [])

    def forward(self, x: Float[Tensor, "*batch in_size"]) -> Float[Tensor, "*batch out_size"]:
        """The network's output, whatever axes stand before the last.

        Raises:
            ValueError: unless the last axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.shape, self.in_size)
        act = activation_function(self.activation)
        layers: list[Any] = list(self.layers)
        norms: list[Any] = list(self.norms)
        *hidden, last = layers
        for i, layer in enumerate(hidden):
            h = F.linear(x, layer.weight, layer.bias)
            if self.layer_norm:
                h = norms[i](h)
            h = act(h)
            x = x + h if self.residual and h.shape == x.shape else h
        return F.linear(x, last.weight, last.bias)

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
            },
        )


NETWORKS: dict[str, type] = {"MLP": MLP}


def build(spec: Mapping[str, Any]) -> Any:
    """Make a network again from what its ``spec()`` returned, with new parameters.

    Args:
        spec: the network's name under ``"network"`` and its constructor's arguments.

    Returns:
        The network.

    Raises:
        ValueError: an unknown network, or arguments that it refuses.

    >>> network = build({"network": "MLP", "in_size": 3, "out_size": 2, "hidden": [8]})
    >>> network.spec()["hidden"]
    [8]
    """
    network, kwargs = arguments.of_spec(spec, NETWORKS)
    return network(**kwargs)


def output_bias(network: Any, value: Any) -> Any:
    """Set the bias of the network's output, in place, so that training starts at the data's mean, say.

    Args:
        network: one of this module's networks.
        value: (out_size,) the bias of every output, flattened, or a single number for all of them.

    Returns:
        The same network.

    Raises:
        ValueError: a value of another shape.
        TypeError: a network that is none of this module's.
    """
    bias = _output_bias_of(network)
    value = _tensor(value)
    arguments.output_bias(value.shape, bias.numel())
    with torch.no_grad():
        bias.copy_(value.reshape(bias.shape) if value.ndim else value)
    return network


def _output_bias_of(network: Any) -> Any:
    if isinstance(network, MLP):
        return network.layers[-1].bias
    raise TypeError(
        f"network: got a {type(network).__name__}; expected one of {sorted(NETWORKS)}. "
        "Set the bias of a network of your own in place."
    )


def state_dict(network: torch.nn.Module) -> dict[str, Tensor]:
    """The arrays of a module by name, without their gradients.

    Args:
        network: any torch module.

    Returns:
        For instance ``{"layers.0.weight": ..., "layers.0.bias": ...}``.
    """
    return dict(network.state_dict())


def load_state_dict(network: Network, parameters: Mapping[str, Any]) -> Network:
    """Set the module's arrays, in place, by name.

    Args:
        network: any torch module.
        parameters: an array for each name of ``state_dict(network)``, NumPy's or torch's, of the same shape; converted to
            the network's dtype and device.

    Returns:
        The same module.

    Raises:
        ValueError: names that are missing or too much, a wrong shape.
    """
    own = state_dict(network)
    arguments.same_names(own, parameters)
    for name, leaf in own.items():
        arguments.same_shape(name, leaf.shape, parameters[name].shape)
    with torch.no_grad():
        for name, leaf in own.items():
            leaf.copy_(_tensor(parameters[name]))
    return network


def _tensor(value: Any) -> Tensor:
    """A tensor of the values; arrays are copied, since torch warns of those that may not be written to."""
    return value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
