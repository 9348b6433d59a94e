"""A multivariate normal fitted by EM to data with holes, and exact draws of what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deepgen.checks import observed_somewhere, positive, problem


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A fitted multivariate normal.

    Attributes:
        mean: (d,).
        covariance: (d, d), positive definite.
        log_likelihoods: after each step of EM the penalised log-likelihood of the observed cells, nats; it never falls.
        converged: whether EM stopped by its tolerance.
    """

    mean: np.ndarray
    covariance: np.ndarray
    log_likelihoods: tuple[float, ...]
    converged: bool

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """The log density of each row's observed cells, nats.

        Args:
            x: (n, d), NaN where missing.

        Returns:
            (n,).
        """
        out = np.empty(len(x))
        for rows, seen, hidden in _patterns(x):
            law = _conditional(self.covariance, seen, hidden)
            out[rows] = law.log_prob((x[rows] - self.mean)[:, seen])
        return out

    def sample(self, x: np.ndarray, num_draws: int, *, seed: int | np.random.Generator) -> np.ndarray:
        """Independent draws from N(mean, covariance) given each row's observed cells.

        x_m | x_o ~ N(μ_m + Σ_mo Σ_oo⁻¹ (x_o - μ_o), Σ_mm - Σ_mo Σ_oo⁻¹ Σ_om).

        Args:
            x: (n, d), NaN where missing.
            num_draws: how many.
            seed: a seed or a generator.

        Returns:
            (num_draws, n, d) completed rows, observed entries as they were.

        Raises:
            ValueError: rows of another width, or a number of draws that is not positive.
        """
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise problem(
                "x", got=f"shape {x.shape}", expected=f"(n, {len(self.mean)})", fix="Pass rows of that width."
            )
        positive("num_draws", float(num_draws))
        rng = np.random.default_rng(seed)
        draws = np.broadcast_to(x, (num_draws, *x.shape)).astype(np.result_type(x.dtype, np.float32))
        for rows, seen, hidden in _patterns(x):
            if not hidden.size:
                continue
            law = _conditional(self.covariance, seen, hidden)
            centre = self.mean[hidden] + (x[rows] - self.mean)[:, seen] @ law.regression
            noise = rng.standard_normal((num_draws, len(rows), len(hidden)))
            draws[np.ix_(np.arange(num_draws), rows, hidden)] = centre + noise @ np.linalg.cholesky(law.left).T
        return draws


def fit_gaussian(x: np.ndarray, *, pseudo_rows: float = 1.0, max_steps: int = 200, tolerance: float = 1e-6) -> Gaussian:
    """Fit a multivariate normal to the observed cells by EM (Little and Rubin 2019, section 11.2).

    The E step completes each row with its conditional mean and adds the conditional covariance; the M step is

        μ = mean of the completed rows,    Σ = (S + λ D) / (n + λ),

    S the expected scatter around μ, D the columns' observed variances on a diagonal. This climbs the observed-data
    log-likelihood with the penalty -λ/2 (log |Σ| + tr D Σ⁻¹): λ ``pseudo_rows`` without correlation, which keep Σ
    positive definite. Rows are grouped by what they miss; complete data need one step.

    Args:
        x: (n, d), NaN where missing, missing at random.
        pseudo_rows: λ.
        max_steps: at most so many steps.
        tolerance: EM stops when a step gains less than this a row, in nats.

    Returns:
        The fitted normal.

    Raises:
        ValueError: not a table, a column without observed cells, infinite values, or settings that are not positive.
    """
    x = np.asarray(x, dtype=np.float64)
    positive("pseudo_rows", pseudo_rows)
    positive("max_steps", float(max_steps))
    positive("tolerance", tolerance)
    if x.ndim != 2 or not x.size or np.isinf(x).any():
        raise problem(
            "x",
            got=f"shape {x.shape}" + (" with infinite values" if np.isinf(x).any() else ""),
            expected="(n, d) finite numbers or NaN",
            fix="Pass a table; set what is infinite to NaN where it stands for missing.",
        )
    observed_somewhere("x", np.isnan(x))
    n = len(x)
    mean, variance = np.nanmean(x, axis=0), np.nanvar(x, axis=0)
    # A constant column keeps a small variance of its own.
    largest = float(variance.max()) or 1.0
    target = np.maximum(variance, 1e-6 * largest)
    covariance = np.diag(target)
    groups = list(_patterns(x))
    objective: list[float] = []
    converged = False
    while len(objective) < max_steps and not converged:
        total, scatter, value = np.zeros_like(mean), np.zeros_like(covariance), 0.0
        for rows, seen, hidden in groups:
            law = _conditional(covariance, seen, hidden)
            completed = x[rows] - mean
            value += float(law.log_prob(completed[:, seen]).sum())
            completed[:, hidden] = completed[:, seen] @ law.regression
            total += completed.sum(0)
            scatter += completed.T @ completed
            scatter[np.ix_(hidden, hidden)] += len(rows) * law.left
        _, log_det = np.linalg.slogdet(covariance)
        value -= 0.5 * pseudo_rows * (log_det + float(np.trace(np.linalg.solve(covariance, np.diag(target)))))
        converged = bool(objective and value - objective[-1] < tolerance * n)
        objective.append(float(value))
        shift = total / n
        mean = mean + shift
        covariance = (scatter - n * np.outer(shift, shift) + pseudo_rows * np.diag(target)) / (n + pseudo_rows)
        covariance = (covariance + covariance.T) / 2
    return Gaussian(mean, covariance, tuple(objective), converged)


@dataclass(frozen=True, eq=False)
class _Conditional:
    regression: np.ndarray
    left: np.ndarray
    factor: np.ndarray

    def log_prob(self, deviation: np.ndarray) -> np.ndarray:
        """Of the observed cells' (n, o) deviations from their mean."""
        from scipy.linalg import solve_triangular

        white = solve_triangular(self.factor, deviation.T, lower=True)
        log_det = np.log(np.diag(self.factor)).sum()
        return -0.5 * (white**2).sum(0) - log_det - 0.5 * len(white) * np.log(2 * np.pi)


def _conditional(covariance: np.ndarray, seen: np.ndarray, hidden: np.ndarray) -> _Conditional:
    """Regression of the hidden columns on the seen ones, the covariance left, and the seen ones' Cholesky factor."""
    from scipy.linalg import cho_solve

    factor = np.linalg.cholesky(covariance[np.ix_(seen, seen)])
    cross = covariance[np.ix_(seen, hidden)]
    regression = cho_solve((factor, True), cross)
    return _Conditional(regression, covariance[np.ix_(hidden, hidden)] - cross.T @ regression, factor)


def _patterns(x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The rows of each pattern of holes, with the columns it shows and those it hides."""
    patterns, index = np.unique(~np.isnan(x), axis=0, return_inverse=True)
    order = np.argsort(index.reshape(-1), kind="stable")
    for pattern, rows in zip(patterns, np.split(order, np.cumsum(np.bincount(index.reshape(-1)))[:-1]), strict=True):
        yield rows, np.flatnonzero(pattern), np.flatnonzero(~pattern)
