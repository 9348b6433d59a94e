"""The logistic distribution function and its logarithm, without overflow."""

from typing import Any

import array_api_compat
from jaxtyping import Float


def log_sigmoid(x: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    """log(1 / (1 + exp(-x))), for numbers of any size.

    Args:
        x: finite numbers.

    Returns:
        Numbers <= 0 of the same shape.

    >>> import numpy as np
    >>> float(log_sigmoid(np.array(-800.0)))
    -800.0
    """
    xp = array_api_compat.array_namespace(x)
    return -xp.logaddexp(xp.zeros_like(x), -x)
