"""The gated unit of PixelCNN and WaveNet (van den Oord et al. 2016)."""

import math
from typing import Any

import array_api_compat
from jaxtyping import Float

LINEAR_GAIN = math.sqrt(3)
"""What weights from U(-1/sqrt(fan in), 1/sqrt(fan in)) are multiplied by, so that a linear map keeps the variance."""

GATE_GAIN = 2 * LINEAR_GAIN
"""The same where a gate follows, which makes half of a small input: without it a stack of gates has no signal left."""


def gated(a: Float[Any, "*shape"], axis: int) -> Float[Any, "*half"]:
    r"""tanh of the first half of an axis times the logistic function of the second.

    .. math:: y = \tanh(a_1) \odot \sigma(a_2), \qquad \sigma(a) = \tfrac12 (1 + \tanh(a / 2))

    Args:
        a: an even number of entries along the axis.
        axis: which.

    Returns:
        Half as many entries.

    >>> import numpy as np
    >>> gated(np.array([0.0, 1.0, 5.0, 0.0]), 0).round(4).tolist()
    [0.0, 0.3808]
    """
    xp = array_api_compat.array_namespace(a)
    size = a.shape[axis] // 2
    places = (slice(None),) * (axis % a.ndim)
    return xp.tanh(a[(*places, slice(size))]) * (0.5 + 0.5 * xp.tanh(0.5 * a[(*places, slice(size, None))]))
