"""Causal attention: what a place may attend to, and the arguments of a transformer."""

import math
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Float

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


def noise_shapes(n: int, length: int, width: int, num_heads: int, num_layers: int) -> list[list[tuple[int, ...]]]:
    """The shapes of the uniform noise that says which units of a transformer are dropped.

    Args:
        n: the number of rows.
        length: of the sequences.
        width: of the residual stream.
        num_heads: of each layer.
        num_layers: how many.

    Returns:
        First that of the embeddings alone; then, of each layer, those of the attention weights, of what attention adds
        to the stream and of what the perceptron adds.
    """
    stream, weights = (n, length, width), (n, num_heads, length, length)
    return [[stream], *([weights, stream, stream] for _ in range(num_layers))]


def drop(x: Float[Any, "*shape"], noise: Float[Any, "*shape"] | None, rate: float) -> Float[Any, "*shape"]:
    r"""Units dropped at random, the others scaled up, so that the mean over the noise is what came.

    .. math:: x \, 1[u \ge p] / (1 - p)

    Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.

    Args:
        x: units.
        noise: u, uniform on [0, 1); None drops nothing.
        rate: p, in [0, 1).

    Returns:
        The units that are left.

    >>> drop(np.array([3.0, 3.0]), np.array([0.2, 0.3]), 0.25).tolist()
    [0.0, 4.0]
    """
    if noise is None:
        return x
    xp = array_api_compat.array_namespace(x)
    return xp.where(noise >= rate, x / (1 - rate), xp.zeros_like(x))


def check_dropout(rate: Any) -> float:
    """A rate of dropout.

    Args:
        rate: p.

    Returns:
        The same as a plain number.

    Raises:
        ValueError: not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise checks.problem(
            "dropout",
            got=rate,
            expected="a rate in [0, 1)",
            fix="Pass the share of units to drop, such as 0.1; 0 for none.",
        )
    return float(rate)


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
