"""The shapes of images on both sides of a VAE's convolutions."""

import math
from typing import Any


def image_shapes(law: Any) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """What an encoder takes and what a decoder gives of each image.

    Args:
        law: of a datum (channels, height, width).

    Returns:
        (channels, height, width) of its features and of its law's numbers.
    """
    _, height, width = law.event_shape
    pixels = height * width
    return (math.prod(law.feature_shape) // pixels, height, width), (law.num_outputs // pixels, height, width)
