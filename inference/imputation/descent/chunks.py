"""How many draws of all rows go down the ladder together, and what is said of them."""

from typing import Any

import numpy as np


def together(draws: int, rows: int, event_size: int, budget: int = 2**20) -> int:
    """How many draws to hold at a time so that about ``budget`` numbers of the data's size are alive.

    Args:
        draws: how many in all.
        rows: of the data.
        event_size: how many numbers a datum has.
        budget: how many numbers.

    Returns:
        At least one.

    >>> together(400, 8, 16)
    400
    """
    return max(1, min(draws, budget // (rows * max(event_size, 64))))


def stats(draws: int, rows: int) -> dict[str, Any]:
    """That all draws of a row are independent of each other: as many effective draws as there are.

    Args:
        draws: of each row.
        rows: of the data.

    Returns:
        ``ess`` with its dimension.
    """
    return {"ess": (("row",), np.full(rows, float(draws)))}
