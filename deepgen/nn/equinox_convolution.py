"""Convolutions for Equinox networks, fast inside compiled loops and at every order of reverse differentiation.

XLA brings a convolution into its fast form only in a program's entry computation on the CPU, not inside ``while`` and
``scan``: there the gradients of ``jax.lax.conv_general_dilated`` run ten to forty times slower. Here a convolution and
both of its gradients are written in the fast form to begin with: data (n, *spatial, c), kernel (*spatial, in, out).

The trilinear form T(x, w, y) = <convolution(x, w), y> has three partial gradients, and differentiating one of them
gives the other two, so the three maps below are closed under differentiation. There is no forward mode
(``jax.jvp``, ``jax.hessian``): take ``jax.jacrev(jax.grad(f))``, and v'Jv as <vjp(v), v>.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from deepgen.nn import arguments
from deepgen.nn import geometry as sizes
from deepgen.nn.equinox_layers import uniform
from deepgen.nn.geometry import Geometry, Padding

_LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(
    x: Float[Any, "n *spatial c"], w: Float[Any, "*kernel c o"], geometry: Geometry
) -> Float[Array, "n *out o"]:
    """Convolve, without flipping the kernel: y[i] = sum_j x[i * stride + j * dilation - low] w[j].

    Args:
        x: the data, channels last.
        w: the kernel.
        geometry: the sizes.

    Returns:
        y, channels last.
    """
    return _convolve(x, w, geometry.stride, geometry.padding, (1,) * len(geometry.stride), geometry.dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def input_gradient(
    y: Float[Any, "n *out o"], w: Float[Any, "*kernel c o"], geometry: Geometry
) -> Float[Array, "n *spatial c"]:
    """The x̄ with <x̄, x> = <convolution(x, w), y> for every x; also the transposed convolution of y.

    It is the convolution of y, dilated by the stride, with the flipped kernel, its channels exchanged.

    Args:
        y: an array of the convolution's output shape, channels last.
        w: the kernel.
        geometry: the sizes of the convolution.

    Returns:
        x̄, of the convolution's input shape.
    """
    dims = len(geometry.stride)
    flipped = jnp.swapaxes(jnp.flip(w, range(dims)), -1, -2)
    padding = tuple(
        (reach - low, reach - high + unused)
        for reach, (low, high), unused in zip(geometry.reach, geometry.padding, geometry.unused, strict=True)
    )
    return _convolve(y, flipped, (1,) * dims, padding, geometry.stride, geometry.dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def kernel_gradient(
    x: Float[Any, "n *spatial c"], y: Float[Any, "n *out o"], geometry: Geometry
) -> Float[Array, "*kernel c o"]:
    """The w̄ with <w̄, w> = <convolution(x, w), y> for every w.

    It is the convolution of x with y, dilated by the stride, the batch summed over in the place of the channels.

    Args:
        x: the data, channels last.
        y: an array of the convolution's output shape, channels last.
        geometry: the sizes of the convolution.

    Returns:
        w̄, of the kernel's shape.
    """
    dims = len(geometry.stride)
    padding = tuple((low, high - unused) for (low, high), unused in zip(geometry.padding, geometry.unused, strict=True))
    gradient = _convolve(
        jnp.swapaxes(x, 0, -1), jnp.moveaxis(y, 0, -2), geometry.dilation, padding, (1,) * dims, geometry.stride
    )
    return jnp.moveaxis(gradient, 0, -2)


def _convolve(
    x: Any,
    w: Any,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    input_dilation: tuple[int, ...],
    kernel_dilation: tuple[int, ...],
) -> Any:
    """One of XLA's convolutions; a negative padding is cut off first, since the fast form knows none."""
    dims = len(stride)
    if min(end for pair in padding for end in pair) < 0:
        ends = [(low, high, d - 1) for (low, high), d in zip(padding, input_dilation, strict=True)]
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
        padding, input_dilation = ((0, 0),) * dims, (1,) * dims
    return jax.lax.conv_general_dilated(
        x,
        w,
        stride,
        padding,
        lhs_dilation=input_dilation,
        rhs_dilation=kernel_dilation,
        dimension_numbers=_LAYOUTS[dims],
    )


def _keep(rule: Any) -> Any:
    return lambda first, second, geometry: (rule(first, second, geometry), (first, second))


convolution.defvjp(
    _keep(convolution),
    lambda g, kept, y: (input_gradient(y, kept[1], g), kernel_gradient(kept[0], y, g)),
)
input_gradient.defvjp(
    _keep(input_gradient),
    lambda g, kept, x: (convolution(x, kept[1], g), kernel_gradient(x, kept[0], g)),
)
kernel_gradient.defvjp(
    _keep(kernel_gradient),
    lambda g, kept, w: (input_gradient(kept[1], w, g), convolution(kept[0], w, g)),
)


class Conv(eqx.Module):
    """A convolution of arrays (..., channels, *spatial), y = w * x + b, in one or two dimensions.

    Weights and biases are drawn from U(-1/sqrt(fan in), 1/sqrt(fan in)), fan in = in_channels x the kernel's entries,
    as in torch. There is no forward-mode derivative.

    Args:
        dims: the number of spatial axes, 1 or 2.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one for all axes, or one for each.
        stride: likewise.
        padding: zeros at both ends, for all axes or for each; or for each axis a pair (low, high); or ``"same"``, for
            an output of ceil(n / stride); or ``"causal"``, in one dimension, for an output that sees no later input.
        dilation: the steps from one weight to the next, one for all axes or one for each.
        bias: whether there is a b.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown padding.
    """

    weight: Float[Array, "out_channels in_channels *kernel"]
    bias: Float[Array, "out_channels"] | None
    stride: tuple[int, ...] = eqx.field(static=True)
    padding: tuple[tuple[int, int], ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        key: PRNGKeyArray,
    ) -> None:
        in_channels = arguments.whole("in_channels", in_channels)
        out_channels = arguments.whole("out_channels", out_channels)
        kernel = sizes.per_axis("kernel_size", kernel_size, dims)
        self.stride = sizes.per_axis("stride", stride, dims)
        self.dilation = sizes.per_axis("dilation", dilation, dims)
        self.padding = sizes.paddings(padding, kernel, self.dilation)
        weight_key, bias_key = jax.random.split(key)
        fan_in = in_channels * math.prod(kernel)
        self.weight = uniform(weight_key, (out_channels, in_channels, *kernel), fan_in)
        self.bias = uniform(bias_key, (out_channels,), fan_in) if bias else None

    def __call__(self, x: Float[Any, "*batch"]) -> Float[Array, "*out"]:
        """The convolution of (..., in_channels, *spatial).

        Raises:
            ValueError: other channels, or an input that is smaller than the kernel.
        """
        return _channels_first(self, x, len(self.stride))

    def channels_last(self, x: Float[Any, "n *spatial in_channels"]) -> Float[Array, "n *out out_channels"]:
        """The same for (n, *spatial, in_channels), for use between layers."""
        kernel = self.weight.shape[2:]
        geometry = sizes.of_input(x.shape[1:-1], kernel, self.stride, self.padding, self.dilation)
        x, w = _promoted(x, _kernel_last(self.weight))
        y = convolution(x, w, geometry)
        return y if self.bias is None else y + self.bias


class ConvTranspose(eqx.Module):
    """A transposed convolution of arrays (..., channels, *spatial), in one or two dimensions.

    It is the input gradient of a convolution, plus b; in size it is
    (n - 1) stride - low - high + dilation (kernel_size - 1) + 1 + output_padding. Weights and biases are drawn from
    U(-1/sqrt(fan in), 1/sqrt(fan in)), fan in = out_channels x the kernel's entries, as in torch. There is no
    forward-mode derivative.

    Args:
        dims: the number of spatial axes, 1 or 2.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one for all axes, or one for each.
        stride: likewise.
        padding: what is cut off both ends of the output, in the forms that ``Conv`` knows; ``"same"`` makes an output
            of (n - 1) stride + 1 + output_padding, ``"causal"`` one that sees no later input.
        output_padding: by how much the output is longer at its end, less than the stride.
        dilation: the steps from one weight to the next, one for all axes or one for each.
        bias: whether there is a b.
        key: for the initial parameters.

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown padding.
    """

    weight: Float[Array, "in_channels out_channels *kernel"]
    bias: Float[Array, "out_channels"] | None
    stride: tuple[int, ...] = eqx.field(static=True)
    padding: tuple[tuple[int, int], ...] = eqx.field(static=True)
    output_padding: tuple[int, ...] = eqx.field(static=True)
    dilation: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        key: PRNGKeyArray,
    ) -> None:
        in_channels = arguments.whole("in_channels", in_channels)
        out_channels = arguments.whole("out_channels", out_channels)
        kernel = sizes.per_axis("kernel_size", kernel_size, dims)
        self.stride = sizes.per_axis("stride", stride, dims)
        self.dilation = sizes.per_axis("dilation", dilation, dims)
        self.padding = sizes.paddings(padding, kernel, self.dilation, transposed=True)
        self.output_padding = sizes.output_paddings(output_padding, self.stride)
        weight_key, bias_key = jax.random.split(key)
        fan_in = out_channels * math.prod(kernel)
        self.weight = uniform(weight_key, (in_channels, out_channels, *kernel), fan_in)
        self.bias = uniform(bias_key, (out_channels,), fan_in) if bias else None

    def __call__(self, x: Float[Any, "*batch"]) -> Float[Array, "*out"]:
        """The transposed convolution of (..., in_channels, *spatial).

        Raises:
            ValueError: other channels, or an output of which nothing is left.
        """
        return _channels_first(self, x, len(self.stride))

    def channels_last(self, x: Float[Any, "n *spatial in_channels"]) -> Float[Array, "n *out out_channels"]:
        """The same for (n, *spatial, in_channels), for use between layers."""
        kernel = self.weight.shape[2:]
        geometry = sizes.of_transposed_input(
            x.shape[1:-1], kernel, self.stride, self.padding, self.dilation, self.output_padding
        )
        x, w = _promoted(x, _kernel_last(self.weight))
        y = input_gradient(x, w, geometry)
        return y if self.bias is None else y + self.bias


Conv1d = functools.partial(Conv, 1)
Conv2d = functools.partial(Conv, 2)
ConvTranspose1d = functools.partial(ConvTranspose, 1)
ConvTranspose2d = functools.partial(ConvTranspose, 2)


def _channels_first(layer: Conv | ConvTranspose, x: Any, dims: int) -> Any:
    channels = layer.weight.shape[1 if isinstance(layer, Conv) else 0]
    sizes.spatial(type(layer).__name__, x.shape, channels, dims)
    batch, event = x.shape[: -dims - 1], x.shape[-dims - 1 :]
    y = layer.channels_last(jnp.moveaxis(x.reshape(math.prod(batch), *event), 1, -1))
    return jnp.moveaxis(y, -1, 1).reshape(*batch, y.shape[-1], *y.shape[1:-1])


def _kernel_last(weight: Any) -> Any:
    """Torch's (out, in, *kernel), or transposed (in, out, *kernel), as (*kernel, in, out) of the convolution."""
    return jnp.moveaxis(weight, (1, 0), (-2, -1))


def _promoted(x: Any, w: Any) -> tuple[Any, Any]:
    dtype = jnp.result_type(x, w)
    return x.astype(dtype), w.astype(dtype)
