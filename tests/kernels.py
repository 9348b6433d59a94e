"""Checks that a Markov kernel or the flow inside it must pass; they know no engine, only NumPy arrays.

A check returns numbers or a p-value, and `holds` says whether it passes at a declared failure rate, so that the twin of
each test, with a planted bug, can ask for the opposite with the same line.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

FAILURE_RATE = 1e-5
"""How often a right kernel fails a whole check, over all its tests together (fixed seeds make it never or always)."""

Array = np.ndarray


def holds(p_values: Any, failure_rate: float = FAILURE_RATE) -> bool:
    """Whether none of several p-values is too small: Bonferroni, so together they fail at most at the declared rate.

    A p-value that is not a number fails.
    """
    p_values = np.asarray(p_values, dtype=float)
    return p_values.size > 0 and bool((p_values >= failure_rate / p_values.size).all())


def start_at_target(
    start: Array,
    advance: Callable[[Array], Array],
    statistics: Mapping[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]],
    after: Sequence[int] = (1, 2, 4, 8),
) -> dict[tuple[int, str], float]:
    """Begin with independent exact draws of the target and ask after k steps whether the law is still the target.

    Slow mixing cannot hide a fault here, and cannot fake one: at every k the draws are independent of each other and,
    for a kernel that leaves the target invariant, exact. Each statistic is tested against its closed-form law
    (Kolmogorov-Smirnov); draws that are not finite have p-value 0.

    Args:
        start: (n, d) independent exact draws.
        advance: (n, d) -> (n, d), one step of the kernel, every row moving by itself.
        statistics: name -> (function (n, d) -> (n,), its cumulative distribution function under the target).
        after: the numbers of steps after which to look.

    Returns:
        (k, name) -> p-value.
    """
    draws, p_values = np.asarray(start), {}
    for k in range(1, max(after) + 1):
        draws = np.asarray(advance(draws))
        if k in after:
            finite = bool(np.isfinite(draws).all())
            for name, (statistic, cdf) in statistics.items():
                test = stats.kstest(statistic(draws.astype(np.float64)), cdf) if finite else None
                p_values[k, name] = 0.0 if test is None else float(test.pvalue)
    return p_values


def reversal_error(flow: Callable[[Array, Array], tuple[Array, Array]], q: Array, p: Array) -> float:
    """How far flow, flip of the momentum, flow, flip misses the start. Zero for a reversible flow."""
    q_end, p_end = flow(q, p)
    q_back, p_back = flow(q_end, -p_end)
    return float(max(np.abs(q_back - q).max(), np.abs(p_back + p).max()))


def volume_change(flow: Callable[[Array, Array], tuple[Array, Array]], q: Array, p: Array, h: float = 1e-5) -> Array:
    """(n,) |log |det J|| of (q, p) -> flow(q, p), J by central differences; zero where volumes are kept.

    Args:
        flow: of (n, d) positions and momenta, every row by itself.
        q: (n, d), float64.
        p: (n, d), float64.
        h: the step of the differences, whose error is O(h^2).

    Returns:
        (n,) non-negative numbers.
    """
    d = q.shape[-1]
    point = np.concatenate([q, p], axis=-1)

    def at(x: Array) -> Array:
        return np.concatenate(flow(x[:, :d], x[:, d:]), axis=-1)

    columns = [(at(point + h * e) - at(point - h * e)) / (2 * h) for e in np.eye(2 * d)]
    return np.abs(np.linalg.slogdet(np.stack(columns, axis=-1))[1])


def order_of_error(errors: Sequence[float], step_sizes: Sequence[float]) -> float:
    """The slope of log error over log step size, by least squares."""
    return float(np.polyfit(np.log(step_sizes), np.log(errors), 1)[0])


def moment_p_values(draws: Array, mean: Array, variance: Array) -> Array:
    """Two-sided p-values of the means and variances of a run against their truth.

    Both are means over the draws, of x and of (x - mean)^2, and so asymptotically normal with the Monte Carlo standard
    error that ArviZ estimates.

    Args:
        draws: (chain, draw, row, d).
        mean: (row, d) the truth.
        variance: (row, d) the truth.

    Returns:
        (2, row, d) p-values.
    """
    import arviz as az

    def p_value(x: Array, truth: float) -> float:
        return float(2 * stats.norm.sf(abs(x.mean() - truth) / az.mcse(x, method="mean")))

    draws = draws.astype(np.float64)
    squares = (draws - mean) ** 2
    rows, d = mean.shape
    return np.array(
        [
            [[p_value(x[:, :, i, j], truth[i, j]) for j in range(d)] for i in range(rows)]
            for x, truth in ((draws, mean), (squares, variance))
        ]
    )
