"""The size of a step's error."""

from typing import Any

import array_api_compat
from jaxtyping import Float


def largest_row(*parts: Float[Any, "n ..."]) -> Float[Any, ""]:
    """The largest root mean square of a row: each row has to meet the tolerance, not the mean of them all.

    Args:
        parts: of the state, each (n, *any).

    Returns:
        The largest over all rows of all parts.
    """
    xp = array_api_compat.array_namespace(*parts)
    rows = [xp.mean(xp.reshape(part, (part.shape[0], -1)) ** 2, axis=1) for part in parts]
    return xp.sqrt(xp.max(xp.concat(rows)))
