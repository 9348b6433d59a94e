r"""Shifts, scales and triangular maps: values, inverses and the logs of their Jacobians."""

from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Float

from deepgen import checks
from deepgen.nn.bounded import bounded, unbounded

LOG_SCALE = 5.0
"""Log-scales that are parameters are kept within (-5, 5)."""
NETWORK_LOG_SCALE = 2.0
"""Log-scales of networks are kept within (-2, 2) unless more is asked for: of a row far from all it has seen a network
may say anything, and a chain of transforms multiplies it."""

FORM = "v e^s + t"
"""Of autoregressive maps in the direction of one pass, as their descriptions have it. Older ones lack it, and masked
maps were (y - t) e^-s."""


def shift(
    x: Float[Any, "..."], parameters: Float[Any, "1 ..."], *, inverse: bool = False
) -> tuple[Float[Any, "..."], Float[Any, "..."]]:
    """x + t, or x - t where inverted, and the log of the slope, zero.

    Args:
        x: values.
        parameters: t, with an axis in front; they broadcast with the values.
        inverse: whether it is inverted.

    Returns:
        Values and log-slopes.
    """
    xp = array_api_compat.array_namespace(x)
    moved = x - parameters[0, ...] if inverse else x + parameters[0, ...]
    return moved, xp.zeros_like(moved)


def affine(
    x: Float[Any, "..."],
    parameters: Float[Any, "2 ..."] | tuple[Any, ...],
    *,
    inverse: bool = False,
    bound: float = LOG_SCALE,
) -> tuple[Float[Any, "..."], Float[Any, "..."]]:
    r""":math:`x e^s + t`, or :math:`(x - t) e^{-s}` where inverted, with s within (-bound, bound), and the log-slope.

    Args:
        x: values.
        parameters: t and the unbounded s, stacked or as a pair, which broadcast with the values.
        inverse: whether it is inverted.
        bound: of s.

    Returns:
        Values and log-slopes.
    """
    xp = array_api_compat.array_namespace(x)
    log_scale = bounded(parameters[1], -bound, bound)
    if inverse:
        log_slope = -log_scale
        return (x - parameters[0]) * xp.exp(log_slope), log_slope
    return x * xp.exp(log_scale) + parameters[0], log_scale


def statistics(x: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Where a shift and a log-scale have to be for rows to be the image of rows of mean zero and variance one.

    Args:
        x: rows, NaN where missing.

    Returns:
        The means, and the logs of the standard deviations; zero where a column does not vary.

    Raises:
        ValueError: fewer than two rows, or a column of which nothing is observed.
    """
    present = ~np.isnan(x)
    if len(x) < 2 or not present.any(0).all():
        raise checks.problem(
            "data",
            got=f"{len(x)} rows, of which {int((~present.any(0)).sum())} columns are all missing",
            expected="at least two rows, and an observed value in each column",
            fix="Pass a large first batch of the training data.",
        )
    deviation = np.nanstd(x, axis=0)
    return np.nanmean(x, axis=0), np.log(np.where(deviation > 0, deviation, 1.0))


def raw_log_scale(log_scale: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    """What `affine` takes for a log-scale; as near as it gets for one outside the bounds."""
    xp = array_api_compat.array_namespace(log_scale)
    edge = LOG_SCALE * (1 - 1e-6)
    return unbounded(xp.clip(log_scale, -edge, edge), -LOG_SCALE, LOG_SCALE)


def kept(log_scale: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    """Log-scales kept within (-5, 5)."""
    return bounded(log_scale, -LOG_SCALE, LOG_SCALE)


def triangles(weight: Float[Any, "d d"], log_diagonal: Float[Any, " d"]) -> tuple[Float[Any, "d d"], Float[Any, "d d"]]:
    """A unit lower triangle L and an upper triangle U, of one matrix whose diagonal does not count.

    Args:
        weight: what stands below and above the diagonal.
        log_diagonal: of U.

    Returns:
        L and U.
    """
    xp = array_api_compat.array_namespace(weight)
    identity = xp.eye(weight.shape[0], dtype=weight.dtype, device=array_api_compat.device(weight))
    return xp.tril(weight, k=-1) + identity, xp.triu(weight, k=1) + identity * xp.exp(log_diagonal)


def logit(
    x: Float[Any, "*shape"], alpha: float, *, inverse: bool = False
) -> tuple[Float[Any, "*shape"], Float[Any, "*shape"]]:
    r"""logit(v) with v = alpha + (1 - 2 alpha) x, or its inverse, and the log of the slope.

    .. math:: \log \frac{dy}{dx} = \log(1 - 2 \alpha) - \log v - \log(1 - v)

    Args:
        x: values in [0, 1], or where inverted any.
        alpha: in [0, 1/2), what keeps v from 0 and 1.
        inverse: whether it is inverted.

    Returns:
        Values and log-slopes of the same shape.

    Raises:
        ValueError: another alpha.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.
    """
    if not 0 <= alpha < 0.5:
        raise checks.problem("alpha", got=alpha, expected="a number in [0, 0.5)", fix="1e-6 or 0.05 are usual.")
    xp = array_api_compat.array_namespace(x)
    stretch = float(np.log1p(-2 * alpha))
    if inverse:
        # log v + log(1 - v) = -|x| - 2 log(1 + exp(-|x|))
        size = xp.abs(x)
        value = (0.5 * (1 + xp.tanh(0.5 * x)) - alpha) / (1 - 2 * alpha)
        return value, -size - 2 * xp.log1p(xp.exp(-size)) - stretch
    v = alpha + (1 - 2 * alpha) * x
    return xp.log(v) - xp.log1p(-v), stretch - xp.log(v) - xp.log1p(-v)


def logit_interval(alpha: float) -> tuple[float, float]:
    """Where `logit` is finite: [0, 1], and alpha / (1 - 2 alpha) more on both sides.

    >>> logit_interval(0.25)
    (-0.5, 1.5)
    """
    beyond = alpha / (1 - 2 * alpha)
    return -beyond, 1 + beyond


def dequantize(x: Float[Any, "*shape"], noise: Float[Any, "*shape"], num_values: int) -> Float[Any, "*shape"]:
    r"""Integers with uniform noise, brought into [0, 1): :math:`y = (x + u) / V`.

    A density q of y bounds the probability of the integers, for any law of u in [0, 1)^D with density r:

    .. math:: \log P(x) \ge E_u[\log q((x + u) / V) - D \log V - \log r(u)]

    Args:
        x: integers 0 … V - 1.
        noise: u.
        num_values: V.

    Returns:
        Numbers in [0, 1).

    Theis, van den Oord & Bethge 2016; Ho et al. 2019, Flow++ (r learned).
    """
    return (x + noise) / num_values
