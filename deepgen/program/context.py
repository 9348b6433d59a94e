"""The context that the rows of a conditional program are given."""

from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Shaped

from deepgen import checks


def rows(context: Any, number: int, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """A context for each of the rows, checked.

    Args:
        context: (number, *shape), or (*shape) for all rows.
        number: how many rows.
        shapes: those that the context of one row may have.

    Returns:
        (number, *shape) floats.

    Raises:
        ValueError: another shape, another number of rows, or values that are not finite.
    """
    array = np.asarray(context)
    if array.shape in shapes and (array.shape[1:] not in shapes or len(array) != number):
        array = np.broadcast_to(array, (number, *array.shape))
    if array.shape[1:] not in shapes:
        raise checks.problem(
            "context",
            got=f"shape {array.shape}",
            expected=" or ".join(str((number, *shape)) for shape in shapes) or "none",
            fix="Pass a context of that shape." if shapes else "Make the program with context_dim.",
        )
    if len(array) != number:
        raise checks.problem(
            "context",
            got=f"{len(array)} rows",
            expected=f"{number}, one for each row that is given or drawn",
            fix="Pass as many of each.",
        )
    array = checks.data("context", array, array.shape[1:])
    # a copy: torch warns of views that may not be written to
    return np.array(array, dtype=array.dtype if array.dtype.kind == "f" else np.float32)


def repeated(context: Shaped[Any, "n *shape"], number: int) -> Shaped[Any, "number *shape"]:
    """The context of any number of rows, which repeat these n.

    Args:
        context: of n rows.
        number: of rows that are asked for.

    Returns:
        Of row i that of row i modulo n.

    >>> repeated(np.array([1.0, 2.0]), 3).tolist()
    [1.0, 2.0, 1.0]
    """
    xp = array_api_compat.array_namespace(context)
    index = xp.arange(number, device=array_api_compat.device(context)) % context.shape[0]
    return xp.take(context, index, axis=0)
