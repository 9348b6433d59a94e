"""Standard errors, scores and imputation errors against closed forms.

Statistical bounds: 4.5 standard errors (a failure rate below 1e-5 a check) or p > 1e-5, at fixed seeds; each such check
has a twin with a planted bug that it must see.
"""

import json

import numpy as np
import pytest
from scipy import stats
from scoring import BOUND, NormalWithHoles, z_score

from deepgen import evaluation as ev
from deepgen.evaluation import Estimate


def dependent_cells(seed, n=60):
    """Rows with 1..5 cells that share an effect; the mean is 0."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(n), rng.integers(1, 6, n))
    return rng.standard_normal(n)[rows] + 0.5 * rng.standard_normal(len(rows)), rows


def test_the_standard_error_by_rows_is_that_of_the_mean():
    found = [ev.cell_mean(*dependent_cells(seed)) for seed in range(600)]
    z2 = np.array([(e.value / e.stderr) ** 2 for e in found])
    # A t-like statistic of 60 rows: E z² is about 1 + 3/60; 0.12 is 2 standard errors of 600 replicates.
    assert 0.85 < z2.mean() < 1.3
    naive = [values.mean() / (values.std() / np.sqrt(len(values))) for values, _ in map(dependent_cells, range(600))]
    assert np.square(naive).mean() > 1.6


def test_one_cell_a_row_gives_the_usual_standard_error():
    values = np.random.default_rng(0).standard_normal(50)
    found = ev.cell_mean(values, np.arange(50))
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    assert np.isnan(ev.cell_mean(values, np.zeros(50)).stderr)
    with pytest.raises(ValueError, match="cells: got"):
        ev.cell_mean(values[:0], np.zeros(0))


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (1.23456, 0.0789, "1.235 ± 0.079"),
        (-120.4, 3.2, "-120.4 ± 3.2"),
        (5.0, float("nan"), "5"),
        (1234.5, 20.0, "1234 ± 20"),
    ],
)
def test_estimates_are_written_with_two_digits_of_error(value, stderr, text):
    assert str(Estimate(value, stderr)) == text


def test_mean_log_prob_counts_monte_carlo_noise_once():
    """200 test sets whose rows are estimated with noise: the stated standard error is the spread of the means."""
    rng = np.random.default_rng(0)
    means, stated, doubled = [], [], []
    for _ in range(400):
        exact, sigma = rng.normal(-80, 2, 50), np.full(50, 3.0)
        found = ev.mean_log_prob(exact + sigma * rng.standard_normal(50))
        means.append(found.value)
        stated.append(found.stderr**2)
        doubled.append(found.stderr**2 + ev.monte_carlo_stderr(sigma) ** 2)
    spread = np.square(np.array(means) + 80)
    assert z_score(spread - stated, 0) < BOUND
    assert z_score(spread - doubled, 0) > BOUND
    assert ev.monte_carlo_stderr(np.array([3.0, 4.0])) == 2.5


def test_bits_per_dim():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 6))
    # Uniform on 256 levels is 8 bits a pixel, whether the density is of pixels or of pixels / 256.
    assert ev.bits_per_dim(np.full(40, -6 * np.log(256)), 6).value == pytest.approx(8)
    assert ev.bits_per_dim(np.zeros(40), 6, scale=256.0).value == pytest.approx(8)
    log_prob = stats.norm.logpdf(pixels, 128, 70).sum(1)
    found = ev.bits_per_dim(log_prob, 6)
    assert found.value == pytest.approx(-log_prob.mean() / 6 / np.log(2))
    assert found.stderr == pytest.approx(log_prob.std(ddof=1) / np.sqrt(40) / 6 / np.log(2))


def test_likelihoods_that_are_refused():
    assert ev.mean_log_prob(np.array([-np.inf, 0.0])).value == -np.inf
    assert np.isnan(ev.mean_log_prob(np.zeros(1)).stderr)
    for bad in (np.zeros((2, 2)), np.zeros(0), np.array([np.nan])):
        with pytest.raises(ValueError, match=r"log_prob: got shape .* one number for each"):
            ev.mean_log_prob(bad)
    with pytest.raises(ValueError, match="stderr: got negative values"):
        ev.monte_carlo_stderr(np.array([-1.0]))
    with pytest.raises(ValueError, match="event_size: got 0"):
        ev.bits_per_dim(np.zeros(2), 0)
    with pytest.raises(ValueError, match="scale: got -1"):
        ev.bits_per_dim(np.zeros(2), 1, scale=-1.0)


def crps_normal(y, mean, sd):
    z = (y - mean) / sd
    return sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))


def test_crps_is_the_double_sum():
    rng = np.random.default_rng(0)
    draws, truth = rng.normal(1e3, 1, (7, 3, 2)), rng.normal(1e3, 2, (3, 2))
    pairs = np.abs(draws[:, None] - draws[None]).sum((0, 1)) / (2 * 7 * 6)
    np.testing.assert_allclose(ev.crps(draws, truth), np.abs(draws - truth).mean(0) - pairs, rtol=1e-10)


def test_crps_of_few_draws_has_the_normal_closed_form_as_its_mean():
    rng = np.random.default_rng(1)
    draws, truth = rng.normal(2, 3, (4, 20_000)), np.full(20_000, 3.5)
    assert z_score(ev.crps(draws, truth), crps_normal(3.5, 2, 3)) < BOUND
    unfair = np.abs(draws - truth).mean(0) - np.abs(draws[:, None] - draws[None]).mean((0, 1)) / 2
    assert z_score(unfair, crps_normal(3.5, 2, 3)) > BOUND


def test_crps_of_many_draws_is_the_closed_form_in_chunks(monkeypatch):
    draws, truth = np.random.default_rng(1).normal(0, 1, (20_000, 3)), np.array([-1.0, 0.2, 3.0])
    whole = ev.crps(draws, truth)
    np.testing.assert_allclose(whole, crps_normal(truth, 0, 1), atol=BOUND * 1 / np.sqrt(20_000))
    monkeypatch.setattr("deepgen.evaluation.scores._CHUNK", 20_001)
    np.testing.assert_allclose(ev.crps(draws, truth), whole, rtol=1e-12)


def test_the_energy_score_is_the_double_sum_of_each_row(monkeypatch):
    rng = np.random.default_rng(0)
    draws, truth = rng.normal(1e3, 1, (9, 7)), rng.normal(1e3, 2, 7)
    rows = np.array([5, 2, 5, 9, 2, 5, 2])
    expected = []
    for row in (2, 5, 9):
        x, y = draws[:, rows == row], truth[rows == row]
        pairs = np.linalg.norm(x[:, None] - x[None], axis=2).sum() / (2 * 9 * 8)
        expected.append(np.linalg.norm(x - y, axis=1).mean() - pairs)
    found = ev.energy_score(draws, truth, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    monkeypatch.setattr("deepgen.evaluation.scores._CHUNK", 80)
    np.testing.assert_allclose(ev.energy_score(draws, truth, rows), found, rtol=1e-12)
    np.testing.assert_allclose(ev.energy_score(draws, truth, np.arange(7)), ev.crps(draws, truth), rtol=1e-6)


def test_the_energy_score_of_few_draws_has_no_bias():
    """Three draws of a standard normal plane: E||X - y|| and E||X - X'|| are those of the Rayleigh and Rice laws."""
    rng = np.random.default_rng(2)
    draws, truth = rng.standard_normal((3, 20_000)), np.tile([1.2, 0.0], 10_000)
    exact = stats.rice.mean(1.2) - np.sqrt(np.pi) / 2
    assert z_score(ev.energy_score(draws, truth, np.repeat(np.arange(10_000), 2)), exact) < BOUND
    x = draws.reshape(3, -1, 2)
    first = np.linalg.norm(x - truth.reshape(-1, 2), axis=2).mean(0)
    unfair = first - np.linalg.norm(x[:, None] - x[None], axis=3).mean((0, 1)) / 2
    assert z_score(unfair, exact) > BOUND


def test_the_true_law_has_the_best_energy_score_and_crps_does_not_see_dependence():
    """Wrong laws score worse than the true one, by the mean difference over rows; so does one that is only wrong in the
    correlation, whose CRPS is as good."""
    rng = np.random.default_rng(3)
    n, size, rho = 1500, 40, 0.9
    factor = np.linalg.cholesky([[1.0, rho], [rho, 1.0]])
    truth = rng.standard_normal((n, 2)) @ factor.T
    rows = np.repeat(np.arange(n), 2)
    laws = {
        "true": rng.standard_normal((size, n, 2)) @ factor.T,
        "again": rng.standard_normal((size, n, 2)) @ factor.T,
        "shifted": rng.standard_normal((size, n, 2)) @ factor.T + 0.5,
        "narrow": 0.5 * rng.standard_normal((size, n, 2)) @ factor.T,
        "independent": rng.standard_normal((size, n, 2)),
    }
    energy = {name: ev.energy_score(x.reshape(size, -1), truth.reshape(-1), rows) for name, x in laws.items()}
    single = {name: ev.crps(x, truth).mean(1) for name, x in laws.items()}
    assert z_score(energy["again"] - energy["true"], 0) < BOUND
    for name in ("shifted", "narrow", "independent"):
        difference = energy[name] - energy["true"]
        assert difference.mean() > 0
        assert z_score(difference, 0) > BOUND
    assert z_score(single["independent"] - single["true"], 0) < BOUND
    assert z_score(single["narrow"] - single["true"], 0) > BOUND


def exchangeable(seed, draws=39, n=30_000):
    x = np.random.default_rng(seed).standard_normal((draws + 1, n))
    return x[1:], x[0]


@pytest.mark.parametrize("prob", [0.5, 0.9, 0.95])
def test_intervals_of_few_draws_cover_as_they_say(prob):
    draws, truth = exchangeable(0)
    lower, upper = ev.interval(draws, prob)
    inside = (lower <= truth) & (truth <= upper)
    assert z_score(inside, prob) < BOUND
    low, high = np.quantile(draws, [(1 - prob) / 2, (1 + prob) / 2], axis=0)
    assert z_score((low <= truth) & (truth <= high), prob) > BOUND


def test_ranks_and_pit_are_uniform_for_discrete_data():
    rng = np.random.default_rng(0)
    rate = rng.gamma(2, 1, 20_000)
    x = rng.poisson(rate, (20, 20_000))
    found = ev.ranks(x[1:], x[0], seed=1)
    assert found.min() == 0
    assert found.max() == 19
    assert ev.uniformity_pvalue(found, 19) > 1e-5
    assert ev.uniformity_pvalue((x[1:] < x[0]).sum(0), 19) < 1e-5
    assert stats.kstest(ev.pit(x[1:], x[0], seed=1), "uniform").pvalue > 1e-5
    assert stats.kstest((x[1:] < x[0]).mean(0), "uniform").pvalue < 1e-5


def test_scores_refuse_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"draws: got shape \(1, 3\) for a truth of shape \(3,\); .* S >= 2"):
        ev.crps(np.zeros((1, 3)), np.zeros(3))
    with pytest.raises(ValueError, match=r"draws: got shape \(1, 3\) .* S >= 2"):
        ev.energy_score(np.zeros((1, 3)), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"rows: got shape \(2,\) for a truth of shape \(3,\)"):
        ev.energy_score(np.zeros((2, 3)), np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"draws: got shape \(3, 5\)"):
        ev.ranks(np.zeros((3, 5)), np.zeros(3), seed=0)
    with pytest.raises(ValueError, match=r"draws: got 38 for an interval of probability 0.95; expected at least 39"):
        ev.interval(np.zeros((38, 2)), 0.95)
    with pytest.raises(ValueError, match=r"prob: got 1.0"):
        ev.interval(np.zeros((38, 2)), 1.0)


@pytest.fixture(scope="module")
def oracle():
    return NormalWithHoles()


def test_imputation_error_by_brute_force(oracle):
    found = ev.imputation_error(oracle.posterior(), oracle.x)
    hidden = ~oracle.observed
    draws, truth = oracle.draws[:, hidden], oracle.x[hidden]
    assert (found.cells, found.rows) == (hidden.sum(), hidden.any(1).sum())
    assert found.rmse.value == pytest.approx(np.sqrt(np.mean((draws.mean(0) - truth) ** 2)))
    assert found.mae.value == pytest.approx(np.abs(np.median(draws, axis=0) - truth).mean())
    assert found.crps.value == pytest.approx(ev.crps(draws, truth).mean())
    energy = ev.energy_score(draws, truth, np.nonzero(hidden)[0])
    assert len(energy) == found.rows
    assert found.energy.value == pytest.approx(energy.mean())
    assert found.energy.stderr == pytest.approx(energy.std(ddof=1) / np.sqrt(found.rows))
    lower, upper = ev.interval(draws, 0.9)
    assert found.width[0.9].value == pytest.approx((upper - lower).mean())
    assert found.coverage[0.9].value == pytest.approx(((lower <= truth) & (truth <= upper)).mean())
    square = ev.cell_mean((draws.mean(0) - truth) ** 2, np.nonzero(hidden)[0])
    assert found.rmse.stderr == pytest.approx(square.stderr / (2 * found.rmse.value))
    assert found.accuracy is None
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["coverage"]["0.95"]["value"] == found.coverage[0.95].value


def test_exact_draws_cover_and_overconfident_ones_do_not(oracle):
    for prob, coverage in ev.imputation_error(oracle.posterior(), oracle.x).coverage.items():
        assert abs(coverage.value - prob) < BOUND * coverage.stderr
    for prob, coverage in ev.imputation_error(oracle.posterior(spread=0.6), oracle.x).coverage.items():
        assert abs(coverage.value - prob) > BOUND * coverage.stderr


def test_the_exact_law_has_the_best_crps_and_energy_score(oracle):
    exact = ev.imputation_error(oracle.posterior(), oracle.x)
    for spread in (0.4, 2.0):
        found = ev.imputation_error(oracle.posterior(spread=spread), oracle.x)
        assert found.crps.value > exact.crps.value
        assert found.energy.value > exact.energy.value


def test_the_energy_score_of_a_point_is_the_length_of_its_error(oracle):
    point = oracle.posterior(spread=0.0, law="point").isel(chain=[0], draw=[0])
    found = ev.imputation_error(point, oracle.x)
    error = np.where(oracle.observed, 0.0, point.posterior["x"].values[0, 0] - oracle.x)
    length = np.linalg.norm(error, axis=1)[~oracle.observed.all(1)]
    assert found.energy.value == pytest.approx(length.mean())
    assert found.energy.stderr == pytest.approx(length.std(ddof=1) / np.sqrt(len(length)))
    assert found.energy.value > ev.imputation_error(oracle.posterior(), oracle.x).energy.value


def test_cells_without_a_known_truth_are_left_out(oracle):
    truth = oracle.x.copy()
    truth[:500] = np.nan
    found = ev.imputation_error(oracle.posterior(), truth)
    assert found.cells == (~oracle.observed[500:]).sum()


def test_binary_cells_have_brier_and_accuracy():
    rng = np.random.default_rng(0)
    p = rng.random((400, 5))
    truth = (rng.random(p.shape) < p).astype(float)
    draws = (rng.random((50, *p.shape)) < p).astype(float)
    observed = np.zeros(p.shape, bool)
    found = ev.imputation_error(ev.posterior_of(draws[None], observed), truth)
    assert abs(found.brier.value - ((p - truth) ** 2).mean()) < BOUND * found.brier.stderr
    assert found.brier == found.crps
    assert found.accuracy.value == pytest.approx(
        np.where(draws.mean(0) == 0.5, 0.5, (draws.mean(0) > 0.5) == truth).mean()
    )
    table = ev.error_table({"a": found})
    assert list(table.columns[:6]) == ["RMSE", "MAE", "CRPS", "energy", "Brier", "accuracy"]


def test_imputation_error_refuses(oracle):
    posterior = oracle.posterior()
    with pytest.raises(ValueError, match=r"posterior: got the groups .* the variable 'y'"):
        ev.imputation_error(posterior, oracle.x, var_name="y")
    with pytest.raises(ValueError, match=r"truth: got shape \(3, 4\)"):
        ev.imputation_error(posterior, oracle.x[:3])
    with pytest.raises(ValueError, match="observed: got no missing cell whose truth is known"):
        ev.imputation_error(posterior, oracle.x, observed=np.ones_like(oracle.observed))
    del posterior.constant_data
    with pytest.raises(ValueError, match="observed: got None, and no constant_data"):
        ev.imputation_error(posterior, oracle.x)
    assert ev.imputation_error(posterior, oracle.x, observed=oracle.observed).cells > 0
    with pytest.raises(ValueError, match=r"errors: got \{\}; expected methods scored over the same cells"):
        ev.error_table({})
    with pytest.raises(ValueError, match=r"draws: got shape \(2, 3\)"):
        ev.posterior_of(np.zeros((2, 3)), np.zeros((3,), bool))
    with pytest.raises(ValueError, match="columns: got 1 names"):
        ev.posterior_of(np.zeros((1, 2, 3, 2)), np.zeros((3, 2), bool), columns=["a"])
