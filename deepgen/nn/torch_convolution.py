"""Convolutions for torch networks: the layers of `equinox_convolution` with the same parameters."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deepgen.nn import arguments
from deepgen.nn import geometry as sizes
from deepgen.nn.geometry import Padding

_CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d}


class Conv(torch.nn.Module):
    """A convolution of arrays (..., channels, *spatial), y = w * x + b, in one or two dimensions.

    Weights and biases are drawn from U(-1/sqrt(fan in), 1/sqrt(fan in)), fan in = in_channels x the kernel's entries,
    as torch does.

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

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown padding.
    """

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
    ) -> None:
        super().__init__()
        in_channels = arguments.whole("in_channels", in_channels)
        out_channels = arguments.whole("out_channels", out_channels)
        kernel = sizes.per_axis("kernel_size", kernel_size, dims)
        self.stride = sizes.per_axis("stride", stride, dims)
        self.dilation = sizes.per_axis("dilation", dilation, dims)
        self.padding = sizes.paddings(padding, kernel, self.dilation)
        fan_in = in_channels * math.prod(kernel)
        self.weight = _uniform((out_channels, in_channels, *kernel), fan_in)
        self.bias = _uniform((out_channels,), fan_in) if bias else None

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*out"]:
        """The convolution of (..., in_channels, *spatial).

        Raises:
            ValueError: other channels, or an input that is smaller than the kernel.
        """
        dims = len(self.stride)
        size = sizes.spatial("Conv", x.shape, self.weight.shape[1], dims)
        sizes.of_input(size, tuple(self.weight.shape[2:]), self.stride, self.padding, self.dilation)
        batch, event = x.shape[: -dims - 1], x.shape[-dims - 1 :]
        x = x.reshape(math.prod(batch), *event)
        even = tuple(min(pair) for pair in self.padding)
        if any(low != high for low, high in self.padding):
            ends = reversed([(low - both, high - both) for (low, high), both in zip(self.padding, even, strict=True)])
            x = F.pad(x, [end for pair in ends for end in pair])
        y = _CONVOLUTIONS[dims](x, self.weight, self.bias, self.stride, even, self.dilation)
        return y.reshape(*batch, *y.shape[1:])


class ConvTranspose(torch.nn.Module):
    """A transposed convolution of arrays (..., channels, *spatial), in one or two dimensions.

    It is the input gradient of a convolution, plus b; in size it is
    (n - 1) stride - low - high + dilation (kernel_size - 1) + 1 + output_padding. Weights and biases are drawn from
    U(-1/sqrt(fan in), 1/sqrt(fan in)), fan in = out_channels x the kernel's entries, as torch does.

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

    Raises:
        ValueError: sizes that are not whole numbers in their range, an unknown padding.
    """

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
    ) -> None:
        super().__init__()
        in_channels = arguments.whole("in_channels", in_channels)
        out_channels = arguments.whole("out_channels", out_channels)
        kernel = sizes.per_axis("kernel_size", kernel_size, dims)
        self.stride = sizes.per_axis("stride", stride, dims)
        self.dilation = sizes.per_axis("dilation", dilation, dims)
        self.padding = sizes.paddings(padding, kernel, self.dilation, transposed=True)
        self.output_padding = sizes.output_paddings(output_padding, self.stride)
        fan_in = out_channels * math.prod(kernel)
        self.weight = _uniform((in_channels, out_channels, *kernel), fan_in)
        self.bias = _uniform((out_channels,), fan_in) if bias else None

    def forward(self, x: Float[Tensor, "*batch"]) -> Float[Tensor, "*out"]:
        """The transposed convolution of (..., in_channels, *spatial).

        Raises:
            ValueError: other channels, or an output of which nothing is left.
        """
        dims = len(self.stride)
        size = sizes.spatial("ConvTranspose", x.shape, self.weight.shape[0], dims)
        kernel = tuple(self.weight.shape[2:])
        geometry = sizes.of_transposed_input(
            size, kernel, self.stride, self.padding, self.dilation, self.output_padding
        )
        batch, event = x.shape[: -dims - 1], x.shape[-dims - 1 :]
        even = tuple(min(pair) for pair in self.padding)
        y = _TRANSPOSED[dims](
            x.reshape(math.prod(batch), *event),
            self.weight,
            self.bias,
            self.stride,
            even,
            self.output_padding,
            1,
            self.dilation,
        )
        for axis, ((low, _), both, n) in enumerate(zip(self.padding, even, geometry.input_size, strict=True)):
            y = y.narrow(axis + 2, low - both, n)
        return y.reshape(*batch, *y.shape[1:])


Conv1d = functools.partial(Conv, 1)
Conv2d = functools.partial(Conv, 2)
ConvTranspose1d = functools.partial(ConvTranspose, 1)
ConvTranspose2d = functools.partial(ConvTranspose, 2)


def _uniform(shape: tuple[int, ...], fan_in: int) -> torch.nn.Parameter:
    bound = 1.0 / math.sqrt(fan_in)
    return torch.nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
