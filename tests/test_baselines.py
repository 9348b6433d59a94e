"""The baselines: a normal by EM against its closed forms, the others against scikit-learn.

Statistical bounds: 4.5 standard errors (a failure rate below 1e-5 a check) or p > 1e-5, at fixed seeds; each such check
has a twin with a planted bug that it must see.
"""

import numpy as np
import pytest
from scipy import stats
from scoring import BOUND, NormalWithHoles, z_score

from deepgen import evaluation as ev
from deepgen.data import hide, mcar
from deepgen.math.gaussian import fit_gaussian


@pytest.fixture(scope="module")
def oracle():
    return NormalWithHoles()


def test_the_normal_fits_complete_data_in_closed_form(oracle):
    fitted = fit_gaussian(oracle.x, pseudo_rows=1e-9)
    np.testing.assert_allclose(fitted.mean, oracle.x.mean(0), rtol=1e-9)
    np.testing.assert_allclose(fitted.covariance, np.cov(oracle.x.T, bias=True), rtol=1e-8)
    expected = stats.multivariate_normal(fitted.mean, fitted.covariance).logpdf(oracle.x[:5])
    np.testing.assert_allclose(fitted.log_prob(oracle.x[:5]), expected, rtol=1e-10)


def test_em_climbs_to_a_stationary_point(oracle):
    fitted = fit_gaussian(oracle.holes[:80], pseudo_rows=2.0, tolerance=1e-11, max_steps=1000)
    assert fitted.converged
    assert (np.diff(fitted.log_likelihoods) > -1e-9).all()
    variance = np.diag(np.nanvar(oracle.holes[:80], axis=0))

    def objective(mean, covariance):
        law = ev.Gaussian(mean, covariance, (), True)
        penalty = np.linalg.slogdet(covariance)[1] + np.trace(np.linalg.solve(covariance, variance))
        return law.log_prob(oracle.holes[:80]).sum() - penalty

    assert objective(fitted.mean, fitted.covariance) == pytest.approx(fitted.log_likelihoods[-1], abs=1e-8)
    step = 1e-4
    for i in range(4):
        shift = step * np.eye(4)[i]
        slope = objective(fitted.mean + shift, fitted.covariance) - objective(fitted.mean - shift, fitted.covariance)
        assert abs(slope / (2 * step)) < 1e-3
        for j in range(i + 1):
            turn = step * (np.outer(np.eye(4)[i], np.eye(4)[j]) + np.outer(np.eye(4)[j], np.eye(4)[i]))
            slope = objective(fitted.mean, fitted.covariance + turn) - objective(fitted.mean, fitted.covariance - turn)
            assert abs(slope / (2 * step)) < 1e-3
    one_step = fit_gaussian(oracle.holes[:80], pseudo_rows=2.0, max_steps=1)
    assert not one_step.converged
    assert objective(one_step.mean, one_step.covariance) < fitted.log_likelihoods[-1] - 1


def test_draws_of_the_normal_have_the_conditional_law(oracle):
    observed = np.array([True, False, True, False])
    row = np.where(observed, [2.0, 0, -1.0, 0], np.nan)
    draws = oracle.law.sample(np.tile(row, (3, 1)), 20_000, seed=0)
    assert draws.shape == (20_000, 3, 4)
    np.testing.assert_array_equal(draws[:, :, [0, 2]], np.broadcast_to([2.0, -1.0], (20_000, 3, 2)))
    s = oracle.covariance
    gain = s[np.ix_([1, 3], [0, 2])] @ np.linalg.inv(s[np.ix_([0, 2], [0, 2])])
    mean = oracle.mean[[1, 3]] + gain @ (np.array([2.0, -1.0]) - oracle.mean[[0, 2]])
    left = s[np.ix_([1, 3], [1, 3])] - gain @ s[np.ix_([0, 2], [1, 3])]
    hidden = draws[:, 0, [1, 3]]
    assert stats.kstest(hidden[:, 0], stats.norm(mean[0], np.sqrt(left[0, 0])).cdf).pvalue > 1e-5
    assert stats.kstest(hidden[:, 1], stats.norm(mean[1], np.sqrt(left[1, 1])).cdf).pvalue > 1e-5
    assert stats.kstest(hidden[:, 0], stats.norm(mean[0], np.sqrt(s[1, 1])).cdf).pvalue < 1e-5
    product = (hidden[:, 0] - mean[0]) * (hidden[:, 1] - mean[1])
    assert z_score(product, left[0, 1]) < BOUND


def test_the_normal_stands_few_rows_and_constant_columns():
    x = np.random.default_rng(0).standard_normal((5, 12))
    x[:, 3] = 2.0
    fitted = fit_gaussian(x)
    assert np.linalg.eigvalsh(fitted.covariance).min() > 0
    holes = hide(x, mcar(x, 0.5, seed=0))
    holes[0, 3] = np.nan
    assert np.abs(fitted.sample(holes, 50, seed=0)[:, 0, 3] - 2).max() < 0.05
    for bad, message in ((x[0], "x: got shape"), (np.full((2, 2), np.inf), "infinite values")):
        with pytest.raises(ValueError, match=message):
            fit_gaussian(bad)
    with pytest.raises(ValueError, match="pseudo_rows: got 0"):
        fit_gaussian(x, pseudo_rows=0.0)
    with pytest.raises(ValueError, match=r"x: got shape \(5, 3\); expected \(n, 12\)"):
        fitted.sample(x[:, :3], 3, seed=0)


@pytest.fixture(scope="module")
def completed(oracle):
    train = hide(oracle.x[:1000], mcar(oracle.x[:1000], 0.2, seed=8))
    test = oracle.holes[1000:].astype(np.float32)
    return train, test, ev.baselines(train, test, seed=0, num_draws=60, methods=ev.BASELINES)


def test_baselines_are_scikit_learns(completed):
    from sklearn.impute import KNNImputer

    train, test, done = completed
    assert list(done) == list(ev.BASELINES)
    holes = np.isnan(test)
    mean = np.where(holes, np.nanmean(train, axis=0), test)
    np.testing.assert_allclose(done["mean"].posterior["x"].values[0, 0], mean, rtol=1e-6)
    neighbours = KNNImputer(n_neighbors=5).fit(train).transform(test.astype(float))
    np.testing.assert_allclose(done["knn"].posterior["x"].values[0, 0], neighbours, rtol=1e-6)
    for name, posterior in done.items():
        draws = posterior.posterior["x"].values
        assert draws.shape == (1, 60 if name in ("iterative draws", "gaussian") else 1, *test.shape)
        assert draws.dtype == np.float32
        seen = np.broadcast_to(~holes, draws.shape)
        np.testing.assert_array_equal(
            draws[seen].view(np.uint32), np.broadcast_to(test, draws.shape)[seen].view(np.uint32)
        )
        assert posterior.attrs["method"] == name
    np.testing.assert_array_equal(done["mean"].observed_data["x"], test)


def test_draws_differ_and_points_have_no_intervals(completed, oracle):
    _, _, done = completed
    errors = {name: ev.imputation_error(posterior, oracle.x[1000:]) for name, posterior in done.items()}
    for name in ("mean", "knn", "iterative"):
        assert errors[name].coverage is None
        assert errors[name].crps == errors[name].mae
    for name in ("iterative draws", "gaussian"):
        assert done[name].posterior["x"].values.std(1).max() > 0.1
        assert abs(errors[name].coverage[0.9].value - 0.9) < BOUND * errors[name].coverage[0.9].stderr
    assert errors["gaussian"].rmse.value < errors["iterative"].rmse.value * 1.05
    assert errors["iterative"].rmse.value < 0.8 * errors["mean"].rmse.value
    table = ev.error_table(errors)
    assert table.loc["mean", "coverage 90%"] == "–"
    assert table.index[-1] == "mean"
    with pytest.raises(ValueError, match="posterior: got one value a cell; expected draws"):
        ev.coverage_curve(done["mean"], oracle.x[1000:], seed=0)


def test_baselines_refuse():
    x = np.random.default_rng(0).standard_normal((20, 3))
    holes = x.copy()
    holes[0, 0] = np.nan
    with pytest.raises(ValueError, match="methods: got 'median'"):
        ev.baselines(x, holes, seed=0, methods=["median"])
    with pytest.raises(ValueError, match="num_draws: got 0"):
        ev.baselines(x, holes, seed=0, num_draws=0)
    with pytest.raises(ValueError, match=r"x: got shape \(20, 2\)"):
        ev.baselines(x, holes[:, :2], seed=0)
    with pytest.raises(ValueError, match="train and x: got no NaN in x"):
        ev.baselines(x, x, seed=0)
    empty = x.copy()
    empty[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"got columns \[1\] all missing in train"):
        ev.baselines(empty, holes, seed=0)
    with pytest.raises(ValueError, match="train and x: got infinite values"):
        ev.baselines(np.where(x > 2, np.inf, np.sign(x) * np.inf), holes, seed=0)
