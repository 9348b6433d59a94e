"""What the law of tables starts from: its features, the data's marginals, and a linear-Gaussian law."""

from typing import Any

import numpy as np
import pyro
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from scipy import stats
from table_laws import columns_laws
from tabling import COLUMNS, DATA, KINDS, elements, law_of, run, sample_data

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


@BOTH
def test_features_are_standardised_and_missing_where_x_is(engine: Any) -> None:
    law = law_of(engine, data=DATA)
    assert (law.num_outputs, law.feature_shape, law.outputs_shape, law.event_shape) == (13, (13,), (13,), (10,))
    standardised = law.standardised(DATA)
    absent = np.isnan(standardised)
    seen, hidden = run(
        engine,
        lambda law, x, holes: (law.features(x), law.feature_mask(holes)),
        law,
        *map(engine.array, (DATA, np.isnan(DATA))),
    )
    np.testing.assert_array_equal(absent, hidden)
    np.testing.assert_array_equal(absent[:, 3:6].any(1), np.isnan(DATA[:, 3]))
    np.testing.assert_allclose(seen[~absent], standardised[~absent], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.nanmean(standardised, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(law.feature_mean(DATA), 0, atol=1e-5)
    variance = np.nanvar(standardised, axis=0)
    np.testing.assert_allclose(np.delete(variance, [3, 4, 5, 8, 9]), 1, rtol=1e-5)
    np.testing.assert_allclose([variance[3:6].mean(), variance[8:10].mean()], 1, rtol=1e-5)
    log = np.log(DATA[:, 2])
    np.testing.assert_allclose(standardised[:, 2], (log - np.nanmean(log)) / np.nanstd(log), rtol=1e-4, atol=1e-4)


def assert_marginals(own: dict[str, np.ndarray], start: np.ndarray, data: np.ndarray) -> None:
    for i, ((kind, levels), law) in enumerate(zip(COLUMNS, columns_laws(COLUMNS, own, start), strict=True)):
        seen = data[:, i][~np.isnan(data[:, i])].astype(float)
        if levels:
            np.testing.assert_allclose(law.p, np.bincount(seen.astype(int), minlength=levels) / len(seen), atol=1e-5)
        elif kind == "positive":
            log = np.log(seen)
            np.testing.assert_allclose([law.median(), law.kwds["s"]], [np.exp(log.mean()), log.std()], rtol=1e-4)
        elif kind == "count" and seen.var() <= 1.01 * seen.mean():
            np.testing.assert_allclose(law.mean(), seen.mean(), rtol=1e-5)
        else:
            np.testing.assert_allclose([law.mean(), law.std()], [seen.mean(), seen.std()], rtol=1e-4)


@BOTH
def test_start_has_the_marginals_of_the_data(engine: Any) -> None:
    law = law_of(engine, data=DATA)
    start = law.start(DATA)
    np.testing.assert_allclose(np.delete(start, [3, 4, 5, 8, 9]), 0, atol=1e-5)
    assert_marginals(engine.tensors(law), start, DATA)
    with pytest.raises(AssertionError):
        assert_marginals(engine.tensors(law), start + 0.05, DATA)


def test_start_moves_a_law_of_other_data_as_far_as_locations_can() -> None:
    law = law_of(NUMPYRO, data=DATA)
    later = sample_data()[:300]
    later[:, [0, 5]] += [30, 0.02]
    later[:, 2] *= 3
    start, own = law.start(later), law.numbers()
    for i, kind in enumerate(KINDS):
        fitted = list(columns_laws(COLUMNS, own, start))[i]
        seen = later[:, i][~np.isnan(later[:, i])].astype(float)
        if kind in ("real", "count"):
            assert fitted.mean() == pytest.approx(seen.mean(), rel=1e-5)
        elif kind == "positive":
            assert fitted.median() == pytest.approx(np.exp(np.log(seen).mean()), rel=1e-5)
        else:
            share = np.bincount(seen.astype(int), minlength=len(fitted.p)) / len(seen)
            np.testing.assert_allclose(fitted.p, share, atol=1e-6 if kind == "categorical" else 0.05)


def test_levels_that_never_occur_and_constant_columns_start_finite() -> None:
    data = np.array([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 0.0, 3.0], [1.0, np.nan, 0.0, 3.0]])
    with pytest.warns(UserWarning, match=r"data: column 0 has the same value .*, and so it is in 2 others"):
        law = law_of(NUMPYRO, ["real", ("categorical", 4), "count", ("ordinal", 5)], data)
    assert all(np.isfinite(value).all() for value in law.numbers().values())
    assert np.isfinite(law.start(data)).all()
    x = np.nan_to_num(data).astype(np.float32)
    assert np.isfinite(elements(NUMPYRO, law, law.start(data).astype(np.float32), x)).all()


CONTINUOUS = ["real", "positive", "real", "positive", "real"]


def a_factor_analysis(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(size), 0.6 * rng.standard_normal((size, 2)), rng.uniform(0.1, 0.8, size)


@BOTH
def test_a_linear_gaussian_start_is_exact_for_real_and_positive_columns(engine: Any) -> None:
    """Given z, and with z integrated out: log x of positive columns is normal with their Jacobian."""
    rng = np.random.default_rng(3)
    x = np.exp(rng.standard_normal((200, 5)) * [1, 2, 0.5, 0.3, 1] + [0, 3, 5, -2, 0]).astype(np.float32)
    law = law_of(engine, CONTINUOUS, x)
    mean, loadings, residual = a_factor_analysis(5)
    weight, bias, own = law.from_gaussian(mean, loadings, residual)
    law = engine.with_tensors(law, {**engine.tensors(law), **{k: v.astype(np.float32) for k, v in own.items()}})
    centre, spread = (law.numbers()[name] for name in ("centre", "spread"))
    log = np.array(CONTINUOUS) == "positive"

    def units(x: np.ndarray) -> np.ndarray:
        return (np.where(log, np.log(x), x) - centre) / spread

    jacobian = -np.log(spread).sum() - (np.log(x) * log).sum(1)
    z = rng.standard_normal((200, 2))
    found = elements(engine, law, (z @ weight.T + bias).astype(np.float32), x).sum(-1)
    given = stats.norm(mean + z @ loadings.T, np.sqrt(residual)).logpdf(units(x)).sum(1)
    np.testing.assert_allclose(found, given + jacobian, rtol=2e-4, atol=2e-3)
    # E_z p(x | z) over a grid of both latents
    grid = np.linspace(-7, 7, 141)
    z = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    rows = x[:3]
    at = elements(engine, law, (z @ weight.T + bias).astype(np.float32)[:, None], rows).sum(-1)
    total = np.log((np.exp(at.astype(float)) * np.exp(-0.5 * (z**2).sum(1))[:, None]).sum(0) * 0.01 / (2 * np.pi))
    marginal = stats.multivariate_normal(mean, loadings @ loadings.T + np.diag(residual))
    np.testing.assert_allclose(total, marginal.logpdf(units(rows)) + jacobian[:3], rtol=1e-3, atol=1e-3)
    alone = stats.multivariate_normal(mean, np.diag((loadings**2).sum(1) + residual))
    assert not np.allclose(total, alone.logpdf(units(rows)) + jacobian[:3], rtol=1e-2, atol=1e-2)


MIXED = ["real", "count", ("ordinal", 5), ("categorical", 2), ("categorical", 3), "positive", "count"]


def mixed_data(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns that share one latent, and that latent (n, 1)."""
    rng = np.random.default_rng(21)
    z = rng.standard_normal(n)
    columns = [
        10 + 2 * z + rng.standard_normal(n),
        rng.poisson(np.exp(1.5 + 0.5 * z)),
        np.searchsorted([-2.0, -0.5, 0.5, 2.0], 1.5 * z + rng.logistic(size=n)),
        rng.random(n) < 1 / (1 + np.exp(-1.5 * z)),
        np.argmax(np.stack([1.2 * z, 0 * z, 0 * z], 1) + rng.gumbel(size=(n, 3)), axis=1),
        np.exp(0.6 * z + 0.8 * rng.standard_normal(n)),
        rng.poisson(rng.gamma(2, 0.75 * np.exp(0.4 * z))),
    ]
    return np.stack(columns, axis=1).astype(np.float32), z[:, None]


def test_a_linear_gaussian_start_is_near_for_the_other_kinds() -> None:
    """An approximation, so with a margin: draws have about the data's marginals and features' correlations."""
    data, latent = mixed_data(4000)
    law = law_of(PYRO, MIXED, data)
    features = law.standardised(data)
    loading = features.T @ latent / len(latent)
    weight, bias, own = law.from_gaussian(features.mean(0), loading, features.var(0) - loading[:, 0] ** 2)
    assert {"raw_scale", "raw_concentration", "raw_cutpoints"} == set(own)

    def drawn(weight: np.ndarray) -> np.ndarray:
        found = PYRO.with_tensors(law, {**PYRO.tensors(law), **{k: v.astype(np.float32) for k, v in own.items()}})
        z = np.random.default_rng(1).standard_normal((4000, 1))
        pyro.set_rng_seed(0)
        return law.standardised(found(PYRO.array((z @ weight.T + bias).astype(np.float32))).sample().numpy())

    again, wanted = drawn(weight), np.corrcoef(features.T)
    np.testing.assert_allclose(again.mean(0), 0, atol=0.15)
    np.testing.assert_allclose(again.var(0), features.var(0), atol=0.35)
    assert np.abs(np.corrcoef(again.T) - wanted).max() < 0.12
    assert np.abs(np.corrcoef(drawn(0.5 * weight).T) - wanted).max() > 0.2
    signs = np.sign(np.arange(len(weight)) - 3.5)[:, None]
    assert np.abs(np.corrcoef(drawn(signs * weight).T) - wanted).max() > 0.3


def test_two_levels_take_the_slope_of_a_discriminant() -> None:
    """loading spread / (p (1 - p)) where little of the latents' variance lies between the levels."""
    data = np.repeat([[0.0], [1.0]], [30, 70], axis=0)
    law = law_of(NUMPYRO, [("categorical", 2)], data)
    spread = law.numbers()["spread"][0]
    assert spread == pytest.approx(np.sqrt(0.21), rel=1e-6)
    weight, bias, own = law.from_gaussian(np.zeros(2), np.array([[-0.05], [0.05]]), np.full(2, 0.9))
    assert weight[1, 0] - weight[0, 0] == pytest.approx(0.05 * spread / 0.21, rel=0.02)
    assert bias[1] - bias[0] == pytest.approx(np.log(7 / 3), rel=0.01)
    assert own == {}


def test_counts_take_the_slope_of_their_log_mean() -> None:
    """Counts whose log mean is linear in z: the loading of log(1 + x) gives that slope back."""
    rng = np.random.default_rng(4)
    z = rng.standard_normal((200_000, 1))
    data = rng.poisson(np.exp(1 + 0.3 * z)).astype(np.float32)
    law = law_of(NUMPYRO, ["count"], data)
    feature = law.standardised(data)
    loading = (feature * z).mean(0, keepdims=True)
    residual = 1 - loading[0] ** 2
    weight, bias, own = law.from_gaussian(np.zeros(1), loading, residual)
    assert weight[0, 0] == pytest.approx(0.3, rel=0.05)
    assert bias[0] + law.numbers()["log_rate"][0] == pytest.approx(1.0, abs=0.02)
    assert own["raw_concentration"][0] > law.numbers()["raw_concentration"][0]


def test_codes_and_counts_keep_a_variance_of_their_own() -> None:
    """For counts that of log(1 + x) of a Poisson variable, here by SciPy; nothing for real numbers."""
    data, _ = mixed_data(2000)
    law = law_of(NUMPYRO, MIXED, data)
    found = law.least_residual()
    assert found[[0, 8]].tolist() == [0, 0]
    np.testing.assert_allclose(found[2:8], [1 / 5, *[0.5] * 5])
    k = np.arange(300)
    for column, place in ((1, 1), (6, 9)):
        p = stats.poisson(data[:, column].astype(float).mean()).pmf(k)
        variance = p @ np.log1p(k) ** 2 - (p @ np.log1p(k)) ** 2
        assert found[place] == pytest.approx(variance / np.log1p(data[:, column].astype(float)).var(), rel=0.02)
    assert law_of(NUMPYRO, ["real"]).least_residual().tolist() == [0.0]
    assert PYRO.face.likelihoods.Gaussian((2, 3)).least_residual().tolist() == [0.0] * 6
