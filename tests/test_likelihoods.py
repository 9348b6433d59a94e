"""Observation laws against SciPy in both engines, their starts, supports, features and names."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from element_laws import DF, SCALE, squash, stretch
from engines import ENGINES, NUMPYRO, PYRO
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from logistic_laws import probabilities
from scipy import stats
from scipy.special import expit, softmax

from deepgen.likelihoods import laws

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
EVENT, ROWS = (2, 3), 5


def law_of(engine: Any, name: str, event_shape: tuple[int, ...] = EVENT) -> Any:
    return engine.face.likelihoods.observation(name, event_shape, 4 if name == "categorical" else None)


def scipy_law(name: str, raw: np.ndarray, raw_scale: Any = None) -> Any:
    """The law of each element, frozen, from what the decoder gives, (..., P, *event)."""
    part = [raw[:, i] for i in range(raw.shape[1])]
    match name:
        case "bernoulli":
            return stats.bernoulli(expit(part[0]))
        case "gaussian" | "gaussian_per_dimension":
            return stats.norm(part[0], np.exp(squash(raw_scale, *SCALE)))
        case "gaussian_predicted":
            return stats.norm(part[0], np.exp(squash(part[1], *SCALE)))
        case "student_t":
            return stats.t(np.exp(squash(part[2], *DF)), part[0], np.exp(squash(part[1], *SCALE)))
        case "gaussian_mixture":
            logits, loc, log_scale = (np.moveaxis(x, 1, -1) for x in np.split(raw, 3, axis=1))
            return Mixture(softmax(logits, axis=-1), stats.norm(loc, np.exp(squash(log_scale, *SCALE))))
    raise AssertionError(name)


@dataclass(frozen=True)
class Mixture:
    """Of the last axis."""

    weights: np.ndarray
    parts: Any

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return np.log((self.weights * self.parts.pdf(x[..., None])).sum(-1))

    def mean(self) -> np.ndarray:
        return (self.weights * self.parts.mean()).sum(-1)


def values(name: str, rng: np.random.Generator) -> np.ndarray:
    if name == "categorical":
        return rng.integers(0, 4, (ROWS, *EVENT)).astype(np.int32)
    if name == "bernoulli":
        return rng.integers(0, 2, (ROWS, *EVENT)).astype(np.float32)
    if name == "discretized_logistic":
        return rng.integers(0, 256, (ROWS, *EVENT)).astype(np.int32)
    return (3 * rng.standard_normal((ROWS, *EVENT))).astype(np.float32)


@BOTH
@pytest.mark.parametrize("name", laws.NAMES)
def test_density_and_mean_are_scipy_s(engine: Any, name: str) -> None:
    rng = np.random.default_rng(3)
    law = law_of(engine, name)
    assert law.name == name
    raw = (2 * rng.standard_normal((ROWS, law.num_params, *EVENT))).astype(np.float32)
    raw_scale = None
    if getattr(law, "raw_scale", None) is not None:
        raw_scale = rng.standard_normal(law.scale_shape() or ()).astype(np.float32)
        law = engine.with_tensors(law, {"raw_scale": raw_scale})
    x = values(name, rng)
    fn = law(engine.array(raw))
    assert (tuple(fn.batch_shape), tuple(fn.event_shape)) == ((ROWS,), EVENT)
    found = np.asarray(_plain(fn.log_prob(engine.array(x))))
    mean = np.asarray(_plain(law.mean(engine.array(raw))))
    if name == "discretized_logistic":
        logits, loc, raw_log_scale = np.moveaxis(raw.astype(float).reshape(ROWS, 3, 5, *EVENT), 2, -1).swapaxes(0, 1)
        scale = np.exp(squash(raw_log_scale, -np.log(255) - 2, 2.0))
        p = probabilities(logits, loc, scale, 256)
        expected = np.log(np.take_along_axis(p, x[None], axis=0)[0])
        np.testing.assert_allclose(mean, np.tensordot(np.arange(256), p, 1), rtol=1e-4)
    elif name == "categorical":
        p = softmax(raw.astype(float), axis=1)
        expected = np.log(np.take_along_axis(p, x[:, None], axis=1)[:, 0])
        np.testing.assert_array_equal(mean, p.argmax(1))
    else:
        true = scipy_law(name, raw.astype(float), raw_scale)
        expected = true.logpmf(x) if name == "bernoulli" else true.logpdf(x)
        np.testing.assert_allclose(mean, true.mean(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, expected.sum((1, 2)), rtol=1e-4, atol=1e-4)
    # without the scale's bounds, or with one element of the event left out, it would show
    assert not np.allclose(found, expected[:, :, 1:].sum((1, 2)), rtol=1e-4, atol=1e-4)


def _plain(value: Any) -> Any:
    return value.detach() if hasattr(value, "detach") else value


def start_of(name: str, law: Any, data: np.ndarray) -> np.ndarray:
    start = law.start(data)
    assert start.shape == (law.num_params, *EVENT)
    return start[None]


def sample_data(name: str) -> np.ndarray:
    """Columns of different means, scales and frequencies, with holes."""
    rng = np.random.default_rng(7)
    shift = np.arange(6).reshape(EVENT)
    if name == "categorical":
        data = np.minimum(rng.integers(0, 4, (400, *EVENT)), shift[None] % 4).astype(np.int32)
        return np.where(rng.random(data.shape) < 0.2, -1, data)
    if name == "discretized_logistic":
        data = rng.binomial(255, (shift + 1) / 8, (400, *EVENT)).astype(np.int32)
        return np.where(rng.random(data.shape) < 0.2, -1, data)
    if name == "bernoulli":
        data = (rng.random((400, *EVENT)) < (shift + 1) / 8).astype(np.float32)
    else:
        data = (shift - 2 + (0.5 + shift) * rng.standard_normal((400, *EVENT))).astype(np.float32)
    return np.where(rng.random(data.shape) < 0.2, np.nan, data).astype(np.float32)


@pytest.mark.parametrize("name", [n for n in laws.NAMES if n not in ("categorical", "discretized_logistic")])
def test_start_has_the_marginals_of_the_data(name: str) -> None:
    """Missing entries left out."""
    data = sample_data(name).astype(float)
    law = law_of(NUMPYRO, name)
    true = scipy_law(name, start_of(name, law, data), 0.0)
    np.testing.assert_allclose(true.mean()[0], np.nanmean(data, axis=0), rtol=1e-6, atol=1e-6)
    if name == "gaussian_predicted":
        np.testing.assert_allclose(true.std()[0], np.nanstd(data, axis=0), rtol=1e-6)
    if name == "student_t":
        np.testing.assert_allclose(true.kwds.get("scale", true.args[-1])[0], np.nanstd(data, axis=0), rtol=1e-6)
        np.testing.assert_allclose(true.args[0], 10.0, rtol=1e-6)


def test_start_has_the_frequencies_of_the_classes() -> None:
    data = sample_data("categorical")
    start = law_of(NUMPYRO, "categorical").start(data)
    for i, j in np.ndindex(*EVENT):
        seen = data[:, i, j][data[:, i, j] >= 0]
        frequency = np.bincount(seen, minlength=4) / len(seen)
        np.testing.assert_allclose(np.exp(start[:, i, j]), np.clip(frequency, 0.01, 1), rtol=1e-6)


@pytest.mark.parametrize("name", laws.NAMES)
def test_both_engines_start_alike_and_finite_even_for_constant_columns(name: str) -> None:
    data = sample_data(name)
    data[:, 0, 0] = 1
    starts = [law_of(engine, name).start(data) for engine in ENGINES]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert np.isfinite(starts[0]).all()


@BOTH
def test_features_of_categories_are_one_hot_and_missing_ones_zero(engine: Any) -> None:
    law = law_of(engine, "categorical")
    x = np.array([[[0, 1, 2], [3, -1, 1]]], dtype=np.int32)
    features = np.asarray(law.features(engine.array(x)))
    assert law.feature_shape == (4, *EVENT)
    expected = (np.arange(4)[:, None, None] == x[:, None]).astype(float)
    np.testing.assert_array_equal(features, expected)
    assert features[0, :, 1, 1].sum() == 0
    np.testing.assert_allclose(law.feature_mean(np.repeat(x, 2, axis=0)), expected[0])


@BOTH
@pytest.mark.parametrize("name", laws.NAMES)
def test_laws_are_rebuilt_from_their_description(engine: Any, name: str) -> None:
    law = law_of(engine, name)
    again = engine.face.likelihoods.build(law.spec())
    assert type(again) is type(law)
    assert again.spec() == law.spec()
    assert again.num_params == law.num_params
    assert engine.face.likelihoods.observation(law, (9, 9)) is law


@BOTH
def test_names_and_numbers_of_classes_are_checked(engine: Any) -> None:
    make = engine.face.likelihoods.observation
    with pytest.raises(ValueError, match=r"likelihood: got 'poisson'; expected one of \['bernoulli', 'gaussian'"):
        make("poisson", (3,))
    with pytest.raises(ValueError, match=r"num_classes: got None; expected a number >= 2"):
        make("categorical", (3,))
    with pytest.raises(ValueError, match=r"num_classes: got 1; expected a number >= 2"):
        make("categorical", (3,), 1)
    with pytest.raises(ValueError, match=r"num_classes: got 3; expected None. Only likelihood='categorical' and"):
        make("gaussian", (3,), 3)
    with pytest.raises(ValueError, match=r"scale: got 'full'; expected one of \['shared'"):
        engine.face.likelihoods.Gaussian((3,), "full")


@pytest.mark.parametrize("name", laws.NAMES)
def test_outputs_and_features_of_a_missing_entry(name: str) -> None:
    """In NumPy and in both engines: all features of a missing entry are missing, and no others."""
    law = law_of(NUMPYRO, name)
    assert law.outputs_shape == (law.num_params, *EVENT)
    assert law.num_outputs == law.num_params * 6
    absent = np.random.default_rng(0).random((ROWS, 2, *EVENT)) < 0.5
    expected = absent[:, :, None] & np.ones((4, 1, 1), dtype=bool) if name == "categorical" else absent
    for found in [law.feature_mask(absent)] + [
        law_of(engine, name).feature_mask(engine.array(absent)) for engine in ENGINES
    ]:
        assert tuple(found.shape) == (ROWS, 2, *law.feature_shape)
        np.testing.assert_array_equal(np.asarray(found), expected)


def linear_gaussian(rng: np.random.Generator, equal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    residual = np.full(6, 0.3) if equal else rng.uniform(0.1, 2.0, 6)
    return rng.standard_normal(6), rng.standard_normal((6, 2)), residual


@BOTH
@pytest.mark.parametrize("name", ["gaussian", "gaussian_per_dimension", "gaussian_predicted"])
def test_a_gaussian_law_takes_a_linear_gaussian_start(engine: Any, name: str) -> None:
    rng = np.random.default_rng(5)
    law = law_of(engine, name)
    mean, loadings, residual = linear_gaussian(rng, equal=name == "gaussian")
    weight, bias, own = law.from_gaussian(mean, loadings, residual)
    assert (weight.shape, bias.shape) == ((law.num_outputs, 2), (law.num_outputs,))
    if own:
        law = engine.with_tensors(law, {key: value.astype(np.float32) for key, value in own.items()})
    z, x = rng.standard_normal((ROWS, 2)), rng.standard_normal((ROWS, *EVENT))
    outputs = (z @ weight.T + bias).reshape(ROWS, *law.outputs_shape).astype(np.float32)
    found = np.asarray(_plain(law(engine.array(outputs)).log_prob(engine.array(x.astype(np.float32)))))
    expected = stats.norm(mean + z @ loadings.T, np.sqrt(residual)).logpdf(x.reshape(ROWS, 6)).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    halved = stats.norm(mean + z @ loadings.T, np.sqrt(residual / 2)).logpdf(x.reshape(ROWS, 6)).sum(1)
    assert not np.allclose(found, halved, rtol=1e-2)
    x[0, 0, 1] = np.nan
    np.testing.assert_array_equal(law.standardised(x), x.reshape(ROWS, 6))


def test_a_shared_scale_takes_the_mean_of_the_variances() -> None:
    """At which the expected log density of a normal with these variances is largest."""
    mean, loadings, residual = linear_gaussian(np.random.default_rng(6), equal=False)
    *_, own = law_of(NUMPYRO, "gaussian").from_gaussian(mean, loadings, residual)
    variance = float(np.exp(2 * squash(own["raw_scale"], *SCALE)))

    def expected_log_density(v: float) -> float:
        return float((-0.5 * np.log(v) - 0.5 * residual / v).sum())

    assert expected_log_density(variance) > max(expected_log_density(variance * f) for f in (0.95, 1.05))


def test_linear_gaussian_starts_that_are_refused() -> None:
    law = law_of(NUMPYRO, "gaussian_per_dimension")
    good = linear_gaussian(np.random.default_rng(7), equal=False)
    with pytest.raises(ValueError, match=r"got mean \(5,\), loadings \(6, 2\).*expected \(6,\), \(6, latents\)"):
        law.from_gaussian(good[0][1:], *good[1:])
    with pytest.raises(ValueError, match=r"loadings \(6,\)"):
        law.from_gaussian(good[0], good[1][:, 0], good[2])
    with pytest.raises(ValueError, match=r"residual: got the smallest variance 0; expected finite variances > 0"):
        law.from_gaussian(*good[:2], good[2] * (np.arange(6) > 0))
    for name in ("bernoulli", "student_t", "categorical", "discretized_logistic"):
        for call in (lambda law: law.standardised(np.zeros((2, *EVENT))), lambda law: law.from_gaussian(*good)):
            with pytest.raises(ValueError, match=rf"likelihood: got '{name}'; expected a law with a linear-Gaussian"):
                call(law_of(PYRO, name))


def test_a_law_of_the_user_s_own_is_told_what_its_start_needs() -> None:
    class Own(laws.Law):
        name, event_shape = "own", (3,)

    with pytest.raises(TypeError, match=r"law Own: got no start; expected a method start\(data\).*shape \(1, 3\)"):
        Own().start(np.zeros((2, 3)))


REFUSED: list[tuple[str, Any, str]] = [
    ("bernoulli", [[0.0, 255.0, 3.0]], r"values from 0 to 255 under the Bernoulli.*rng\.random\(x\.shape\) < x / 255"),
    ("bernoulli", [[0.0, 0.5, 1.0]], r"values from 0 to 1 under the Bernoulli likelihood; expected 0 and 1 only"),
    ("bernoulli", [[0.0, 0.5, 1.0]], r"Binarise with `\(rng\.random\(x\.shape\) < x\)\.astype\('float32'\)`, or"),
    (
        "bernoulli",
        [[-1.0, 0.0, 1.0]],
        r"from -1 to 1 under the Bernoulli.*Scale x to \[0, 1\], then binarise with `\(rng",
    ),
    ("bernoulli", [[0.0, 999.0, 1.0]], r"Scale x to \[0, 1\], then binarise"),
    ("categorical", [[0, 1, 4]], r"values from 0 to 4 under the categorical likelihood; expected the integers 0 to 3"),
    ("categorical", [[0.0, 1.5, 2.0]], r"expected the integers 0 to 3\. Encode the categories"),
    ("gaussian", [[0.0, math.inf, 2.0]], r"x: got 1 infinite values, the first at \(0, 1\)"),
    ("gaussian", [[0.0, math.nan, 2.0]], r"x: got 1 NaN values, the first at \(0, 1\); expected complete data"),
    ("gaussian", np.zeros((0, 3)), r"x: got no rows; expected at least one row"),
    ("gaussian", np.zeros((2, 4)), r"x: got shape \(2, 4\); expected \(n, 3\): batch first"),
    ("gaussian", np.zeros(3), r"x: got shape \(3,\); .*Add the batch axis: x\[None\]"),
    ("gaussian", np.zeros((2, 3, 1)), r"Reshape it: x\.reshape\(len\(x\), 3\)"),
    ("gaussian", [["a", "b", "c"]], r"x: got dtype <U1; expected a numeric array"),
    ("gaussian", np.array([[None, 1, 2]], dtype=object), r"x: got dtype object"),
    ("gaussian", np.zeros((1, 3), dtype=complex), r"x: got dtype complex128"),
    ("categorical", [[0, -1, 1]], r"x: got missing entries; expected complete data"),
]


@pytest.mark.parametrize(("name", "x", "message"), REFUSED)
def test_what_a_law_cannot_produce_is_refused(name: str, x: Any, message: str) -> None:
    for engine in ENGINES:
        with pytest.raises(ValueError, match=message):
            laws.check_data(law_of(engine, name, (3,)), np.asarray(x))


def test_rows_of_which_nothing_is_observed_are_refused() -> None:
    law = law_of(NUMPYRO, "gaussian", (2,))
    x = np.array([[1.0, np.nan], [np.nan, np.nan], [np.nan, np.nan]])
    with pytest.raises(ValueError, match=r"2 rows of which nothing is observed, the first at 1.*`sample` gives"):
        laws.check_data(law, x, missing=True)
    with pytest.raises(ValueError, match="1 rows of which nothing is observed, the first at 0"):
        laws.check_data(law, np.ones((1, 2)), missing=True, observed=np.zeros((1, 2), dtype=bool))


def test_masks_are_checked() -> None:
    law = law_of(NUMPYRO, "gaussian", (2,))
    x = np.array([[1.0, np.nan]])
    with pytest.raises(ValueError, match=r"observed: got dtype int64, shape \(1, 2\); expected booleans"):
        laws.check_data(law, x, missing=True, observed=np.ones((1, 2), dtype=np.int64))
    with pytest.raises(ValueError, match=r"observed: got dtype bool, shape \(2,\)"):
        laws.check_data(law, x, missing=True, observed=np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match=r"NaN at \(0, 1\), which observed says is observed.*Set observed to False"):
        laws.check_data(law, x, missing=True, observed=np.ones((1, 2), dtype=bool))


def test_hidden_values_may_be_anything() -> None:
    """What `observed` hides is not looked at, and a masked array's mask counts like `observed`."""
    law = law_of(PYRO, "categorical", (2,))
    x = np.array([[1, 99], [-7, 2]])
    seen = np.array([[True, False], [False, True]])
    for found in (
        laws.check_data(law, x, missing=True, observed=seen),
        laws.check_data(law, np.ma.masked_array(x, ~seen), missing=True),
    ):
        np.testing.assert_array_equal(found, [[1, -1], [-1, 2]])
    with pytest.raises(ValueError, match="missing entries; expected complete data"):
        laws.check_data(law, np.ma.masked_array(x, ~seen))
    negative = np.array([[-3, 4], [5, -6]])
    gaussian = law_of(PYRO, "gaussian", (2,))
    np.testing.assert_array_equal(laws.check_data(gaussian, negative), negative.astype(np.float32))
    np.testing.assert_array_equal(
        laws.check_data(gaussian, negative, missing=True, observed=seen), [[-3, np.nan], [np.nan, -6]]
    )


@given(
    x=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
        elements={"min_value": 0, "max_value": 1},
    ),
    seed=st.integers(0, 100),
)
def test_observed_values_pass_unchanged(x: np.ndarray, seed: int) -> None:
    seen = np.random.default_rng(seed).random(x.shape) < 0.7
    seen.reshape(len(x), -1)[:, 0] = True
    law = law_of(NUMPYRO, "gaussian", x.shape[1:])
    found = laws.check_data(law, x, missing=True, observed=seen)
    assert found.dtype == (x.dtype if x.dtype.kind == "f" else np.float32)
    np.testing.assert_array_equal(found[seen], x[seen].astype(found.dtype))
    assert np.isnan(found[~seen]).all()


@given(scale=st.floats(0.02, 50.0))
def test_raw_scale_inverts_the_bounded_scale(scale: float) -> None:
    raw = laws.raw_scale(np.array([scale]))
    assert float(np.exp(squash(raw, *SCALE))[0]) == pytest.approx(scale, rel=1e-6)
    assert float(raw[0]) == pytest.approx(float(stretch(np.log(scale), *SCALE)), abs=1e-6)


@BOTH
def test_outputs_of_another_size_are_refused(engine: Any) -> None:
    law = law_of(engine, "gaussian_predicted", (3,))
    network = engine.call(engine.face.nn.MLP, 2, 5, (4,))
    encoder = engine.call(engine.face.nn.MLP, 3, 4, (4,))
    program = engine.face.VAE(encoder, network, law, 2)
    with pytest.raises(ValueError, match=r"decoder: got outputs of shape .*; expected 6 numbers a datum: 2 for each"):
        engine.call("sample", program, 3)
