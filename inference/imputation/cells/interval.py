r"""Intervals, bounded, half open or the whole line, as images of the real line.

.. math:: v = l + (h - l)\, \sigma(w), \quad l + \log(1 + e^w), \quad h - \log(1 + e^{-w}), \quad w
"""

from typing import Any

import array_api_compat
from jaxtyping import Float

from deepgen.math.sigmoid import log_sigmoid


def within(
    w: Float[Any, "*c n d"], low: Float[Any, "n d"], high: Float[Any, "n d"]
) -> tuple[Float[Any, "*c n d"], Float[Any, "*c n d"]]:
    """The numbers of intervals, and the logs of the slopes, whichever ends are infinite.

    Args:
        w: any numbers.
        low: lower ends, or minus infinity.
        high: upper ends, or infinity.

    Returns:
        v, growing with w from low to high, and log dv/dw.

    >>> import numpy as np
    >>> within(np.zeros((1, 2)), np.array([[1.0, -np.inf]]), np.array([[3.0, np.inf]]))[0].tolist()
    [[2.0, 0.0]]
    """
    xp = array_api_compat.array_namespace(w)
    from_low, from_high = xp.isfinite(low), xp.isfinite(high)
    zero = xp.zeros_like(low)
    # finite everywhere, so that gradients are
    start, end = xp.where(from_low, low, zero), xp.where(from_high, high, zero)
    up, down = log_sigmoid(w), log_sigmoid(-w)
    both = from_low & from_high
    width = xp.where(both, end - start, zero + 1)
    v = xp.where(from_low, start - down, xp.where(from_high, end + up, w))
    log_slopes = xp.where(from_low, up, xp.where(from_high, down, xp.zeros_like(w)))
    v = xp.where(both, start + width * xp.exp(up), v)
    return v, xp.where(both, xp.log(width) + up + down, log_slopes)
