"""The orders in which entries are decided, as flat indices into the event: pixels by rows, frames in time."""

import numpy as np


def raster(event_shape: tuple[int, int, int], coupled: bool) -> np.ndarray:
    """Row by row from the left, the channels of a pixel one after the other, or together.

    Args:
        event_shape: (channels, height, width).
        coupled: whether a pixel's channels are decided together.

    Returns:
        (steps, entries of a step).

    >>> raster((2, 1, 2), False).tolist()
    [[0], [2], [1], [3]]
    """
    channels, height, width = event_shape
    pixels = np.arange(channels * height * width).reshape(channels, height * width).T
    return pixels if coupled else pixels.reshape(-1, 1)


def sequence(event_shape: tuple[int, ...]) -> np.ndarray:
    """Along the first axis, all of a frame together.

    Args:
        event_shape: (length,) or (length, width of a frame).

    Returns:
        (length, entries of a frame).

    >>> sequence((2, 3)).tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    return np.arange(int(np.prod(event_shape))).reshape(event_shape[0], -1)
