"""Is a Monte Carlo average where it should be? Scores with a declared rate of false alarms."""

import numpy as np
from scipy import stats

RATE = 1e-6
"""How often one check fails by chance; some eighty of them run, so a run of all fails with less than 1e-4."""
BATCHES = 40


def limit(count: int, dof: float = np.inf) -> float:
    """What the largest of ``count`` scores in absolute value exceeds with probability below ``RATE``."""
    return float(stats.t.isf(RATE / 2 / count, dof))


def worst(scores: np.ndarray, dof: float = np.inf) -> float:
    """The largest of several scores, each as a share of its limit: above one is an error.

    Three kinds: every score; each column's over the independent rows; all of them together, row by row.

    Args:
        scores: (rows, columns), standard normal (or t) where all is well, NaN where there is nothing to score. Rows are
            independent, the scores of a row need not be.
        dof: of the t.
    """
    present = ~np.isnan(scores)
    single = np.nanmax(np.abs(scores)) / limit(int(present.sum()), dof)
    columns = present.any(0)
    total = np.nansum(scores, axis=0)[columns] / np.sqrt(present.sum(0)[columns])
    by_column = np.abs(total).max() / limit(int(columns.sum()), dof)
    rows = scores[present.any(1)]
    if len(rows) < 20:
        return float(max(single, by_column))
    mean = np.nanmean(rows, axis=1)
    together = abs(mean.mean()) / (mean.std(ddof=1) / np.sqrt(len(mean))) / limit(1, len(mean) - 1)
    return float(max(single, by_column, together))


def moment_scores(
    draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray, particles: np.ndarray | float = np.inf
) -> np.ndarray:
    """Scores of the draws' means, variances and covariances.

    The Monte Carlo error is that of batch means (batches of consecutive draws of a chain), plus that of the weighted
    particles from which the draws were resampled.

    Args:
        draws: (chain, draw, n, D).
        mean: (n, D).
        covariance: (n, D, D); zero where there is nothing to score.
        particles: (n,) effective numbers of particles.

    Returns:
        (n, D + D (D + 1) / 2), NaN where the variance is zero.
    """
    chains, length = draws.shape[:2]
    centred = draws - mean
    i, j = np.triu_indices(mean.shape[1])
    values = np.concatenate([centred, centred[..., i] * centred[..., j] - covariance[:, i, j]], axis=-1)
    per_chain = max(BATCHES // chains, 1)
    size = length // per_chain
    values = values[:, : per_chain * size]
    batches = values.reshape(chains * per_chain, size, *values.shape[2:]).mean(1)
    square = batches.var(0, ddof=1) / len(batches)
    square = square + values.var((0, 1)) / np.reshape(particles, (-1, 1))
    random = np.diagonal(covariance, axis1=1, axis2=2) > 1e-12
    scored = np.concatenate([random, random[:, i] & random[:, j]], axis=-1)
    return np.where(scored, values.mean((0, 1)) / np.sqrt(np.where(scored, square, 1.0)), np.nan)


def worst_moment(
    draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray, particles: np.ndarray | float = np.inf
) -> float:
    """The worst score of all moments, as a share of its limit."""
    return worst(moment_scores(draws, mean, covariance, particles), BATCHES - 1)


def worst_stated_error(value: np.ndarray, stderr: np.ndarray, truth: np.ndarray) -> float:
    """Whether stated standard errors are those of the values around the truth: the worst score as a share of its limit.

    Besides the errors themselves, their mean square in units of the stated one: chi-square with as many degrees of
    freedom as there are values whose stated error is more than rounding.
    """
    # what float32 rounds away is stated by nobody
    z = (np.asarray(value, dtype=float) - truth) / np.hypot(stderr, 1e-4)
    meant = np.asarray(stderr) > 1e-4
    square, n = float((z[meant] ** 2).sum()), int(meant.sum())
    tail = 2 * min(stats.chi2.sf(square, n), stats.chi2.cdf(square, n)) if n else 1.0
    return max(worst(z[:, None]), float(stats.norm.isf(max(tail, 1e-300) / 2)) / limit(1))
