"""Calibration: coverage curves, ranks, their tests and bands.

Statistical bounds: 4.5 standard errors (a failure rate below 1e-5 a check) or p > 1e-5, at fixed seeds; each such check
has a twin with a planted bug that it must see.
"""

import numpy as np
import pytest
from scipy import stats
from scoring import BOUND, NormalWithHoles

from deepgen import evaluation as ev


@pytest.fixture(scope="module")
def oracle():
    return NormalWithHoles()


def test_the_coverage_curve_of_exact_draws_is_the_diagonal(oracle):
    curve = ev.coverage_curve(oracle.posterior(), oracle.x, seed=0)
    z = (curve["empirical"] - curve["nominal"]) / curve["stderr"]
    assert np.abs(z).max() < BOUND
    narrow = ev.coverage_curve(oracle.posterior(spread=0.6), oracle.x, seed=0)
    assert (np.abs(narrow["empirical"] - narrow["nominal"]) / narrow["stderr"]).max() > BOUND
    with pytest.raises(ValueError, match=r"probs: got \[1.0\]"):
        ev.coverage_curve(oracle.posterior(), oracle.x, seed=0, probs=[1.0])


def conjugate(scale=1.0, n=2000, draws=63):
    """θ ~ N(0, 1), x | θ ~ N(θ, 1), so θ | x ~ N(x/2, 1/2); two parameters."""
    rng = np.random.default_rng(4)
    theta = rng.standard_normal((n, 2))
    x = theta + rng.standard_normal((n, 2))
    return theta, x[:, None] / 2 + scale * np.sqrt(0.5) * rng.standard_normal((n, draws, 2))


def test_simulation_based_calibration_sees_a_wrong_posterior():
    ranks = ev.sbc_ranks(*conjugate(), seed=0)
    assert ranks.shape == (2000, 2)
    for scale, calibrated in ((1.0, True), (1.25, False), (0.8, False)):
        ranks = ev.sbc_ranks(*conjugate(scale), seed=0)
        p = [ev.uniformity_pvalue(ranks[:, k], 63) for k in range(2)]
        assert (min(p) > 1e-5) == calibrated
        band = ev.ecdf_band((ranks[:, 0] + np.random.default_rng(0).random(2000)) / 64, prob=1 - 1e-5)
        assert band.inside == calibrated


def test_the_chi_square_test_rejects_at_its_level():
    rng = np.random.default_rng(0)
    p = [ev.uniformity_pvalue(rng.integers(0, 100, 500), 99) for _ in range(800)]
    assert stats.kstest(p, "uniform").pvalue > 1e-5
    uneven = [ev.uniformity_pvalue(rng.integers(0, 100, 500), 99, bins=7) for _ in range(800)]
    assert stats.kstest(uneven, "uniform").pvalue > 1e-5


@pytest.mark.parametrize("n", [20, 300])
def test_the_band_holds_a_uniform_sample_as_often_as_it_says(n):
    rng = np.random.default_rng(1)
    samples = np.sort(rng.random((4000, n)), axis=1)
    band = ev.ecdf_band(samples[0], prob=0.9)
    ecdf = np.array([np.searchsorted(sample, band.points, side="right") for sample in samples]) / n
    np.testing.assert_array_equal(ecdf[0], band.ecdf)
    inside = ((ecdf >= band.lower) & (ecdf <= band.upper)).all(1)
    # Counts are whole numbers, so the band may hold a little more than it says.
    assert inside.mean() > 0.9 - BOUND * 0.3 / np.sqrt(4000)
    assert inside.mean() < 0.95
    pointwise = stats.binom.ppf(0.05, n, band.points) / n, stats.binom.ppf(0.95, n, band.points) / n
    assert ((ecdf >= pointwise[0]) & (ecdf <= pointwise[1])).all(1).mean() < 0.8


def test_calibration_refuses():
    with pytest.raises(ValueError, match=r"posterior_draws: got shape \(3, 2\)"):
        ev.sbc_ranks(np.zeros((3, 2)), np.zeros((3, 2)), seed=0)
    for rank in (np.array([0.5]), np.array([], int), np.array([11]), np.zeros((2, 2), int)):
        with pytest.raises(ValueError, match=r"rank: got .* integers in 0..10"):
            ev.uniformity_pvalue(rank, 10)
    for bins in (1, 50):
        with pytest.raises(ValueError, match=f"bins: got {bins}"):
            ev.uniformity_pvalue(np.arange(100) % 50, 49, bins=bins)
    with pytest.raises(ValueError, match=r"values: got shape \(1,\)"):
        ev.ecdf_band(np.array([1.5]))
    with pytest.raises(ValueError, match=r"prob: got 0.0"):
        ev.ecdf_band(np.array([0.5]), prob=0.0)
