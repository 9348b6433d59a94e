"""The cumulative logit: an ordered code is where a logistic variable falls among increasing cutpoints."""

import math
from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Float

from deepgen.math.sigmoid import log_sigmoid
from deepgen.nn.bounded import bounded

MIN_GAP, MAX_GAP = 1e-3, 1e2
LOG_GAP = (math.log(MIN_GAP), math.log(MAX_GAP))


class Ordinals(NamedTuple):
    """Where the cutpoints of several columns stand, whose numbers differ.

    Attributes:
        places: (o, w) in the one row that holds them all, the last of each column repeated.
        there: (o, w) which of them there are.
        first: (o,) where each row of (o, w) begins once it is flattened.
        levels: (o,) how many levels each column has, one more than cutpoints.
    """

    places: Any
    there: Any
    first: Any
    levels: Any


def cutpoints(raw: Float[Any, " n"], ordinals: Ordinals) -> tuple[Float[Any, "o w"], Float[Any, "o w"]]:
    """Increasing cutpoints from free numbers: the first one, then the logarithms of the gaps, kept within bounds.

    Args:
        raw: those of all columns in one row.
        ordinals: where each column's stand.

    Returns:
        The cutpoints, and each one's distance from the one before; what is padded means nothing.
    """
    xp = array_api_compat.array_namespace(raw)
    taken = xp.reshape(xp.take(raw, xp.reshape(ordinals.places, (-1,)), axis=0), ordinals.places.shape)
    gaps = xp.exp(bounded(taken, *LOG_GAP))
    steps = xp.where(ordinals.there[:, 1:], gaps[:, 1:], xp.zeros_like(gaps[:, 1:]))
    return xp.cumulative_sum(xp.concat([taken[:, :1], steps], axis=1), axis=1), gaps


def log_prob(
    code: Float[Any, "*#batch o"],
    location: Float[Any, "*#batch o"],
    cuts: Float[Any, "o w"],
    gaps: Float[Any, "o w"],
    ordinals: Ordinals,
) -> Float[Any, "*batch o"]:
    r"""log(sigmoid(c_k - m) - sigmoid(c_{k-1} - m)) without cancellation.

    With u = c_k - m and l = c_{k-1} - m the difference is sigmoid(u) sigmoid(-l) (1 - exp(l - u)), of which the lowest
    code has the first factor alone and the highest the second. McCullagh 1980, Regression models for ordinal data.

    Args:
        code: k, whole numbers from 0 to the column's number of levels - 1.
        location: m.
        cuts: c, as `cutpoints` gives them.
        gaps: likewise.
        ordinals: of the columns.

    Returns:
        Log probabilities.
    """
    xp = array_api_compat.array_namespace(location)

    def taken(values: Any, step: Any) -> Any:
        places = ordinals.first + xp.astype(step, xp.int32)
        return xp.reshape(xp.take(xp.reshape(values, (-1,)), xp.reshape(places, (-1,)), axis=0), places.shape)

    zero = xp.zeros_like(location)
    above = xp.minimum(code, ordinals.levels - 2)
    below = xp.where(code >= 1, code - 1, xp.zeros_like(code))
    lowest, highest = code < 1, code > ordinals.levels - 2
    found = xp.where(highest, zero, log_sigmoid(taken(cuts, above) - location))
    found = found + xp.where(lowest, zero, log_sigmoid(location - taken(cuts, below)))
    between = xp.log(-xp.expm1(-taken(gaps, above)))
    return found + xp.where(lowest | highest, xp.zeros_like(between), between)


def code_of(latent: Float[Any, "*batch o"], cuts: Float[Any, "o w"], ordinals: Ordinals) -> Float[Any, "*batch o"]:
    """How many of its column's cutpoints lie below each number: the code; at the location, the median code.

    Args:
        latent: any numbers.
        cuts: as `cutpoints` gives them.
        ordinals: of the columns.

    Returns:
        Codes, as floats.
    """
    xp = array_api_compat.array_namespace(latent)
    return xp.sum(xp.astype((latent[..., None] > cuts) & ordinals.there, latent.dtype), axis=-1)
