"""The channels of a masked convolution by the colour that they belong to (van den Oord et al. 2016)."""

import numpy as np

from deepgen import checks


def colours(size: int, num_colours: int, halves: int = 1) -> np.ndarray:
    """The colour of each channel: they take turns.

    Args:
        size: the number of channels.
        num_colours: how many colours there are.
        halves: into how many equal parts the channels fall, in each of which the turns begin anew.

    Returns:
        (size,) integers 0 … num_colours - 1.

    >>> colours(6, 3).tolist()
    [0, 1, 2, 0, 1, 2]
    """
    return np.arange(size) % (size // halves) % num_colours


def mask(outputs: np.ndarray, inputs: np.ndarray, *, strict: bool) -> np.ndarray:
    """Which inputs of its own pixel a channel may see: those of earlier colours, and of its own unless ``strict``.

    Mask A of the first layer is strict, mask B of the others is not.

    Args:
        outputs: (o,) the colour of each output.
        inputs: (i,) the colour of each input.
        strict: whether a colour does not see itself.

    Returns:
        (o, i) booleans.

    >>> mask(np.arange(3), np.arange(3), strict=True).astype(int).tolist()
    [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
    """
    return inputs < outputs[:, None] if strict else inputs <= outputs[:, None]


def taps_mask(outputs: np.ndarray, inputs: np.ndarray, width: int, *, strict: bool) -> np.ndarray:
    """The mask of a horizontal convolution, whose last tap is on the pixel itself.

    Args:
        outputs: (o,) the colour of each output.
        inputs: (i,) the colour of each input.
        width: the number of taps.
        strict: whether a colour does not see itself.

    Returns:
        (o, i, 1, width) booleans: whatever is to the left, and of the pixel itself what `mask` lets through.
    """
    seen = np.ones((len(outputs), len(inputs), 1, width), dtype=bool)
    seen[..., -1] = mask(outputs, inputs, strict=strict)[:, :, None]
    return seen


def check_width(channels: int, num_colours: int) -> None:
    """Refuse too few channels to have one for each colour.

    Args:
        channels: of a layer.
        num_colours: of an image.

    Raises:
        ValueError: naming both.
    """
    if channels < num_colours:
        raise checks.problem(
            "channels",
            got=channels,
            expected=f"at least {num_colours}, one for each channel of a pixel",
            fix="Use more channels, or coupled=True with a law that couples a pixel's channels itself.",
        )
