"""Central intervals of draws."""

import math


def fewest_draws(prob: float) -> int:
    """How many draws a central interval needs at least, ⌈2 / (1 - prob)⌉ - 1: its ends lie between the outermost.

    Args:
        prob: of the interval, in (0, 1).

    >>> fewest_draws(0.9), fewest_draws(0.95)
    (19, 39)
    """
    # 2 / (1 - 0.9) is 20 and a rounding error
    return math.ceil(2 / (1 - prob) - 1 - 1e-9)
