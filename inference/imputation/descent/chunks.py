"""How many draws of all rows go down the ladder together."""


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
