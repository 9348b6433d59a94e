"""Images from known factors, and the metrics of disentanglement, against cases that can be computed by hand.

Statistical bounds: 4.5 standard errors (a failure rate below 1e-5 a check) at fixed seeds; each such check has a twin
with a planted fault that it must see.
"""

import numpy as np
import pytest
from scipy import integrate, stats
from scoring import BOUND

from deepgen import evaluation as ev
from deepgen.data import factor_images
from deepgen.evaluation import disentanglement as rooms


@pytest.fixture(scope="module")
def made():
    return factor_images(positions=4, radii=2, seed=1)


def test_every_combination_of_factors_has_one_image_of_its_own():
    made = factor_images(seed=3)
    assert made.x.shape == (576, 256)
    assert made.x.dtype == np.float32
    assert set(np.unique(made.x)) == {0, 1}
    assert len(np.unique(made.x, axis=0)) == len(np.unique(made.factors, axis=0)) == 576
    assert [made.factors[:, k].max() + 1 for k in range(4)] == [len(v) for v in made.values] == [8, 8, 3, 3]
    picture = made.x.reshape(-1, 16, 16)
    x, y, radius, shape = made.factors.T
    # the centre of mass is the centre of the figure: columns are x, rows are y
    mass = picture.sum((1, 2))
    np.testing.assert_allclose((picture.sum(1) @ np.arange(16)) / mass, np.array(made.values[0])[x], atol=1e-5)
    np.testing.assert_allclose((picture.sum(2) @ np.arange(16)) / mass, np.array(made.values[1])[y], atol=1e-5)
    np.testing.assert_array_equal(picture.any(1).sum(1), 2 * np.array(made.values[2])[radius] + 1)
    full = (2 * np.array(made.values[2])[radius] + 1) ** 2
    assert (mass[shape == 0] == full[shape == 0]).all()
    assert (mass[shape > 0] < full[shape > 0]).all()
    assert made.values[3] == ("square", "disc", "cross")


def test_images_depend_on_the_seed_in_their_order_only():
    first, again, other = (factor_images(positions=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    assert (first.factors != other.factors).any()
    order, moved = (np.lexsort(made.factors.T) for made in (first, other))
    np.testing.assert_array_equal(first.x[order], other.x[moved])
    assert factor_images(positions=3, image=True).x.shape == (81, 1, 16, 16)


def test_factor_images_refuse():
    with pytest.raises(ValueError, match="positions: got 1; expected at least 2"):
        factor_images(positions=1)
    with pytest.raises(ValueError, match="radii: got 1"):
        factor_images(radii=1)
    with pytest.raises(ValueError, match=r"size: got 15 pixels for 8 positions and a radius of up to 4; .* 16"):
        factor_images(size=15)


def gap(loc, made, scale=0.02, **kwargs):
    return ev.mig(loc, np.full(loc.shape, scale), made.factors, seed=0, **kwargs)


def test_mig_of_latents_that_are_the_factors_is_one(made):
    v = made.factors.astype(float)
    found = gap(v[:, [2, 0, 3, 1]], made)
    assert found.value.value == pytest.approx(1)
    np.testing.assert_allclose(found.entropy, np.log([4, 4, 2, 3]))
    np.testing.assert_allclose(found.mutual_information[[1, 3, 0, 2], range(4)], found.entropy)
    assert found.value.stderr < 0.1


def test_mig_of_latents_that_know_nothing_or_the_same_is_zero(made):
    v = made.factors.astype(float)
    rng = np.random.default_rng(0)
    assert gap(np.zeros((len(v), 3)), made, 1.0).value.value == pytest.approx(0, abs=1e-9)
    assert abs(gap(rng.standard_normal((len(v), 3)), made, 1.0).value.value) < 0.03
    assert gap(np.concatenate([v, v], axis=1), made).value.value == pytest.approx(0, abs=1e-9)
    # narrow posteriors that tell all rows apart know every factor, and no gap is left
    assert gap(rng.standard_normal((len(v), 3)), made, 1e-7).value.value == pytest.approx(0, abs=1e-9)


def test_mig_of_a_rotated_pair_is_low(made):
    x, y = made.factors[:, :2].T - 1.5
    rest = made.factors[:, 2:].astype(float)
    rotated = np.column_stack([x + y, x - y, rest])
    found = gap(rotated, made)
    assert (found.gaps[:2] < 0.05).all()
    np.testing.assert_allclose(found.gaps[2:], 1)


@pytest.mark.parametrize("fault", [1.0, 0.5])
def test_mutual_information_is_that_of_quadrature(fault, monkeypatch):
    """One bit in noise: ±1 with standard deviation 0.8; with the noise halved it is another number."""
    factor = np.arange(60)[:, None] % 2
    loc = np.column_stack([2.0 * factor[:, 0] - 1, np.zeros(60)])
    found = ev.mig(loc, np.full(loc.shape, 0.8 * fault), factor, seed=0, num_samples=100, num_bootstrap=2)

    def integrand(z):
        p = stats.norm.pdf(z, 1, 0.8)
        return p * np.log(2 * p / (p + stats.norm.pdf(z, -1, 0.8)))

    exact = integrate.quad(integrand, -6, 8)[0]
    second = integrate.quad(lambda z: integrand(z) ** 2 / stats.norm.pdf(z, 1, 0.8), -6, 8)[0]
    error = BOUND * np.sqrt((second - exact**2) / 6000)
    assert (abs(found.mutual_information[0, 0] - exact) < error) == (fault == 1.0)
    assert found.mutual_information[1, 0] == pytest.approx(0, abs=1e-9)
    assert found.value.value == pytest.approx(found.mutual_information[0, 0] / np.log(2))


def test_chunks_of_rows_change_nothing(made, monkeypatch):
    loc = np.random.default_rng(0).standard_normal((len(made.factors), 2)) + made.factors[:, :2]
    whole = gap(loc, made, 0.5, num_bootstrap=5)
    monkeypatch.setattr("deepgen.evaluation.disentanglement._CHUNK", 1000)
    parts = gap(loc, made, 0.5, num_bootstrap=5)
    np.testing.assert_allclose(parts.mutual_information, whole.mutual_information, rtol=1e-9)
    assert parts.value.stderr == pytest.approx(whole.value.stderr)


def sampled_mig(seed):
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 2, (80, 2))
    loc = factors + 0.3 * rng.standard_normal(factors.shape)
    return ev.mig(loc, np.full(loc.shape, 0.4), factors, seed=seed, num_samples=2, num_bootstrap=40).value


def test_the_stated_error_of_mig_is_its_spread_over_samples_of_rows():
    found = [sampled_mig(seed) for seed in range(80)]
    ratio = np.std([e.value for e in found], ddof=1) / np.mean([e.stderr for e in found])
    # 80 values know their spread to 8 %, and the bootstrap of 80 rows is a little off itself
    assert 0.65 < ratio < 1.5
    assert not 0.65 < ratio * np.sqrt(80) / 3 < 1.5


def test_disentanglement_and_completeness_by_hand():
    one_each = np.eye(3)
    assert rooms.disentanglement(one_each) == rooms.completeness(one_each) == 1
    assert rooms.disentanglement(np.ones((3, 4))) == pytest.approx(0)
    assert rooms.completeness(np.ones((3, 4))) == pytest.approx(0)
    # two codes share two of four factors: each of them has D = 1 - log 2 / log 4
    rotated = np.eye(4)
    rotated[:2, :2] = 0.5
    assert rooms.disentanglement(rotated) == pytest.approx(0.75)
    assert rooms.completeness(rotated) == pytest.approx(0.75)
    # the first factor spread over two of three codes, which matter to nothing else: D and C are not each other
    spread = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 1.0]])
    assert rooms.disentanglement(spread) == pytest.approx(1)
    assert rooms.completeness(spread) == pytest.approx(1 - np.log(2) / np.log(3) / 2)
    assert rooms.disentanglement(np.zeros((2, 3))) == rooms.completeness(np.zeros((2, 3))) == 0
    assert rooms.completeness(np.array([[1.0, 0], [0, 0]])) == 0.5


def test_dci_of_factors_and_of_a_rotated_pair(made):
    v = made.factors - made.factors.mean(0)
    plain = ev.dci(v, made.factors, seed=0, num_bootstrap=2)
    assert plain.disentanglement.value == plain.completeness.value == 1
    assert plain.error.value == 0
    np.testing.assert_allclose(plain.importance, np.eye(4))
    rotated = np.column_stack([v[:, 0] + v[:, 1], v[:, 0] - v[:, 1], v[:, 2:]])
    for kind in rooms.KINDS:
        found = ev.dci(rotated, made.factors, seed=0, kind=kind, num_bootstrap=2)
        assert found.disentanglement.value == pytest.approx(0.75, abs=0.08)
        assert found.completeness.value == pytest.approx(0.75, abs=0.08)
        assert found.disentanglement.stderr > 0
        np.testing.assert_allclose(found.errors[2:], 0, atol=1e-9)


def test_dci_of_codes_that_know_nothing(made):
    codes = np.random.default_rng(0).standard_normal((len(made.factors), 4))
    found = ev.dci(codes, made.factors, seed=0, num_bootstrap=2)
    assert found.disentanglement.value < 0.05
    assert found.completeness.value < 0.05
    chance = 1 - 1 / np.array([4, 4, 2, 3])
    assert (abs(found.errors - chance) < BOUND * np.sqrt(chance * (1 - chance) / 48)).all()
    assert found.error.value == pytest.approx(found.errors.mean())
    regressed = ev.dci(codes, made.factors, seed=0, kind="regressor", num_bootstrap=2)
    assert (regressed.errors > 0.8).all()
    constant = ev.dci(np.zeros((len(codes), 2)), made.factors, seed=0, num_bootstrap=2)
    assert constant.disentanglement.value == constant.completeness.value == 0


def test_metrics_refuse():
    codes, factors = np.zeros((6, 2)), np.arange(12).reshape(6, 2) % 3
    with pytest.raises(ValueError, match=r"loc: got shape \(6, 1\); expected \(n, d\) finite numbers with d >= 2"):
        ev.mig(codes[:, :1], codes[:, :1] + 1, factors, seed=0)
    with pytest.raises(ValueError, match=r"codes: got .* with values that are not finite"):
        ev.dci(np.full((6, 2), np.nan), factors, seed=0)
    with pytest.raises(ValueError, match=r"scale: got shape \(6, 2\), smallest 0.0"):
        ev.mig(codes, codes, factors, seed=0)
    with pytest.raises(ValueError, match=r"factors: got dtype float64, shape \(6, 2\); expected \(6, k\) integers"):
        ev.mig(codes, codes + 1, factors / 1.0, seed=0)
    with pytest.raises(ValueError, match=r"factors: got \[3, 1\] different values; expected at least 2"):
        ev.dci(codes, factors * [1, 0], seed=0)
    with pytest.raises(ValueError, match="number of factors: got 1"):
        ev.dci(codes, factors[:, :1], seed=0)
    with pytest.raises(ValueError, match="kind: got 'forest'"):
        ev.dci(codes, factors, seed=0, kind="forest")
    with pytest.raises(ValueError, match="num_samples: got 0"):
        ev.mig(codes, codes + 1, factors, seed=0, num_samples=0)
    with pytest.raises(ValueError, match="num_bootstrap: got 1"):
        ev.dci(codes, factors, seed=0, num_bootstrap=1)
