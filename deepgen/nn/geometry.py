"""The sizes of convolutions: what stride, padding and dilation make of an input's size, for both engines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from deepgen import checks
from deepgen.nn import arguments

Padding = int | str | Sequence[int | Sequence[int]]


class Geometry(NamedTuple):
    """One convolution's sizes, an entry for each spatial axis; hashable, so that a compiled program may depend on it.

    y[i] = sum_j w[j] x[i * stride + j * dilation - low], for 0 <= i < output_size, with zeros outside x.

    Attributes:
        input_size: the sizes of x.
        kernel_size: the sizes of w.
        stride: the steps from one output to the next.
        padding: the zeros before (low) and behind (high) x.
        dilation: the steps from one weight to the next.
    """

    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """The distance from a kernel's first weight to its last, dilation (kernel_size - 1)."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))

    @property
    def slack(self) -> tuple[int, ...]:
        """How far the kernel could move from its first place; below zero where it does not fit at all."""
        axes = zip(self.input_size, self.padding, self.reach, strict=True)
        return tuple(n + low + high - reach - 1 for n, (low, high), reach in axes)

    @property
    def output_size(self) -> tuple[int, ...]:
        """The sizes of y, floor(slack / stride) + 1."""
        return tuple(slack // s + 1 for slack, s in zip(self.slack, self.stride, strict=True))

    @property
    def unused(self) -> tuple[int, ...]:
        """How many entries at the end of the padded input no output sees, slack mod stride."""
        return tuple(slack % s for slack, s in zip(self.slack, self.stride, strict=True))


def of_input(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> Geometry:
    """The geometry of a convolution of an input of that size.

    Raises:
        ValueError: where the kernel does not fit into the padded input.
    """
    geometry = Geometry(input_size, kernel_size, stride, padding, dilation)
    if min(geometry.slack) < 0:
        raise checks.problem(
            "input of a convolution",
            got=f"spatial shape {input_size}, padded by {padding}",
            expected=f"at least {tuple(reach + 1 for reach in geometry.reach)} with the padding, the kernel's reach",
            fix='Use a smaller kernel or dilation, or padding="same".',
        )
    return geometry


def of_transposed_input(
    size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
) -> Geometry:
    """The geometry of the convolution whose input gradient maps an array of that size.

    Its ``input_size`` is the transposed convolution's output size,
    (size - 1) stride - low - high + dilation (kernel_size - 1) + 1 + output_padding.

    Raises:
        ValueError: where nothing is left of the output.
    """
    axes = zip(size, kernel_size, stride, padding, dilation, output_padding, strict=True)
    output = tuple((n - 1) * s - low - high + d * (k - 1) + 1 + extra for n, k, s, (low, high), d, extra in axes)
    if min(output) < 1 or min(size) < 1:
        raise checks.problem(
            "input of a transposed convolution",
            got=f"spatial shape {size}, of which {output} would be left",
            expected="an output of at least 1 along each axis",
            fix="Use less padding or a larger kernel.",
        )
    return Geometry(output, kernel_size, stride, padding, dilation)


def per_axis(what: str, value: int | Sequence[int], dims: int, *, least: int = 1) -> tuple[int, ...]:
    """A whole number for each spatial axis, from one number for all or from one for each.

    Raises:
        ValueError: no whole numbers, or not ``dims`` of them; ``dims`` neither 1 nor 2.
    """
    checks.one_of("dims", dims, (1, 2))
    if not isinstance(value, Sequence) or isinstance(value, str):
        return (arguments.whole(what, value, least=least),) * dims
    numbers = arguments.wholes(what, value, least=least)
    if len(numbers) != dims:
        raise checks.problem(
            what, got=numbers, expected=f"one number, or {dims} of them", fix="Give one for each spatial axis."
        )
    return numbers


def paddings(
    padding: Padding, kernel_size: tuple[int, ...], dilation: tuple[int, ...], *, transposed: bool = False
) -> tuple[tuple[int, int], ...]:
    """The zeros before and behind each spatial axis.

    Args:
        padding: a number for all axes and both ends; for each axis a number or a pair (low, high); ``"same"``, which
            makes an output of ceil(n / stride), dilation (kernel_size - 1) zeros shared out as torch does; or
            ``"causal"``, in one dimension: an output sees no later input.
        kernel_size: of each axis.
        dilation: of each axis.
        transposed: whether this is for a transposed convolution, which is causal when its *end* is cut.

    Returns:
        A pair (low, high) for each axis.

    Raises:
        ValueError: another word, negative or no numbers, not one for each axis, causal in two dimensions.
    """
    reach = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    if padding == "same":
        return tuple((r // 2, r - r // 2) for r in reach)
    if padding == "causal" and len(reach) == 1:
        return ((0, reach[0]),) if transposed else ((reach[0], 0),)
    if isinstance(padding, str):
        words = '"same" or "causal"' if len(reach) == 1 else '"same" ("causal" is for one dimension)'
        raise checks.problem(
            "padding", got=repr(padding), expected=f"numbers, {words}", fix="Give numbers, or such a word."
        )
    ends: list[Any] = list(padding) if isinstance(padding, Sequence) else [padding] * len(reach)
    pairs = [tuple(end) if isinstance(end, Sequence) else (end, end) for end in ends]
    if len(pairs) != len(reach) or any(len(pair) != 2 for pair in pairs):
        raise checks.problem(
            "padding",
            got=padding,
            expected=f"one number, or for each of the {len(reach)} axes a number or a pair (low, high)",
            fix="Give one for each spatial axis.",
        )
    return tuple(
        (arguments.whole("padding", low, least=0), arguments.whole("padding", high, least=0)) for low, high in pairs
    )


def output_paddings(output_padding: int | Sequence[int], stride: tuple[int, ...]) -> tuple[int, ...]:
    """The additional size of a transposed convolution's output, for each axis.

    Raises:
        ValueError: unless 0 <= output_padding < stride.
    """
    numbers = per_axis("output_padding", output_padding, len(stride), least=0)
    if any(extra >= s for extra, s in zip(numbers, stride, strict=True)):
        raise checks.problem(
            "output_padding",
            got=numbers,
            expected=f"less than the stride {stride}",
            fix="An output longer by a whole stride has an input longer by one.",
        )
    return numbers


def spatial(network: str, shape: tuple[int, ...], channels: int, dims: int) -> tuple[int, ...]:
    """The spatial sizes of a layer's input, which is (..., channels, *spatial).

    Raises:
        ValueError: too few axes, or another number of channels.
    """
    if len(shape) < dims + 1 or shape[-dims - 1] != channels:
        axes = ["length"] if dims == 1 else ["height", "width"]
        raise checks.problem(
            f"input of {network}",
            got=f"shape {tuple(shape)}",
            expected=f"(..., {channels}, {', '.join(axes)}): channels first",
            fix="Move the channels before the spatial axes, or build the layer for these channels.",
        )
    return tuple(shape[-dims:])
