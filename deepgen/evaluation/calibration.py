"""Are stated probabilities true? Coverage curves, simulation-based calibration, tests and bands for uniform ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepgen.checks import positive, problem
from deepgen.evaluation.estimate import cell_mean
from deepgen.evaluation.imputation import is_point, missing_cells
from deepgen.evaluation.scores import pit, ranks

if TYPE_CHECKING:
    import arviz
    import pandas

CURVE = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())


def coverage_curve(
    posterior: "arviz.InferenceData",
    truth: np.ndarray,
    *,
    seed: int,
    observed: np.ndarray | None = None,
    var_name: str = "x",
    probs: Sequence[float] = CURVE,
) -> "pandas.DataFrame":
    """How often the truth lies in the central interval of each probability, over the cells that were missing.

    A cell is in the central interval of probability p where its randomised PIT u has |u - 1/2| ≤ p/2. With exchangeable
    draws that has probability p exactly, for discrete data and few draws too.

    Args:
        posterior: as in ``imputation_error``.
        truth: (n, *event_shape).
        seed: of the randomisation.
        observed: as in ``imputation_error``.
        var_name: the variable.
        probs: the nominal probabilities.

    Returns:
        One row a probability: nominal, empirical, stderr (by rows).

    Raises:
        ValueError: a point instead of draws, a probability outside (0, 1), and what ``imputation_error`` refuses.
    """
    import pandas as pd

    if not all(0 < prob < 1 for prob in probs):
        raise problem("probs", got=list(probs), expected="probabilities in (0, 1)", fix="Leave out 0 and 1.")
    draws, truth, rows = missing_cells(posterior, truth, observed=observed, var_name=var_name)
    if is_point(posterior):
        raise problem(
            "posterior",
            got="one value a cell",
            expected="draws",
            fix="A point has no intervals; leave this method out of the curve.",
        )
    distance = np.abs(pit(draws, truth, seed=seed) - 0.5)
    inside = [cell_mean(distance <= prob / 2, rows) for prob in probs]
    return pd.DataFrame(
        {"nominal": probs, "empirical": [i.value for i in inside], "stderr": [i.stderr for i in inside]}
    )


def sbc_ranks(prior_draws: np.ndarray, posterior_draws: np.ndarray, *, seed: int | np.random.Generator) -> np.ndarray:
    """Ranks of simulation-based calibration: of each θ ~ p(θ) among draws from p(θ | x), x ~ p(x | θ).

    Uniform on 0..S where the posterior draws are exact and independent (Talts et al. 2018,
    https://arxiv.org/abs/1804.06788); thin a Markov chain first, or the ranks of even an exact sampler are not.

    Args:
        prior_draws: (n, *event) the parameters that the data sets were simulated from.
        posterior_draws: (n, S, *event) posterior draws for each data set.
        seed: a seed or a generator, for ties.

    Returns:
        (n, *event) integers 0..S.

    Raises:
        ValueError: shapes that do not fit.
    """
    prior_draws, posterior_draws = np.asarray(prior_draws), np.asarray(posterior_draws)
    if posterior_draws.ndim < 2 or posterior_draws.shape[:1] + posterior_draws.shape[2:] != prior_draws.shape:
        raise problem(
            "posterior_draws",
            got=f"shape {posterior_draws.shape} for prior draws {prior_draws.shape}",
            expected="(n, S, *event) for (n, *event)",
            fix="Move the draws to the second axis.",
        )
    return ranks(np.moveaxis(posterior_draws, 1, 0), prior_draws, seed=seed)


def uniformity_pvalue(rank: np.ndarray, num_draws: int, *, bins: int | None = None) -> float:
    """The p-value of a χ² test that independent ranks are uniform on 0..num_draws.

    The num_draws + 1 values are put into bins of equal size, or sizes that differ by one and then expect that
    much more or less. For several parameters test each and divide the level by their number.

    Args:
        rank: (n,) independent ranks.
        num_draws: S.
        bins: how many; None takes n / 10, at most 20 and at most S + 1.

    Returns:
        The p-value; reject at the level you declared beforehand.

    Raises:
        ValueError: ranks that are no integers in 0..S, or bins that leave fewer than five expected in one.
    """
    from scipy.stats import chisquare

    rank = np.asarray(rank)
    positive("num_draws", float(num_draws))
    if rank.ndim != 1 or rank.dtype.kind not in "iu" or not rank.size or rank.min() < 0 or rank.max() > num_draws:
        raise problem(
            "rank",
            got=f"dtype {rank.dtype}, shape {rank.shape}",
            expected=f"one row of integers in 0..{num_draws}",
            fix="Pass one parameter's ranks of sbc_ranks.",
        )
    bins = min(max(len(rank) // 10, 2), 20, num_draws + 1) if bins is None else bins
    edges = np.linspace(0, num_draws + 1, bins + 1).round() if bins >= 2 else np.zeros(2)
    expected = np.diff(edges) / (num_draws + 1) * len(rank)
    if expected.min() < 5:
        raise problem(
            "bins",
            got=f"{bins}, which expects {expected.min():.3g} of {len(rank)} ranks in a bin",
            expected="at least 2 bins with at least 5 expected in each",
            fix="Simulate more, or take fewer bins.",
        )
    counts, _ = np.histogram(rank, bins=edges - 0.5)
    return float(chisquare(counts, expected).pvalue)


@dataclass(frozen=True, eq=False)
class EcdfBand:
    """The ECDF of values that should be uniform, and a band that holds all of it with the stated probability.

    Attributes:
        points: (k,) where it is evaluated, in (0, 1).
        ecdf: (k,) the share of values at or below each point.
        lower: (k,) the band.
        upper: (k,) the band.
    """

    points: np.ndarray
    ecdf: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    @property
    def inside(self) -> bool:
        """Whether the whole ECDF lies in the band."""
        return bool(((self.lower <= self.ecdf) & (self.ecdf <= self.upper)).all())


def ecdf_band(values: np.ndarray, *, prob: float = 0.95, num_points: int | None = None) -> EcdfBand:
    """The ECDF of independent values with the simultaneous band of a uniform sample of that size.

    At each point z the count is Binomial(n, z); the band takes the same pointwise level everywhere, the one at
    which a uniform sample leaves it nowhere with probability at least ``prob``. The counts form a Markov chain, so that
    probability is computed exactly (Säilynoja, Bürkner and Vehtari 2022, https://doi.org/10.1007/s11222-022-10090-6).

    Args:
        values: (n,) independent values in [0, 1]: PIT values, or (rank + V) / (S + 1).
        prob: the simultaneous probability.
        num_points: at how many equally spaced points; None takes min(n, 100).

    Returns:
        The ECDF and its band.

    Raises:
        ValueError: values outside [0, 1], or a probability outside (0, 1).
    """
    from scipy.stats import binom

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size or not ((values >= 0) & (values <= 1)).all():
        raise problem("values", got=f"shape {values.shape}", expected="(n,) numbers in [0, 1]", fix="Pass PIT values.")
    if not 0 < prob < 1:
        raise problem("prob", got=prob, expected="a probability in (0, 1)", fix="Pass for instance 0.95.")
    n = len(values)
    points = np.arange(1, (num_points or min(n, 100)) + 1) / ((num_points or min(n, 100)) + 1)

    def limits(tail: float) -> tuple[np.ndarray, np.ndarray]:
        return binom.ppf(tail, n, points).astype(int), binom.isf(tail, n, points).astype(int)

    # Union bound below, one point's level above; the probability falls as the tail grows, in steps.
    safe, bad = (1 - prob) / 2 / len(points), (1 - prob) / 2 * (1 + 1e-9)
    for _ in range(30):
        tail = np.sqrt(safe * bad)
        if _probability_inside(n, points, *limits(tail)) >= prob:
            safe = tail
        else:
            bad = tail
    lower, upper = limits(safe)
    ecdf = np.searchsorted(np.sort(values), points, side="right") / n
    return EcdfBand(points, ecdf, lower / n, upper / n)


def _probability_inside(n: int, points: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """That the counts of n uniform values at or below equally spaced points stay within the limits at every point.

    n uniform values are a Poisson process of rate n given that it has n points, so steps are independent Poisson counts
    and the law of the path is a chain of convolutions, cut at the limits and divided by P(Poisson(n) = n).
    """
    from scipy.stats import poisson

    step = poisson.pmf(np.arange(n + 1), n * points[0])
    weight, start = np.ones(1), 0
    for low, high in zip(lower, upper, strict=True):
        reached = np.convolve(weight, step[: high - start + 1])
        weight, start = reached[max(low - start, 0) : high - start + 1], max(low, start)
    rest = poisson.pmf(n - start - np.arange(len(weight)), n * (1 - points[-1]))
    return float(weight @ rest / poisson.pmf(n, n))
