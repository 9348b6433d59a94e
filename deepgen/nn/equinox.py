"""Networks for NumPyro programs, as Equinox modules: batched, any leading axes, torch's parameter names and shapes."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from deepgen import checks
from deepgen.nn import arguments
from deepgen.nn.equinox_layers import Activation, LayerNorm, Linear, activation_function

__all__ = ["MLP", "LayerNorm", "Linear", "build", "load_state_dict", "output_bias", "state_dict"]

Network = TypeVar("Network", bound=eqx.Module)


class MLP(eqx.Module):
    """A multilayer perceptron over the last axis.

    Every hidden layer computes act(W h + b), or act(LayerNorm(W h + b)); the last layer is linear, so that without
    hidden layers the network is one linear map. Weights and biases are drawn from U(-1/sqrt(fan in), 1/sqrt(fan in)),
    as in torch.

    Args:
        in_size: the length of the input's last axis.
        out_size: the length of the output's.
        hidden: the widths of the hidden layers.
        activation: its name (elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh), or a function.
        residual: whether a hidden layer that is as wide as its input adds its input to its output,
            h + act(W h + b); the first one too, where its width is ``in_size``. The others are as without.
        layer_norm: whether each hidden layer is normalised before its activation.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers >= 1, an unknown activation.
    """

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    in_size: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    layer_norm: bool = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        hidden: Sequence[int] = (),
        *,
        activation: Activation = "gelu",
        residual: bool = False,
        layer_norm: bool = False,
        key: PRNGKeyArray,
    ) -> None:
        arguments.activation(activation)
        self.in_size = arguments.whole("in_size", in_size)
        self.out_size = arguments.whole("out_size", out_size)
        self.hidden = arguments.wholes("hidden", hidden)
        self.activation = activation
        self.residual = bool(residual)
        self.layer_norm = bool(layer_norm)
        sizes = (self.in_size, *self.hidden, self.out_size)
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(Linear(sizes[i], sizes[i + 1], key=keys[i]) for i in range(len(keys)))
        self.norms = tuple(LayerNorm(size) for size in self.hidden) if self.layer_norm else ()

    def __call__(self, x: Float[Any, "*batch in_size"]) -> Float[Array, "*batch out_size"]:
        """The network's output, whatever axes stand before the last.

        Raises:
            ValueError: unless the last axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.shape, self.in_size)
        act = activation_function(self.activation)
        for i, layer in enumerate(self.layers[:-1]):
            h = layer(x)
            if self.layer_norm:
                h = self.norms[i](h)
            h = act(h)
            x = x + h if self.residual and h.shape == x.shape else h
        return self.layers[-1](x)

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
        value: (out_size,) the bias of every output, flattened, or a single number for all of them.

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
    if isinstance(network, MLP):
        return network.layers[-1].bias
    raise TypeError(
        f"network: got a {type(network).__name__}; expected one of {sorted(NETWORKS)}. "
        "Set the bias of a network of your own with equinox.tree_at."
    )


def state_dict(network: eqx.Module) -> dict[str, Array]:
    """The arrays of a module by name, as torch names them: fields, indices and keys joined by dots.

    Args:
        network: any Equinox module.

    Returns:
        For instance ``{"layers.0.weight": ..., "layers.0.bias": ...}``, in the order of the fields.
    """
    return {_name(path): leaf for path, leaf in _arrays(network)}


def load_state_dict(network: Network, parameters: Mapping[str, Any]) -> Network:
    """The module with other arrays, by name.

    Args:
        network: any Equinox module.
        parameters: an array for each name of ``state_dict(network)``, of the same shape; converted to the network's dtype.

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


def _arrays(network: eqx.Module) -> list[tuple[Any, Any]]:
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
