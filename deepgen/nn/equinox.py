"""Networks for NumPyro programs, as Equinox modules: batched, any leading axes, torch's parameter names and shapes."""

from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from deepgen import checks
from deepgen.nn import arguments
from deepgen.nn.equinox_convolution import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from deepgen.nn.equinox_images import ConvDecoder, ConvEncoder, ConvNet
from deepgen.nn.equinox_layers import MLP, LayerNorm, Linear
from deepgen.nn.equinox_masked import MaskedMLP

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

Network = TypeVar("Network", bound=eqx.Module)


NETWORKS: dict[str, type] = {
    "MLP": MLP,
    "ConvEncoder": ConvEncoder,
    "ConvDecoder": ConvDecoder,
    "ConvNet": ConvNet,
    "MaskedMLP": MaskedMLP,
}


def build(spec: Mapping[str, Any], key: PRNGKeyArray) -> Any:
    """Make a network again from what its ``spec()`` returned, with new parameters.

    Args:
        spec: the network's name under ``"network"`` and its constructor's arguments.
        key: for the initial parameters.

    Returns:
        The network.

    Raises:
        ValueError: an unknown network, or arguments that it refuses.

    >>> network = build({"network": "MLP", "in_size": 3, "out_size": 2, "hidden": [8]}, jax.random.key(0))
    >>> network.spec()["hidden"]
    [8]
    """
    network, kwargs = arguments.of_spec(spec, NETWORKS)
    return network(**kwargs, key=key)


def output_bias(network: Any, value: Any) -> Any:
    """Set the bias of the network's output, so that training starts at the data's mean, say.

    Args:
        network: one of this module's networks.
        value: (out_size,) the bias of every output, flattened, or a single number for all of them; of a `ConvNet`
            (out_channels,).

    Returns:
        The network with that bias.

    Raises:
        ValueError: a value of another shape.
        TypeError: a network that is none of this module's.
    """
    bias = _output_bias_of(network)
    value = jnp.asarray(value, dtype=bias.dtype)
    arguments.output_bias(value.shape, bias.size)
    return eqx.tree_at(_output_bias_of, network, jnp.broadcast_to(value.reshape(-1), (bias.size,)).reshape(bias.shape))


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
        "Set the bias of a network of your own with equinox.tree_at."
    )


def silent(network: Any) -> Any:
    """The network with an output of zero, whatever comes in: its last layer and what runs beside the others are zero.

    Args:
        network: an `MLP`, a `MaskedMLP` or a `ConvNet`.

    Returns:
        The network with these parameters.

    Raises:
        TypeError: another network.
    """
    arguments.ends_in_layer(network, (MLP, MaskedMLP, ConvNet))

    def last(network: Any) -> list[Any]:
        layer, beside = network.layers[-1], _beside(network)
        return [layer.weight, layer.bias, *([] if beside is None else [beside.weight])]

    return eqx.tree_at(last, network, [jnp.zeros_like(leaf) for leaf in last(network)])


def _beside(network: Any) -> Any:
    match network:
        case MLP():
            return network.skip
        case MaskedMLP():
            return network.direct
    return None


def state_dict(network: Any) -> dict[str, Array]:
    """The arrays of a module by name, as torch names them: fields, indices and keys joined by dots.

    Args:
        network: any Equinox module, or a tuple, list or dictionary of modules.

    Returns:
        For instance ``{"layers.0.weight": ..., "layers.0.bias": ...}``, in the order of the fields.
    """
    return {_name(path): leaf for path, leaf in _arrays(network)}


def load_state_dict(network: Network, parameters: Mapping[str, Any]) -> Network:
    """The module with other arrays, by name.

    Args:
        network: any Equinox module.
        parameters: an array for each name of ``state_dict(network)``, of the same shape; given the network's dtype.

    Returns:
        The module with these arrays.

    Raises:
        ValueError: names that are missing or too much, a wrong shape.
    """
    own = state_dict(network)
    arguments.same_names(own, parameters)
    for name, leaf in own.items():
        arguments.same_shape(name, leaf.shape, parameters[name].shape)
    arrays, rest = eqx.partition(network, eqx.is_array)
    loaded = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(parameters[_name(path)], dtype=leaf.dtype), arrays
    )
    return eqx.combine(loaded, rest)


def _arrays(network: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(eqx.filter(network, eqx.is_array))[0]


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(_part(key) for key in path)


def _part(key: Any) -> str:
    match key:
        case jax.tree_util.GetAttrKey(name=name):
            return name
        case jax.tree_util.SequenceKey(idx=index):
            return str(index)
        case jax.tree_util.DictKey(key=name) | jax.tree_util.FlattenedIndexKey(key=name):
            return str(name)
        case _:
            raise checks.problem(
                "path of a parameter",
                got=repr(key),
                expected="a field, an index or a key",
                fix="Use modules, lists or dicts.",
            )
