"""Masks at a given rate, by mechanism. Bounds: 4.5 standard errors or p > 1e-5, a failure rate below 1e-5 each."""

import numpy as np
import pytest
from scipy.stats import chisquare

from deepgen.data import block, half, hide, mar, mcar, mnar, pixels

BOUND = 4.5
RATES = (0.1, 0.5, 0.7)
MECHANISMS = {"mcar": mcar, "mar": lambda x, rate, seed: mar(x, rate, seed=seed, drivers=[0]), "mnar": mnar}


def normals(n=20_000, d=4, seed=11):
    return np.random.default_rng(seed).standard_normal((n, d))


def dependence(observed, value):
    """z of the correlation between being hidden and a value; standard normal where they are independent."""
    return float(np.corrcoef(~observed, value)[0, 1] * np.sqrt(len(value)))


def rate_error(x, observed, rate, columns):
    hidden = (~observed[:, columns]).mean(1)
    return float((hidden.mean() - rate) / (hidden.std() / np.sqrt(len(x))))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", MECHANISMS)
def test_the_rate_holds_and_no_row_is_emptied(name, rate):
    x = normals()
    observed = MECHANISMS[name](x, rate, seed=0)
    columns = [1, 2, 3] if name == "mar" else [0, 1, 2, 3]
    assert observed.dtype == bool
    assert observed.any(1).all()
    assert abs(rate_error(x, observed, rate, columns)) < BOUND
    again = MECHANISMS[name](x, rate, seed=0)
    np.testing.assert_array_equal(observed, again)
    assert not np.array_equal(observed, MECHANISMS[name](x, rate, seed=1))


def test_the_rate_test_sees_a_row_refilled_after_the_draw():
    x = normals()
    observed = mcar(x, 0.7, seed=0, empty_rows=True)
    assert not observed.any(1).all()
    assert abs(rate_error(x, observed, 0.7, [0, 1, 2, 3])) < BOUND
    observed[~observed.any(1), 0] = True
    assert abs(rate_error(x, observed, 0.7, [0, 1, 2, 3])) > BOUND


def test_each_mechanism_depends_on_what_it_should_and_on_nothing_else():
    x = normals()
    masks = {name: mechanism(x, 0.4, seed=5) for name, mechanism in MECHANISMS.items()}
    on_driver = {name: abs(dependence(mask[:, 2], x[:, 0])) for name, mask in masks.items()}
    on_itself = {name: abs(dependence(mask[:, 2], x[:, 2])) for name, mask in masks.items()}
    assert on_driver["mcar"] < BOUND < 20 < on_driver["mar"]
    assert on_itself["mcar"] < BOUND
    assert on_itself["mar"] < BOUND
    assert on_itself["mnar"] > 20
    assert masks["mar"][:, 0].all()
    assert dependence(mnar(x, 0.4, seed=5, strength=-2.0)[:, 2], x[:, 2]) < -20


def test_mcar_given_that_a_row_keeps_a_cell_is_drawn_exactly():
    """The 7 patterns of 3 cells have probabilities p^k (1-p)^(3-k) / (1 - p³); the p-value's failure rate is 1e-6."""
    x = np.zeros((40_000, 3))
    observed = mcar(x, 0.6, seed=2)
    grid = np.linspace(0.5, 0.999, 200_001)
    p = grid[np.argmin(np.abs((grid - grid**3) / (1 - grid**3) - 0.6))]
    codes = np.arange(1, 8)
    kept = np.array([bin(code).count("1") for code in codes])
    expected = p ** (3 - kept) * (1 - p) ** kept / (1 - p**3) * len(x)

    def p_value(mask):
        counts = np.bincount(mask @ [1, 2, 4], minlength=8)[1:]
        return chisquare(counts, expected * counts.sum() / expected.sum()).pvalue

    assert p_value(observed) > 1e-6
    refilled = mcar(x, float(p), seed=2, empty_rows=True)
    empty = np.flatnonzero(~refilled.any(1))
    refilled[empty, np.random.default_rng(0).integers(3, size=len(empty))] = True
    assert p_value(refilled) < 1e-6


def test_steep_mechanisms_and_rates_near_the_limit_still_hold():
    x = normals(4000)
    for mechanism in (mcar, mnar):
        near = mechanism(x, np.nextafter(0.75, 0), seed=0)
        assert (near.sum(1) == 1).all()
    steep = mnar(x, 0.7, seed=0, strength=50.0)
    assert steep.any(1).all()
    assert abs(rate_error(x, steep, 0.7, [0, 1, 2, 3])) < BOUND
    assert x[~steep].min() > np.quantile(x, 0.05)


def test_at_the_limit_each_row_keeps_one_cell() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6000, 4))
    x[:, 3] = np.nan
    observed = mcar(x, 2 / 3, seed=0)
    assert (observed.sum(1) == 1).all()
    assert chisquare(observed[:, :3].sum(0)).pvalue > 1e-4
    # where large values are hidden rather, a row keeps its smallest most often, by exp(-strength * x)
    kept = mnar(x, 2 / 3, seed=0, strength=1.0)
    assert (kept.sum(1) == 1).all()
    z = (x[:, :3] - x[:, :3].mean(0)) / x[:, :3].std(0)
    share = np.exp(-z) / np.exp(-z).sum(1, keepdims=True)
    gap, error = (kept[:, :3] - share), np.sqrt(share * (1 - share))
    assert np.abs(gap.sum(0) / np.sqrt((error**2).sum(0))).max() < 4.5
    smallest = z == z.min(1, keepdims=True)
    excess = ((kept[:, :3] - share) * smallest).sum() / np.sqrt((error**2 * smallest).sum())
    assert abs(excess) < 4.5
    assert ((observed[:, :3] - share) * smallest).sum() / np.sqrt((error**2 * smallest).sum()) < -4.5


def test_cells_missing_already_stay_missing_and_do_not_count():
    x = normals(8000)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    x[0] = np.nan
    for name in ("mcar", "mnar"):
        observed = MECHANISMS[name](x, 0.4, seed=1)
        assert not (observed & np.isnan(x)).any()
        share = 1 - observed[~np.isnan(x)].mean()
        assert abs(share - 0.4) < BOUND * 0.5 / np.sqrt((~np.isnan(x)).sum())
        assert observed[1:][(~np.isnan(x[1:])).any(1)].any(1).all()


def test_a_mask_does_not_repeat_the_stream_of_its_data():
    x = np.random.default_rng(0).random((5000, 3))
    assert abs(dependence(mcar(x, 0.5, seed=0)[:, 1], x[:, 1])) < BOUND
    plain = np.random.default_rng(0).random((5000, 3)) >= 0.5
    assert abs(dependence(plain[:, 1], x[:, 1])) > BOUND


def test_a_generator_is_used_up():
    rng = np.random.default_rng(0)
    assert not np.array_equal(mcar(normals(50), 0.5, seed=rng), mcar(normals(50), 0.5, seed=rng))


def test_hide_leaves_observed_entries_alone():
    x = np.random.default_rng(0).random((50, 6), dtype=np.float32)
    observed = mcar(x, 0.5, seed=0)
    hidden = hide(x, observed)
    assert hidden.dtype == np.float32
    np.testing.assert_array_equal(hidden[observed].view(np.uint32), x[observed].view(np.uint32))
    assert np.isnan(hidden[~observed]).all()
    assert hide(np.ones((2, 2), int), np.ones((2, 2), bool)).dtype == np.float64
    with pytest.raises(ValueError, match="observed: got dtype bool, shape"):
        hide(x, observed[:, :2])


def test_image_masks():
    x = np.zeros((300, 3, 7, 6), np.float32)
    masks = {"pixels": pixels(x, 0.5, seed=0), "block": block(x, (3, 4), seed=0), "half": half(x, "right")}
    for observed in masks.values():
        assert observed.shape == x.shape
        assert (observed == observed[:, :1]).all()
    assert ((~masks["pixels"][:, 0]).sum((1, 2)) == 21).all()
    share = masks["pixels"][:, 0].mean(0)
    assert np.abs(share - 0.5).max() < BOUND * 0.5 / np.sqrt(300)
    hidden = ~masks["block"][:, 0]
    assert (hidden.sum((1, 2)) == 12).all()
    assert (hidden.any(2).sum(1) == 3).all()
    tops = np.bincount(hidden.any(2).argmax(1), minlength=5)
    assert chisquare(tops).pvalue > 1e-5
    assert half(x, "left")[0, 0, 0].tolist() == [False] * 3 + [True] * 3
    assert masks["half"][0, 0, 0].tolist() == [True] * 3 + [False] * 3
    assert half(x, "top")[0, 0, :, 0].tolist() == [False] * 3 + [True] * 4
    assert half(x, "bottom")[0, 0, :, 0].tolist() == [True] * 4 + [False] * 3


def test_masks_refuse_what_cannot_be():
    x = normals(20)
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"rate: got .* a share in \[0, 1\)"):
            mcar(x, rate, seed=0)
    with pytest.raises(ValueError, match=r"rate: got 0.8; expected at most 0.75, the share that leaves every row one"):
        mcar(x, 0.8, seed=0)
    for strength in (0.0, -60.0, float("nan")):
        with pytest.raises(ValueError, match=r"strength: got .* a slope of size above 0"):
            mnar(x, 0.5, seed=0, strength=strength)
    with pytest.raises(ValueError, match=r"drivers: got \[7\]; expected some, not all"):
        mar(x, 0.5, seed=0, drivers=[7])
    with pytest.raises(ValueError, match=r"drivers: got .*; expected some, not all"):
        mar(x, 0.5, seed=0, drivers=[0, 1, 2, 3])
    with pytest.raises(ValueError, match="x: got no column that is complete and not constant"):
        mar(np.ones((9, 2)), 0.5, seed=0)
    with pytest.raises(ValueError, match=r"x: got shape \(20, 2, 2\)"):
        mar(x.reshape(20, 2, 2), 0.5, seed=0)
    with pytest.raises(ValueError, match="with infinite values; expected finite numbers"):
        mcar(np.full((2, 2), np.inf), 0.5, seed=0)
    with pytest.raises(ValueError, match="x: got dtype <U1"):
        mcar(np.array([["a"]]), 0.5, seed=0)
    with pytest.raises(ValueError, match="expected images"):
        pixels(x, 0.5, seed=0)
    with pytest.raises(ValueError, match=r"size: got \(8, 8\)"):
        block(np.zeros((1, 1, 8, 8)), (8, 8), seed=0)
    with pytest.raises(ValueError, match="side: got 'up'"):
        half(np.zeros((1, 1, 8, 8)), "up")
