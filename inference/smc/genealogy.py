"""Where particles come from: lineages through the resampling steps, and how many of them are left."""

from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Int


def follow(ancestors: Int[Any, "*batch n"], lineage: Int[Any, "*batch m"]) -> Int[Any, "*batch m"]:
    """One step back: of which particles before it those of ``lineage`` came.

    Args:
        ancestors: of each particle after the step, its index before it.
        lineage: indices after the step.

    Returns:
        Indices before it.
    """
    xp = array_api_compat.array_namespace(ancestors)
    return xp.take_along_axis(ancestors, lineage, axis=-1)


def count_unique(lineage: Int[np.ndarray, "*batch m"]) -> Int[np.ndarray, "*batch"]:
    """How many different particles a lineage names.

    Args:
        lineage: indices.

    Returns:
        From 1 to m.
    """
    ordered = np.sort(lineage, axis=-1)
    return 1 + (np.diff(ordered, axis=-1) != 0).sum(-1)
