"""How the entries of a datum enter a network: numbers as they are or scaled, or categories as one-hot codes."""

import math
from collections.abc import Sequence
from typing import Any

import array_api_compat
from jaxtyping import Float, Shaped

from deepgen import checks
from deepgen.nn import arguments

PLACE_SCALE = 0.1
"""The standard deviation of the first features of a place: small beside data, and no two places alike."""


def features(
    x: Shaped[Any, "n *shape"], num_categories: int | None, input_range: tuple[float, float] | None, dtype: Any
) -> Float[Any, "n features *shape"]:
    """The features of each entry.

    Args:
        x: entries; integers 0 … num_categories - 1, or any numbers where that is None.
        num_categories: V, or None.
        input_range: the (low, high) that become -1 and 1, or None.
        dtype: of the features.

    Returns:
        V features of an entry that is a category, else one.

    >>> import numpy as np
    >>> features(np.array([[0, 2]]), 3, None, np.float32)[0].tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    >>> features(np.array([[0, 2]]), None, (0, 2), np.float32)[0].tolist()
    [[-1.0, 1.0]]
    """
    xp = array_api_compat.array_namespace(x)
    if num_categories is None:
        values = xp.astype(x, dtype)[:, None]
        if input_range is None:
            return values
        low, high = input_range
        return (values - low) * (2.0 / (high - low)) - 1.0
    codes = xp.arange(num_categories, device=array_api_compat.device(x))
    return xp.astype(x[:, None] == xp.reshape(codes, (num_categories, *(1,) * (x.ndim - 1))), dtype)


def num_features(num_categories: int | None, input_range: tuple[float, float] | None) -> int:
    """How many features an entry has.

    Args:
        num_categories: V, or None for numbers.
        input_range: of numbers.

    Returns:
        V or 1.

    Raises:
        ValueError: fewer than two categories, or categories with a range.
    """
    if num_categories is None:
        return 1
    if input_range is not None:
        raise checks.problem(
            "input_range",
            got=f"{input_range} beside num_categories={num_categories}",
            expected="one of both",
            fix="Leave input_range out: categories enter as one-hot codes.",
        )
    return arguments.whole("num_categories", num_categories, least=2)


def bounds(input_range: Sequence[float] | None) -> tuple[float, float] | None:
    """The range of the inputs.

    Args:
        input_range: (low, high), or None.

    Returns:
        The same as a tuple of plain numbers.

    Raises:
        ValueError: not two finite numbers, the first below the second.
    """
    if input_range is None:
        return None
    values = tuple(float(value) for value in input_range)
    if len(values) != 2 or not -math.inf < values[0] < values[1] < math.inf:
        raise checks.problem(
            "input_range", got=values, expected="(low, high), low < high", fix="Pass (0, 255) for pixels, say."
        )
    return values[0], values[1]


def check_batch(network: str, shape: tuple[int, ...], event_shape: tuple[int, ...]) -> None:
    """Refuse data that are not (n, *event_shape).

    Args:
        network: its name, for the message.
        shape: of the data.
        event_shape: of one datum.

    Raises:
        ValueError: naming both shapes.
    """
    if tuple(shape[1:]) != event_shape or len(shape) != len(event_shape) + 1:
        raise checks.problem(
            f"input of {network}",
            got=f"shape {tuple(shape)}",
            expected=f"(n, {', '.join(map(str, event_shape))})",
            fix="Reshape the data, or build the network for their event_shape.",
        )


def context_shapes(context_size: int, places: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes that the context of one row may have.

    Args:
        context_size: the length of a context vector, 0 for none.
        places: the sizes of a context that differs from place to place, behind its length.

    Returns:
        A vector, or one for each place; none where there is no context.

    >>> context_shapes(2, (8,))
    ((2,), (2, 8))
    """
    return ((context_size,), (context_size, *places)) if context_size else ()


def check_context(
    network: str, shape: tuple[int, ...] | None, context_size: int, rows: int, places: tuple[int, ...]
) -> None:
    """Refuse a context that the network was not built for.

    Args:
        network: its name, for the message.
        shape: of the context; None where there is none.
        context_size: the length of a context vector, 0 for none.
        rows: n.
        places: the sizes of a context that differs from place to place, behind (n, context_size).

    Raises:
        ValueError: a context that is missing, not wanted, or of another shape.
    """
    allowed = [(rows, context_size), (rows, context_size, *places)] if context_size else [None]
    if shape not in allowed:
        raise checks.problem(
            f"context of {network}",
            got="none" if shape is None else f"shape {tuple(shape)}",
            expected=" or ".join(map(str, allowed)) if context_size else "none",
            fix="Pass one vector for each row, or one for each row and place."
            if context_size
            else "Build the network with the context_size of these vectors.",
        )


def refuse_tied(tied: bool) -> None:
    """Refuse to start at the data's marginals where outputs are tied to the embeddings.

    Raises:
        ValueError: they are.
    """
    if tied:
        raise checks.problem(
            "data",
            got="some for outputs tied to the embeddings",
            expected="outputs with biases of their own, to start at the data's marginals",
            fix="Leave data out, or take tied=False.",
        )


def sequence_shape(event_shape: Any) -> tuple[int, ...]:
    """The shape of a sequence: (length,), or (length, width) where each frame has several entries.

    Args:
        event_shape: what came.

    Returns:
        The shape, of plain integers.

    Raises:
        ValueError: neither of both.
    """
    shape = checks.event_shape(event_shape)
    if len(shape) > 2:
        raise checks.problem(
            "event_shape",
            got=shape,
            expected="(length,), or (length, width) for frames of several entries",
            fix="Flatten each frame, and put time first.",
        )
    return shape


def frames(found: Float[Any, "n features *shape"]) -> Float[Any, "n length _"]:
    """The features of whole frames, one behind the other, from those of entries.

    Args:
        found: (n, features, length) or (n, features, length, width).

    Returns:
        (n, length, features x width).
    """
    xp = array_api_compat.array_namespace(found)
    return xp.reshape(xp.moveaxis(found, 1, 2), (found.shape[0], found.shape[2], -1))
