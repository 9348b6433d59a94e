"""How far back the conditionals of convolutional networks see."""

from collections.abc import Sequence

from deepgen import checks
from deepgen.nn import arguments


def of_dilations(kernel_size: int, dilations: Sequence[int]) -> int:
    """How many entries before its own a WaveNet's conditional sees, 1 + (kernel_size - 1) sum of dilations.

    Args:
        kernel_size: of every dilated convolution.
        dilations: of each.

    Returns:
        The number of entries.

    >>> of_dilations(2, [2**i for i in range(9)] * 2)
    1023
    """
    return 1 + (kernel_size - 1) * sum(dilations)


def of_kernels(kernel_sizes: Sequence[int]) -> int:
    """How many rows and columns a gated PixelCNN's conditional sees, the sum of half the kernels' sizes.

    It sees R pixels to its left, and the whole of the R rows above from R columns to its left to R to its right.

    Args:
        kernel_sizes: odd, of each layer.

    Returns:
        R.

    >>> of_kernels([7, 3, 3])
    5
    """
    return sum(size // 2 for size in kernel_sizes)


def odd(first: int, others: int, number: int) -> list[int]:
    """The kernels' sizes of a PixelCNN's layers.

    Args:
        first: of the first layer.
        others: of the others.
        number: of layers.

    Returns:
        The sizes.

    Raises:
        ValueError: a size that is not odd or less than 3.
    """
    for what, size in (("first_kernel_size", first), ("kernel_size", others)):
        if arguments.whole(what, size, least=3) % 2 == 0:
            raise checks.problem(what, got=size, expected="an odd number", fix=f"Take {size + 1}.")
    return [first] + [others] * (number - 1)


def dilations(values: Sequence[int]) -> tuple[int, ...]:
    """The dilations of a WaveNet's layers.

    Args:
        values: of each layer.

    Returns:
        The same as a tuple.

    Raises:
        ValueError: no whole numbers >= 1, or none at all.
    """
    numbers = arguments.wholes("dilations", values)
    if not numbers:
        raise checks.problem("dilations", got="none", expected="at least one", fix="Pass (1, 2, 4, 8), say.")
    return numbers
