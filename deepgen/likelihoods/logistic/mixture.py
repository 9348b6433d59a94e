r"""Mixtures of logistic distributions on the integers 0 … V - 1, and how the channels of a pixel are coupled.

A value v stands at x = 2 v / (V - 1) - 1 within [-1, 1], in the middle of a bin of half width h = 1 / (V - 1). Its
probability under a component of location m and scale s is what the logistic distribution has in the bin, the lowest bin
reaching down to minus infinity and the highest up to infinity, so that the V probabilities sum to one.

Kingma et al. 2016, Improved Variational Inference with Inverse Autoregressive Flow; Salimans et al. 2017, PixelCNN++.
"""

import math
from typing import Any

import array_api_compat
from jaxtyping import Float

from deepgen.math.sigmoid import log_sigmoid

CHANNELS = 3
NARROW = 1e-2
"""Width of a bin, in scales, below which log(1 - exp(-width)) is taken from its series."""
BLOCK = 32
"""How many bins' edges are worked on at once where the mean is summed."""


def standardised(value: Float[Any, "*shape"], num_values: int) -> Float[Any, "*shape"]:
    """Where the values stand within [-1, 1]: 2 v / (V - 1) - 1."""
    return value * (2.0 / (num_values - 1)) - 1.0


def admissible(value: Float[Any, "*shape"], num_values: int) -> Any:
    """Which numbers are whole ones from 0 to V - 1."""
    xp = array_api_compat.array_namespace(value)
    return (value >= 0) & (value <= num_values - 1) & (xp.floor(value) == value)


def log_bin(
    value: Float[Any, "*#shape"], loc: Float[Any, "*#shape"], log_scale: Float[Any, "*#shape"], num_values: int
) -> Float[Any, "*shape"]:
    r"""The log probability of a bin under one logistic distribution.

    With u = (x + h - m) / s, l = (x - h - m) / s and their distance w = 2 h / s,

    .. math:: \log(\sigma(u) - \sigma(l)) = \log \sigma(u) + \log \sigma(-l) + \log(1 - e^{-w}),

    in which nothing cancels, however narrow the bin and however far out it is; the lowest bin has the first term alone
    and the highest the second.

    Args:
        value: whole numbers from 0 to V - 1, as floats.
        loc: m.
        log_scale: log s.
        num_values: V.

    Returns:
        Log probabilities.
    """
    xp = array_api_compat.array_namespace(loc)
    half = 1.0 / (num_values - 1)
    precision = xp.exp(-log_scale)
    centred = standardised(value, num_values) - loc
    below = log_sigmoid((centred + half) * precision)
    above = log_sigmoid((half - centred) * precision)
    width = 2 * half * precision
    narrow = width < NARROW
    wide = xp.log(-xp.expm1(-xp.where(narrow, xp.ones_like(width), width)))
    series = math.log(2 * half) - log_scale - width / 2 + width * width / 24
    zero = xp.zeros_like(below)
    lowest, highest = value < 0.5, value > num_values - 1.5
    between = xp.where(lowest | highest, zero, xp.where(narrow, series, wide))
    return xp.where(highest, zero, below) + xp.where(lowest, zero, above) + between


def log_prob(
    value: Float[Any, "*#batch"],
    logits: Float[Any, "*#batch k"],
    loc: Float[Any, "*#batch k"],
    log_scale: Float[Any, "*#batch k"],
    num_values: int,
) -> Float[Any, "*batch"]:
    """log of the sum of softmax(logits) times the components' probabilities.

    Args:
        value: whole numbers from 0 to V - 1, as floats.
        logits: of the components' weights.
        loc: in units in which the values span [-1, 1].
        log_scale: likewise.
        num_values: V.

    Returns:
        Log probabilities.
    """
    return _log_mix(logits, log_bin(value[..., None], loc, log_scale, num_values))


def coupled(
    x: Float[Any, "*#batch 3 m"], loc: Float[Any, "*#batch 3 k"], coefficients: Float[Any, "*#batch 3 k"]
) -> Float[Any, "*batch 3 k"]:
    """The locations of a pixel's three channels, each moved by the channels before it.

    Red m_0; green m_1 + c_0 x_0; blue m_2 + c_1 x_0 + c_2 x_1 (Salimans et al. 2017, equation 3).

    Args:
        x: the channels' values within [-1, 1], the last axis of size k or one; that of blue is not read.
        loc: m.
        coefficients: c.

    Returns:
        The locations.
    """
    xp = array_api_compat.array_namespace(loc)
    red, green = x[..., 0, :], x[..., 1, :]
    parts = [
        loc[..., 0, :],
        loc[..., 1, :] + coefficients[..., 0, :] * red,
        loc[..., 2, :] + coefficients[..., 1, :] * red + coefficients[..., 2, :] * green,
    ]
    return xp.stack(xp.broadcast_arrays(*parts), axis=-2)


def coupled_log_prob(
    value: Float[Any, "*#batch 3"],
    logits: Float[Any, "*#batch k"],
    loc: Float[Any, "*#batch 3 k"],
    log_scale: Float[Any, "*#batch 3 k"],
    coefficients: Float[Any, "*#batch 3 k"],
    num_values: int,
) -> Float[Any, "*batch"]:
    """The joint log probability of a pixel's three channels, which share the component.

    Args:
        value: whole numbers from 0 to V - 1, as floats.
        logits: of the components' weights.
        loc: before they are moved, see `coupled`.
        log_scale: of each channel.
        coefficients: see `coupled`.
        num_values: V.

    Returns:
        Log probabilities.
    """
    xp = array_api_compat.array_namespace(loc)
    moved = coupled(standardised(value, num_values)[..., None], loc, coefficients)
    return _log_mix(logits, xp.sum(log_bin(value[..., None], moved, log_scale, num_values), axis=-2))


def draw(
    which: Float[Any, "*#batch"],
    uniform: Float[Any, "*#batch"],
    logits: Float[Any, "*#batch k"],
    loc: Float[Any, "*#batch k"],
    log_scale: Float[Any, "*#batch k"],
    num_values: int,
) -> Float[Any, "*batch"]:
    """Values from uniforms: a component by its weight, a logistic variable of it, and the bin in which that falls.

    Args:
        which: within [0, 1], choosing the component.
        uniform: within [0, 1], of the logistic variable.
        logits: as in `log_prob`.
        loc: as in `log_prob`.
        log_scale: as in `log_prob`.
        num_values: V.

    Returns:
        Whole numbers from 0 to V - 1, as floats.
    """
    chosen = _choose(which, logits)
    return _bin_of(uniform, _taken(chosen, loc), _taken(chosen, log_scale), num_values)


def coupled_draw(
    which: Float[Any, "*#batch"],
    uniform: Float[Any, "*#batch 3"],
    logits: Float[Any, "*#batch k"],
    loc: Float[Any, "*#batch 3 k"],
    log_scale: Float[Any, "*#batch 3 k"],
    coefficients: Float[Any, "*#batch 3 k"],
    num_values: int,
) -> Float[Any, "*batch 3"]:
    """Pixels from uniforms: one component for the three channels, then red, green and blue one after the other.

    Args:
        which: within [0, 1], choosing the component.
        uniform: within [0, 1], of each channel.
        logits: as in `coupled_log_prob`.
        loc: as in `coupled_log_prob`.
        log_scale: as in `coupled_log_prob`.
        coefficients: as in `coupled_log_prob`.
        num_values: V.

    Returns:
        Whole numbers from 0 to V - 1, as floats.
    """
    xp = array_api_compat.array_namespace(loc)
    chosen = _choose(which, logits)[..., None, :]
    m, log_s, c = (_taken(chosen, part) for part in (loc, log_scale, coefficients))
    red = _bin_of(uniform[..., 0], m[..., 0], log_s[..., 0], num_values)
    x = standardised(red, num_values)
    green = _bin_of(uniform[..., 1], m[..., 1] + c[..., 0] * x, log_s[..., 1], num_values)
    y = standardised(green, num_values)
    blue = _bin_of(uniform[..., 2], m[..., 2] + c[..., 1] * x + c[..., 2] * y, log_s[..., 2], num_values)
    return xp.stack([red, green, blue], axis=-1)


def moments(
    logits: Float[Any, "*#batch k"],
    loc: Float[Any, "*#batch k"],
    log_scale: Float[Any, "*#batch k"],
    edges: Float[Any, " v"],
) -> tuple[Float[Any, "*batch"], Float[Any, "*batch"]]:
    """The mean and the variance of the values, sums over all bins.

    Args:
        logits: as in `log_prob`.
        loc: as in `log_prob`.
        log_scale: as in `log_prob`.
        edges: `bin_edges` as an array of loc's library.

    Returns:
        Both, in units of the values, 0 to V - 1.
    """
    xp = array_api_compat.array_namespace(loc)
    weights = xp.exp(_log_weights(logits))
    first, second = _tails(loc, log_scale, edges)
    mean = xp.sum(weights * first, axis=-1)
    middle = edges.shape[0] / 2
    square = xp.sum(weights * second, axis=-1) + middle**2
    return mean, square - (mean - middle) ** 2


def coupled_mean(
    logits: Float[Any, "*#batch k"],
    loc: Float[Any, "*#batch 3 k"],
    log_scale: Float[Any, "*#batch 3 k"],
    coefficients: Float[Any, "*#batch 3 k"],
    edges: Float[Any, " v"],
) -> Float[Any, "*batch 3"]:
    """The mean of a pixel's channels: of red exactly, of green and blue with each component's means passed on.

    Green's mean is not linear in red where it runs into the lowest or highest value, or within one bin where its scale
    is smaller than that; only this is left out.

    Args:
        logits: as in `coupled_log_prob`.
        loc: as in `coupled_log_prob`.
        log_scale: as in `coupled_log_prob`.
        coefficients: as in `coupled_log_prob`.
        edges: `bin_edges` as an array of loc's library.

    Returns:
        In units of the values.
    """
    xp = array_api_compat.array_namespace(loc)
    num_values = edges.shape[0] + 1
    c = coefficients
    red = _tails(loc[..., 0, :], log_scale[..., 0, :], edges)[0]
    x = standardised(red, num_values)
    green = _tails(loc[..., 1, :] + c[..., 0, :] * x, log_scale[..., 1, :], edges)[0]
    y = standardised(green, num_values)
    blue = _tails(loc[..., 2, :] + c[..., 1, :] * x + c[..., 2, :] * y, log_scale[..., 2, :], edges)[0]
    weights = xp.exp(_log_weights(logits))
    return xp.stack([xp.sum(weights * part, axis=-1) for part in (red, green, blue)], axis=-1)


def bin_edges(num_values: int) -> list[float]:
    """The V - 1 edges between the bins, within (-1, 1)."""
    return [(2 * v + 1) / (num_values - 1) - 1 for v in range(num_values - 1)]


def _tails(loc: Any, log_scale: Any, edges: Any) -> tuple[Any, Any]:
    """Each component's E[v] and E[v^2 - (V - 1) v], sums over t of P(v > t) and of (2 t + 1 - (V - 1)) P(v > t)."""
    xp = array_api_compat.array_namespace(loc)
    precision = xp.exp(-log_scale)[..., None]
    first, second = 0.0, 0.0
    for start in range(0, edges.shape[0], BLOCK):
        part = edges[start : start + BLOCK]
        tail = xp.exp(log_sigmoid((loc[..., None] - part) * precision))
        first = first + xp.sum(tail, axis=-1)
        second = second + xp.sum(edges.shape[0] * part * tail, axis=-1)
    return first, second


def _bin_of(uniform: Any, loc: Any, log_scale: Any, num_values: int) -> Any:
    xp = array_api_compat.array_namespace(loc)
    x = loc + xp.exp(log_scale) * (xp.log(uniform) - xp.log1p(-uniform))
    return xp.clip(xp.round((x + 1.0) * ((num_values - 1) / 2)), 0.0, num_values - 1.0)


def _choose(which: Any, logits: Any) -> Any:
    """(..., k) booleans, one of each row true: between which cumulative weights the number lies."""
    xp = array_api_compat.array_namespace(logits)
    upper = xp.cumulative_sum(xp.exp(_log_weights(logits)), axis=-1)[..., :-1]
    end = xp.ones_like(logits[..., :1])
    above = which[..., None] > xp.concat([-end, upper], axis=-1)
    return above & (which[..., None] <= xp.concat([upper, 2 * end], axis=-1))


def _taken(chosen: Any, values: Any) -> Any:
    xp = array_api_compat.array_namespace(values)
    return xp.sum(xp.where(chosen, values, xp.zeros_like(values)), axis=-1)


def _log_weights(logits: Any) -> Any:
    return logits - _log_sum_exp(logits)[..., None]


def _log_mix(logits: Any, log_p: Any) -> Any:
    return _log_sum_exp(_log_weights(logits) + log_p)


def _log_sum_exp(x: Any) -> Any:
    xp = array_api_compat.array_namespace(x)
    largest = xp.max(x, axis=-1, keepdims=True)
    return largest[..., 0] + xp.log(xp.sum(xp.exp(x - largest), axis=-1))
