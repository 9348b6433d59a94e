"""Causal attention: what a place may attend to, and the arguments of a transformer."""

import math

import numpy as np

from deepgen import checks
from deepgen.nn import arguments

SCALE = 0.02
"""The standard deviation of a transformer's initial weights (Radford et al. 2019)."""


def causal(length: int) -> np.ndarray:
    """Which places each place attends to: itself and those before.

    Args:
        length: the number of places.

    Returns:
        (length, length) booleans, a row for each place.

    >>> causal(3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return np.tri(length, dtype=bool)


def residual_scale(num_layers: int) -> float:
    """The standard deviation of the weights that add to the residual stream, smaller the more of them there are.

    Args:
        num_layers: of the transformer, two sums each.

    Returns:
        0.02 / sqrt(2 num_layers).
    """
    return SCALE / math.sqrt(2 * num_layers)


def check_heads(width: int, num_heads: int) -> int:
    """The width of a head.

    Args:
        width: of the transformer.
        num_heads: of each layer.

    Returns:
        width / num_heads.

    Raises:
        ValueError: no whole numbers, or a width that the heads do not divide.
    """
    width, num_heads = arguments.whole("width", width), arguments.whole("num_heads", num_heads)
    if width % num_heads:
        raise checks.problem(
            "width",
            got=f"{width} for {num_heads} heads",
            expected="a multiple of num_heads",
            fix=f"Take {width + num_heads - width % num_heads}, say.",
        )
    return width // num_heads


def check_tied(tied: bool, num_params: int, num_categories: int | None, event_shape: tuple[int, ...]) -> bool:
    """Refuse to share the weights of inputs and outputs that are not the same categories.

    Args:
        tied: whether they are to be shared.
        num_params: of an entry.
        num_categories: of an entry.
        event_shape: of a datum.

    Returns:
        ``tied`` as a plain boolean.

    Raises:
        ValueError: tied weights of frames, of numbers, or of another number of parameters than categories.
    """
    if tied and (num_params != num_categories or len(event_shape) > 1):
        raise checks.problem(
            "tied",
            got=f"num_params={num_params}, num_categories={num_categories}, event_shape={event_shape}",
            expected="one category a step, and as many parameters as categories",
            fix="Leave tied out.",
        )
    return bool(tied)
