"""The layers that every Equinox network is made of: activations, linear maps, layer normalisation."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from deepgen.nn import arguments

Activation = str | Callable[..., Any]


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
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
