r"""A density of the missing coordinates alone, in as many dimensions as the datum has, so that rows move together.

.. math:: \log p(v_\mathrm{observed}, q_\mathrm{missing}) + \log N(q_\mathrm{observed}; 0, I)

The places of the observed coordinates are filled by numbers that nothing depends on; they are standard normal.
"""

from typing import Any

import array_api_compat
from jaxtyping import Bool, Float


def clamp(position: Float[Any, "*c n d"], v: Float[Any, "n d"], observed: Bool[Any, "n d"]) -> Float[Any, "*c n d"]:
    """The row of a position: its own coordinates where missing, those of the data where observed.

    Args:
        position: of the chains.
        v: the rows, anything where missing.
        observed: booleans.

    Returns:
        (*c, n, D).
    """
    xp = array_api_compat.array_namespace(position)
    return xp.where(observed, v, position)


def log_filling(position: Float[Any, "*c n d"], observed: Bool[Any, "n d"]) -> Float[Any, "*c n"]:
    """The log density of what fills the places of observed coordinates, up to a constant.

    Args:
        position: of the chains.
        observed: booleans.

    Returns:
        Nats.
    """
    xp = array_api_compat.array_namespace(position)
    return -0.5 * xp.sum(xp.where(observed, position * position, xp.zeros_like(position)), axis=-1)
