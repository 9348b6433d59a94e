"""Rubin's rules, against closed forms and a simulation, and how `pool` takes its tables."""

from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from montecarlo import RATE
from scipy import stats

from deepgen.evaluation import posterior_of
from deepgen.inference.imputation.pooling import pool, rubin


def test_a_worked_example() -> None:
    """m = 3, computed by hand: W = 3, B = 4, T = 3 + 16 / 3, lambda = 0.64."""
    estimates, variances = np.array([[10.0], [12.0], [14.0]]), np.array([[2.0], [3.0], [4.0]])
    found = rubin(estimates, variances, dof=20, names=["weight"])
    assert found.estimate == 12
    assert found.within == 3
    assert found.between == 4
    np.testing.assert_allclose(found.total, 25 / 3)
    np.testing.assert_allclose(found.stderr, 5 / np.sqrt(3))
    of_imputation, of_table = 2 / 0.64**2, 21 / 23 * 20 * 0.36
    dof = 1 / (1 / of_imputation + 1 / of_table)
    np.testing.assert_allclose(found.dof, dof)
    np.testing.assert_allclose(found.missing_information, 0.64 + 0.36 * 2 / (dof + 3))
    relative = (1 + 1 / 3) * 4 / 3
    np.testing.assert_allclose(found.missing_information, (relative + 2 / (dof + 3)) / (1 + relative))
    half = stats.t.ppf(0.975, dof) * np.sqrt(25 / 3)
    np.testing.assert_allclose([found.lower[0], found.upper[0]], [12 - half, 12 + half])
    large = rubin(estimates, variances, prob=0.5)
    np.testing.assert_allclose(large.dof, of_imputation)
    assert large.upper < found.upper
    table = found.summary()
    assert list(table.index) == ["weight"]
    assert list(table.columns) == [
        "estimate",
        "stderr",
        "lower",
        "upper",
        "within",
        "between",
        "total",
        "dof",
        "missing_information",
    ]
    assert table.loc["weight", "total"] == pytest.approx(25 / 3)


def test_nothing_missing_is_the_complete_analysis() -> None:
    found = rubin(np.full((5, 1), 2.0), np.full((5, 1), 0.25))
    assert found.dof == np.inf
    assert found.missing_information == 0
    np.testing.assert_allclose(found.upper, 2 + 0.5 * stats.norm.ppf(0.975))
    small = rubin(np.full((5, 1), 2.0), np.full((5, 1), 0.25), dof=9)
    np.testing.assert_allclose(small.dof, 10 / 12 * 9)
    assert rubin(np.full((5, 1), 2.0), np.zeros((5, 1))).lower == 2
    # nothing but what is missing makes it uncertain
    unknown = rubin(np.array([[1.0], [2.0], [4.0]]), np.zeros((3, 1)))
    np.testing.assert_allclose(unknown.missing_information, 1)
    np.testing.assert_allclose(unknown.dof, 2)


def test_intervals_cover_as_often_as_they_say() -> None:
    """The mean of y, half of it missing, imputed exactly: a regression on x whose parameters are drawn as well.

    The interval covers within the binomial error; without the variance between imputations it does not.
    """
    rng = np.random.default_rng(3)
    studies, n, m = 4000, 40, 20
    x = rng.standard_normal((studies, n))
    y = 0.5 + 0.8 * x + 0.6 * rng.standard_normal((studies, n))
    seen = n // 2
    design = np.stack([np.ones((studies, seen)), x[:, :seen]], axis=-1)
    inverse = np.linalg.inv(np.einsum("sij,sik->sjk", design, design))
    slope = np.einsum("sjk,sik,si->sj", inverse, design, y[:, :seen])
    residual = ((y[:, :seen] - np.einsum("sij,sj->si", design, slope)) ** 2).sum(1)
    factor = np.linalg.cholesky(inverse)
    estimates, variances = [], []
    for _ in range(m):
        sd = np.sqrt(residual / rng.chisquare(seen - 2, studies))
        drawn = slope + sd[:, None] * np.einsum("sjk,sk->sj", factor, rng.standard_normal((studies, 2)))
        noise = sd[:, None] * rng.standard_normal((studies, n - seen))
        completed = np.concatenate([y[:, :seen], drawn[:, :1] + drawn[:, 1:] * x[:, seen:] + noise], axis=1)
        estimates.append(completed.mean(1))
        variances.append(completed.var(1, ddof=1) / n)

    def pvalue(lower: np.ndarray, upper: np.ndarray) -> float:
        covered = int(((lower <= 0.5) & (upper >= 0.5)).sum())
        return float(stats.binomtest(covered, studies, 0.95).pvalue)

    found = rubin(np.array(estimates), np.array(variances), dof=n - 1)
    assert pvalue(found.lower, found.upper) > RATE
    half = stats.t.ppf(0.975, n - 1) * np.sqrt(found.within)
    assert pvalue(found.estimate - half, found.estimate + half) < RATE
    assert 0.1 < found.missing_information.mean() < 0.5


def posterior(chains: int = 3, draws: int = 8, *, columns: Any = None) -> az.InferenceData:
    """Two rows of two columns, one entry missing, whose draws say where they stand."""
    observed = np.array([[True, True], [True, False]])
    x = np.tile(np.array([[1.0, 2.0], [3.0, 0.0]]), (chains, draws, 1, 1))
    x[..., 1, 1] = 100 * np.arange(chains)[:, None] + np.arange(draws)
    return posterior_of(x, observed, columns=columns)


def test_tables_are_taken_evenly_over_chains_and_draws() -> None:
    taken: list[float] = []

    def estimate(table: np.ndarray) -> tuple[float, float]:
        assert table.shape == (2, 2)
        taken.append(float(table[1, 1]))
        return table[:, 1].mean(), 1.0

    found = pool(estimate, posterior(), num_imputations=6)
    assert taken == [2, 6, 102, 106, 202, 206]
    assert found.num_imputations == 6
    np.testing.assert_allclose(found.estimate, (2 + np.mean(taken)) / 2)
    taken.clear()
    pool(estimate, posterior(draws=30))
    assert len(taken) == len(set(taken)) == 20
    assert np.bincount(np.array(taken, dtype=int) // 100).tolist() == [7, 6, 7]
    taken.clear()
    pool(estimate, [posterior(1), posterior(2)], num_imputations=24)
    assert len(taken) == 24


def test_vectors_frames_and_standard_errors() -> None:
    def means(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        assert list(table.columns) == ["a", "b"]
        return table.mean(), table.var() / len(table)

    post = posterior(columns=["a", "b"])
    found = pool(means, post, num_imputations=12, frame=True, dof=1)
    assert found.names == ("a", "b")
    assert found.between[0] == 0 < found.between[1]
    assert found.missing_information[0] < found.missing_information[1]

    def roots(table: pd.DataFrame) -> tuple[Any, Any]:
        return table.mean().to_list(), np.sqrt(table.var() / len(table))

    other = pool(roots, post, num_imputations=12, frame=True, dof=1, stderr=True)
    assert other.names == ("q0", "q1")
    np.testing.assert_allclose(other.total, found.total)
    assert pool(means_of_array, posterior(), num_imputations=4).names == ("q0", "q1")
    assert list(pool(lambda table: (table["1"].mean(), 1.0), posterior(), frame=True).summary().index) == ["q0"]


def means_of_array(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return table.mean(0), table.var(0)


def without_draws() -> az.InferenceData:
    post = posterior()
    post.attrs["law"] = "point"
    return post


def with_other_rows() -> list[az.InferenceData]:
    images = xr.Dataset({"x": (("chain", "draw", "row", "a"), np.zeros((1, 3, 5, 2)))})
    return [posterior(), az.InferenceData(posterior=images)]


def images() -> az.InferenceData:
    return az.InferenceData(
        posterior=xr.Dataset({"x": (("chain", "draw", "row", "c", "h", "w"), np.zeros((1, 30, 2, 1, 2, 2)))})
    )


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (posterior, {"num_imputations": 1}, "num_imputations: got 1; expected a number from 2 to 24"),
    (posterior, {"num_imputations": 25}, "num_imputations: got 25; expected a number from 2 to 24"),
    (posterior, {"var_name": "y"}, "posterior: got the groups .* with the variable 'y'"),
    (posterior, {"prob": 1.0}, r"prob: got 1.0; expected a probability in \(0, 1\)"),
    (posterior, {"dof": 0}, "dof: got 0; expected a number > 0"),
    (without_draws, {}, "posterior: got one value for each missing entry; expected draws"),
    (with_other_rows, {}, r"posterior: got completed rows of shapes \[\(2, 2\), \(5, 2\)\]"),
    (list, {}, r"posterior: got completed rows of shapes \[\]"),
    (images, {"frame": True}, r"frame: got True for rows of shape \(1, 2, 2\); expected rows of a table"),
]


@pytest.mark.parametrize(("given", "options", "message"), REFUSED)
def test_bad_arguments_are_refused(given: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(means_of_array, given(), **options)


@pytest.mark.parametrize(
    ("estimates", "variances", "options", "message"),
    [
        (np.ones((3, 1)), np.ones((3, 2)), {}, r"got shapes \(3, 1\) and \(3, 2\); expected \(m, k\) both"),
        (np.ones((1, 1)), np.ones((1, 1)), {}, "m at least 2"),
        (np.full((3, 1), np.nan), np.ones((3, 1)), {}, "numbers that are not finite, or a negative variance"),
        (np.ones((3, 1)), -np.ones((3, 1)), {}, "numbers that are not finite, or a negative variance"),
        (np.ones((3, 2)), np.ones((3, 2)), {"names": ["a"]}, "names: got 1 names; expected 2, one a quantity"),
    ],
)
def test_bad_estimates_are_refused(estimates: Any, variances: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rubin(estimates, variances, **options)
