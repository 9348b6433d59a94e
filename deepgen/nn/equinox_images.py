"""Convolutional networks from images to vectors and back, as Equinox modules."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from deepgen.nn import arguments, geometry
from deepgen.nn.equinox_convolution import Conv, ConvTranspose
from deepgen.nn.equinox_layers import MLP, Activation, activation_function


class ConvEncoder(eqx.Module):
    """From images (..., c, h, w) to vectors (..., out_size).

    Each convolution halves the image (stride 2, an odd size rounded up) and is followed by the activation; what remains
    is flattened and goes through a multilayer perceptron, which without ``hidden`` is one linear map. There is no
    forward-mode derivative.

    Args:
        in_shape: (channels, height, width) of an image, of any size.
        out_size: the length of the output.
        channels: of each convolution's output.
        hidden: the widths of the perceptron's hidden layers.
        kernel_size: of all convolutions, at least 2.
        activation: its name (elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh), or a function.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown activation.
    """

    convolutions: tuple[Conv, ...]
    head: MLP
    in_shape: tuple[int, int, int] = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_shape: Sequence[int],
        out_size: int,
        channels: Sequence[int] = (32, 64),
        *,
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        activation: Activation = "gelu",
        key: PRNGKeyArray,
    ) -> None:
        self.in_shape = arguments.image_shape("in_shape", in_shape)
        self.channels = arguments.channels(channels)
        self.kernel_size = arguments.whole("kernel_size", kernel_size, least=2)
        *keys, head_key = jax.random.split(key, len(self.channels) + 1)
        widths = (self.in_shape[0], *self.channels)
        self.convolutions = tuple(
            Conv(2, widths[i], widths[i + 1], self.kernel_size, stride=2, padding="same", key=keys[i])
            for i in range(len(self.channels))
        )
        features = self.channels[-1] * math.prod(arguments.halved(self.in_shape[1:], len(self.channels))[-1])
        self.head = MLP(features, out_size, hidden, activation=activation, key=head_key)

    def __call__(self, x: Float[Any, "*batch c h w"]) -> Float[Array, "*batch out_size"]:
        """The vectors of the images, whatever axes stand before them.

        Raises:
            ValueError: images of another shape.
        """
        arguments.last_axes("ConvEncoder", x.shape, self.in_shape)
        act = activation_function(self.head.activation)
        batch = x.shape[:-3]
        h = jnp.moveaxis(x.reshape(math.prod(batch), *self.in_shape), 1, -1)
        for layer in self.convolutions:
            h = act(layer.channels_last(h))
        return self.head(jnp.moveaxis(h, -1, 1).reshape(*batch, self.head.in_size))

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "ConvEncoder",
            {
                "in_shape": self.in_shape,
                "out_size": self.head.out_size,
                "channels": self.channels,
                "hidden": self.head.hidden,
                "kernel_size": self.kernel_size,
                "activation": self.head.activation,
            },
        )


class ConvDecoder(eqx.Module):
    """From vectors (..., in_size) to images (..., c, h, w).

    The encoder turned round: a multilayer perceptron makes a small image of ``channels[0]`` channels, and each
    transposed convolution doubles it (stride 2; odd sizes come out as asked). The activation stands before every
    convolution. A bias for every entry of the image is added at the end, zero at first, which ``output_bias`` sets,
    to the mean image, say. There is no forward-mode derivative.

    Args:
        in_size: the length of the input.
        out_shape: (channels, height, width) of an image, of any size.
        channels: of each transposed convolution's input.
        hidden: the widths of the perceptron's hidden layers.
        kernel_size: of all convolutions, at least 2.
        activation: its name (elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh), or a function.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown activation.
    """

    bias: Float[Array, "c h w"]
    head: MLP
    convolutions: tuple[ConvTranspose, ...]
    out_shape: tuple[int, int, int] = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        *,
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        activation: Activation = "gelu",
        key: PRNGKeyArray,
    ) -> None:
        self.out_shape = arguments.image_shape("out_shape", out_shape)
        self.channels = arguments.channels(channels)
        self.kernel_size = arguments.whole("kernel_size", kernel_size, least=2)
        head_key, *keys = jax.random.split(key, len(self.channels) + 1)
        sizes = arguments.halved(self.out_shape[1:], len(self.channels))[::-1]
        features = self.channels[0] * math.prod(sizes[0])
        self.bias = jnp.zeros(self.out_shape)
        self.head = MLP(in_size, features, hidden, activation=activation, key=head_key)
        widths = (*self.channels, self.out_shape[0])
        self.convolutions = tuple(
            ConvTranspose(
                2,
                widths[i],
                widths[i + 1],
                self.kernel_size,
                stride=2,
                padding="same",
                output_padding=[1 - n % 2 for n in sizes[i + 1]],
                bias=i + 1 < len(self.channels),
                key=keys[i],
            )
            for i in range(len(self.channels))
        )

    def __call__(self, x: Float[Any, "*batch in_size"]) -> Float[Array, "*batch c h w"]:
        """The images of the vectors, whatever axes stand before the last.

        Raises:
            ValueError: unless the last axis has ``in_size`` entries.
        """
        arguments.last_axis("ConvDecoder", x.shape, self.head.in_size)
        act = activation_function(self.head.activation)
        batch = x.shape[:-1]
        size = arguments.halved(self.out_shape[1:], len(self.channels))[-1]
        h = jnp.moveaxis(self.head(x).reshape(math.prod(batch), self.channels[0], *size), 1, -1)
        for layer in self.convolutions:
            h = layer.channels_last(act(h))
        return jnp.moveaxis(h, -1, 1).reshape(*batch, *self.out_shape) + self.bias

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "ConvDecoder",
            {
                "in_size": self.head.in_size,
                "out_shape": self.out_shape,
                "channels": self.channels,
                "hidden": self.head.hidden,
                "kernel_size": self.kernel_size,
                "activation": self.head.activation,
            },
        )


class ConvNet(eqx.Module):
    """From images (..., in_channels, h, w) to images (..., out_channels, h, w) of the same size.

    A convolution, then one of 1 x 1 for each further entry of ``hidden``, each followed by the activation, then a last
    convolution; zeros stand around the image. Without ``hidden`` it is one convolution. There is no
    forward-mode derivative.

    Kingma & Dhariwal 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        hidden: the channels between the convolutions.
        kernel_size: of the first and the last convolution.
        activation: its name (elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh), or a function.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown activation.
    """

    layers: tuple[Conv, ...]
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    hidden: tuple[int, ...] = eqx.field(static=True)
    kernel_size: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden: Sequence[int] = (64, 64),
        *,
        kernel_size: int = 3,
        activation: Activation = "gelu",
        key: PRNGKeyArray,
    ) -> None:
        arguments.activation(activation)
        self.in_channels = arguments.whole("in_channels", in_channels)
        self.out_channels = arguments.whole("out_channels", out_channels)
        self.hidden = arguments.wholes("hidden", hidden)
        self.kernel_size = arguments.whole("kernel_size", kernel_size)
        self.activation = activation
        widths = (self.in_channels, *self.hidden, self.out_channels)
        inner = [1] * (len(self.hidden) - 1)
        kernels = [self.kernel_size, *inner, self.kernel_size] if self.hidden else [self.kernel_size]
        keys = jax.random.split(key, len(kernels))
        self.layers = tuple(
            Conv(2, widths[i], widths[i + 1], kernel, padding="same", key=keys[i]) for i, kernel in enumerate(kernels)
        )

    def __call__(self, x: Float[Any, "*batch c h w"]) -> Float[Array, "*batch out_channels h w"]:
        """The images made of the images, whatever axes stand before them.

        Raises:
            ValueError: images of other channels.
        """
        geometry.spatial("ConvNet", x.shape, self.in_channels, 2)
        act = activation_function(self.activation)
        h = jnp.moveaxis(x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:]), 1, -1)
        for layer in self.layers[:-1]:
            h = act(layer.channels_last(h))
        return jnp.moveaxis(self.layers[-1].channels_last(h), -1, 1).reshape(*x.shape[:-3], -1, *x.shape[-2:])

    def spec(self) -> dict[str, Any]:
        """The network's name and arguments, as JSON knows them; ``build`` makes the network again.

        Raises:
            ValueError: where the activation is a function.
        """
        return arguments.spec(
            "ConvNet",
            {
                "in_channels": self.in_channels,
                "out_channels": self.out_channels,
                "hidden": self.hidden,
                "kernel_size": self.kernel_size,
                "activation": self.activation,
            },
        )
