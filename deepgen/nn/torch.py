"""Networks for Pyro programs, as torch modules: batched, any leading axes, the same names and shapes as `equinox`."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from deepgen.nn import arguments
from deepgen.nn.torch_convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from deepgen.nn.torch_images import ConvDecoder, ConvEncoder, ConvNet
from deepgen.nn.torch_layers import MLP, LayerNorm, Linear
from deepgen.nn.torch_masked import MaskedMLP

__all__ = [
    "MLP",
    "Conv1d",
    "Conv2d",
    "ConvDecoder",
    "ConvEncoder",
    "ConvNet",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "LayerNorm",
    "Linear",
    "MaskedMLP",
    "build",
    "load_state_dict",
    "output_bias",
    "silent",
    "state_dict",
]

Network = TypeVar("Network", bound=torch.nn.Module)


NETWORKS: dict[str, type] = {
    "MLP": MLP,
    "ConvEncoder": ConvEncoder,
    "ConvDecoder": ConvDecoder,
    "ConvNet": ConvNet,
    "MaskedMLP": MaskedMLP,
}


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
        value: (out_size,) the bias of every output, flattened, or a single number for all of them; of a `ConvNet`
            (out_channels,).

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
    match network:
        case MLP() | MaskedMLP() | ConvNet():
            return network.layers[-1].bias
        case ConvEncoder():
            return network.head.layers[-1].bias
        case ConvDecoder():
            return network.bias
    raise TypeError(
        f"network: got a {type(network).__name__}; expected one of {sorted(NETWORKS)}. "
        "Set the bias of a network of your own in place."
    )


def silent(network: Any) -> Any:
    """The network with an output of zero, in place: its last layer and what runs beside the others are set to zero.

    Args:
        network: an `MLP`, a `MaskedMLP` or a `ConvNet`.

    Returns:
        The same network.

    Raises:
        TypeError: another network.
    """
    arguments.ends_in_layer(network, (MLP, MaskedMLP, ConvNet))
    layer, beside = network.layers[-1], _beside(network)
    with torch.no_grad():
        for leaf in (layer.weight, layer.bias, *(() if beside is None else (beside.weight,))):
            leaf.zero_()
    return network


def _beside(network: Any) -> Any:
    match network:
        case MLP():
            return network.skip
        case MaskedMLP():
            return network.direct
    return None


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
        parameters: an array for each name of ``state_dict(network)``, NumPy's or torch's, of the same shape; given
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
