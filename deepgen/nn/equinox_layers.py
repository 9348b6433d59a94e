"""Activations, linear maps and layer normalisation as Equinox modules, and the perceptron made of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from deepgen.nn import arguments

Activation = str | Callable[..., Any]


def gelu(x: Float[Any, "*shape"]) -> Float[Array, "*shape"]:
    """Gaussian error linear unit, x Φ(x), by erf as in torch (``jax.nn.gelu`` goes by erfc, which is slower)."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * math.sqrt(0.5)))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "elu": jax.nn.elu,
    "gelu": gelu,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}


def activation_function(activation: Activation) -> Callable[..., Any]:
    """The function of that name, or the function itself."""
    return _FUNCTIONS[activation] if isinstance(activation, str) else activation


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
    """Draw from U(-1/sqrt(fan_in), 1/sqrt(fan_in)): torch's initial law of linear and convolutional layers."""
    bound = 1.0 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class Linear(eqx.Module):
    """A linear map of the last axis, y = W x + b.

    Both are drawn from U(-1/sqrt(in_size), 1/sqrt(in_size)), as in torch.

    Args:
        in_size: the length of the input's last axis.
        out_size: the length of the output's.
        bias: whether there is a b.
        key: for the initial parameters.
    """

    weight: Float[Array, "out_size in_size"]
    bias: Float[Array, "out_size"] | None

    def __init__(self, in_size: int, out_size: int, *, bias: bool = True, key: PRNGKeyArray) -> None:
        in_size = arguments.whole("in_size", in_size)
        out_size = arguments.whole("out_size", out_size)
        weight_key, bias_key = jax.random.split(key)
        self.weight = uniform(weight_key, (out_size, in_size), in_size)
        self.bias = uniform(bias_key, (out_size,), in_size) if bias else None

    def __call__(self, x: Float[Any, "*batch in_size"]) -> Float[Array, "*batch out_size"]:
        """W x + b over the last axis, whatever stands before it."""
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


def scaled(layer: Any, gain: float) -> Any:
    """The layer, its weight multiplied by a number."""
    return eqx.tree_at(lambda layer: layer.weight, layer, gain * layer.weight)


class LayerNorm(eqx.Module):
    """Layer normalisation of the last axis, y = w (x - mean) / sqrt(var + 1e-5) + b, with w = 1 and b = 0 at first.

    Args:
        size: the length of the last axis.

    References:
        Ba, Kiros and Hinton, "Layer normalization", 2016.
    """

    weight: Float[Array, "size"]
    bias: Float[Array, "size"]

    def __init__(self, size: int) -> None:
        size = arguments.whole("size", size)
        self.weight = jnp.ones(size)
        self.bias = jnp.zeros(size)

    def __call__(self, x: Float[Any, "*batch size"]) -> Float[Array, "*batch size"]:
        """Normalise the last axis, whatever stands before it."""
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-5) * self.weight + self.bias


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
        skip: whether a linear map of the input without bias is added to the output, a linear path beside the network.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers >= 1, an unknown activation.
    """

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    skip: Linear | None
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
        skip: bool = False,
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
        skip_key = jax.random.fold_in(key, len(keys))
        self.skip = Linear(self.in_size, self.out_size, bias=False, key=skip_key) if skip else None
        self.norms = tuple(LayerNorm(size) for size in self.hidden) if self.layer_norm else ()

    def __call__(self, x: Float[Any, "*batch in_size"]) -> Float[Array, "*batch out_size"]:
        """The network's output, whatever axes stand before the last.

        Raises:
            ValueError: unless the last axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.shape, self.in_size)
        direct = None if self.skip is None else self.skip(x)
        y = self.layers[-1](self._hidden(x))
        return y if direct is None else y + direct

    def leading(self, x: Float[Any, "in_size n"]) -> Float[Array, "out_size n"]:
        """The output of an input whose axis stands in front, in front too: rows last, in all layers.

        Raises:
            ValueError: unless the first axis has ``in_size`` entries.
        """
        arguments.last_axis("MLP", x.T.shape, self.in_size)
        act, h = activation_function(self.activation), x
        for i, layer in enumerate(self.layers[:-1]):
            g = _leading(layer, h)
            if self.layer_norm:
                g = self.norms[i](g.T).T
            g = act(g)
            h = h + g if self.residual and g.shape == h.shape else g
        y = _leading(self.layers[-1], h)
        return y if self.skip is None else y + self.skip.weight @ x

    def _hidden(self, x: Any) -> Any:
        act = activation_function(self.activation)
        for i, layer in enumerate(self.layers[:-1]):
            h = layer(x)
            if self.layer_norm:
                h = self.norms[i](h)
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


def _leading(layer: Any, x: Array) -> Array:
    return layer.weight @ x + layer.bias[:, None]
