"""The mean log-likelihood of a data set, and bits per dimension, with standard errors."""

import math
from typing import Any

import numpy as np

from deepgen.checks import positive, problem
from deepgen.evaluation.estimate import Estimate


def mean_log_prob(log_prob: Any) -> Estimate:
    """The mean of per-row log-likelihoods, in nats, and its standard error over rows.

    The standard error is sd / √n. Where each row's value is itself a Monte Carlo estimate, the spread over rows already
    holds that noise (Var v_i = Var l_i + E σ_i² for independent estimates), so adding it would count it twice; its own
    share is ``monte_carlo_stderr``.

    Args:
        log_prob: (n,) nats.

    Returns:
        The mean and its standard error, NaN for a single row.

    Raises:
        ValueError: not one number a row, none at all, or NaN. Minus infinity is let through: the mean is then -inf.
    """
    values = _rows("log_prob", log_prob)
    if np.isneginf(values).any():
        return Estimate(-math.inf, math.nan)
    stderr = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), stderr)


def monte_carlo_stderr(stderr: Any) -> float:
    """The standard error that Monte Carlo alone puts on the mean over these rows, √(Σ σ_i²) / n.

    It tells how far the mean would move if the same rows were estimated anew.

    Args:
        stderr: (n,) the Monte Carlo standard error of each row, from independent draws.

    Raises:
        ValueError: not one number a row, none at all, NaN or negative.
    """
    values = _rows("stderr", stderr)
    if (values < 0).any():
        raise problem("stderr", got="negative values", expected="standard errors >= 0", fix="Pass log_prob's stderr.")
    return float(np.sqrt((values**2).sum()) / len(values))


def bits_per_dim(log_prob: Any, event_size: int, *, scale: float = 1.0) -> Estimate:
    """The mean negative log-likelihood in bits per dimension, with its standard error over rows.

    -(mean log p(x) - D log ``scale``) / (D log 2). ``scale`` undoes a change of units: a density of pixels that were
    divided by 256 is 256^D times the density of the pixels themselves.

    Args:
        log_prob: (n,) nats.
        event_size: D, the number of entries of one datum.
        scale: what the data were divided by before the density was taken.

    Returns:
        The value and its standard error.

    Raises:
        ValueError: an event size or a scale that is not positive, and what ``mean_log_prob`` refuses.

    >>> bits_per_dim(np.full(3, -64 * np.log(2)), 64).value
    1.0
    """
    positive("event_size", float(event_size))
    positive("scale", scale)
    mean = mean_log_prob(log_prob)
    bits = event_size * math.log(2)
    return Estimate(-mean.value / bits + math.log2(scale), mean.stderr / bits)


def _rows(what: str, values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or np.isnan(array).any():
        raise problem(
            what,
            got=f"shape {array.shape}" + (" with NaN" if np.isnan(array).any() else ""),
            expected="one number for each of at least one row",
            fix="Pass the .value of log_prob, without the rows that failed.",
        )
    return array
