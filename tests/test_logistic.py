"""Discretised logistic mixtures: against SciPy in float64, at extremes in float32, their draws, both engines alike."""

from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from element_laws import stretch
from engines import ENGINES, NUMPYRO, PYRO
from logistic_laws import pixel_probabilities, probabilities
from scipy import stats
from scipy.special import softmax

from deepgen.likelihoods.logistic import mixture

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
RATE = 1e-6
"""How often a chi-square test fails by chance."""
K = 3


def parameters(seed: int = 0, shape: tuple[int, ...] = (4,)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, locations (some beyond the edges) and log scales, (*shape, K) each."""
    rng = np.random.default_rng(seed)
    return tuple(m + s * rng.standard_normal((*shape, K)) for m, s in ((0, 1), (0, 0.8), (-2.5, 1)))  # type: ignore[return-value]


def pixel(seed: int = 1, shape: tuple[int, ...] = ()) -> tuple[np.ndarray, ...]:
    """Logits (*shape, K), and locations, log scales and coefficients (*shape, 3, K)."""
    rng = np.random.default_rng(seed)
    parts = (0.5 * rng.standard_normal((*shape, 3, K)) + m for m in (0.0, -1.5))
    return rng.standard_normal((*shape, K)), *parts, np.tanh(rng.standard_normal((*shape, 3, K)))


def pixel_values(values: int) -> np.ndarray:
    """(V^3, 3), red slowest."""
    return np.stack(np.meshgrid(*[np.arange(float(values))] * 3, indexing="ij"), -1).reshape(-1, 3)


def arrays(engine: Any, *parts: np.ndarray, dtype: Any = np.float32) -> list[Any]:
    return [engine.array(np.asarray(part, dtype=dtype)) for part in parts]


def plain(value: Any) -> np.ndarray:
    return value.detach().numpy().copy() if isinstance(value, torch.Tensor) else np.array(value)


def sampled(engine: Any, law: Any, *shape: int) -> np.ndarray:
    """Draws, compiled at once where the engine compiles."""
    draw = jax.jit(law.sample, static_argnums=1)(jax.random.key(0), shape) if engine is NUMPYRO else None
    return plain(engine.call(law.sample, shape) if draw is None else draw)


def log_prob(engine: Any, law: Any, value: Any) -> np.ndarray:
    """Likewise."""
    function = jax.jit(law.log_prob) if engine is NUMPYRO else law.log_prob
    return plain(function(engine.array(value)))


def test_the_probabilities_of_all_values_sum_to_one() -> None:
    logits, loc, log_scale = parameters()
    loc[0, 0], log_scale[1] = 5.0, -9.0
    found = np.exp(mixture.log_prob(np.arange(256.0)[:, None], logits, loc, log_scale, 256))
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-12)
    np.testing.assert_allclose(found, probabilities(logits, loc, np.exp(log_scale), 256), rtol=1e-9, atol=1e-15)
    without = probabilities(logits, loc, np.exp(log_scale), 256, edges=False)
    assert abs(without.sum(0) - 1).max() > 1e-3, "the edge bins are not tested"


def test_the_probabilities_of_all_pixels_sum_to_one() -> None:
    logits, loc, log_scale, coefficients = pixel()
    found = np.exp(mixture.coupled_log_prob(pixel_values(8), logits, loc, log_scale, coefficients, 8)).reshape(8, 8, 8)
    assert found.sum() == pytest.approx(1, rel=1e-12)
    expected = pixel_probabilities(logits, loc, np.exp(log_scale), coefficients, 8)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    for fault in (0 * coefficients, coefficients[[1, 0, 2]]):
        assert not np.allclose(found, pixel_probabilities(logits, loc, np.exp(log_scale), fault, 8), rtol=1e-2)


def extremes() -> tuple[np.ndarray, ...]:
    """Values at both edges and between, locations far out, and scales from a hair of a bin to a thousand times all."""
    grid = np.meshgrid([0, 1, 128, 254, 255], [-1e3, -3.0, -1.0, 0.004, 1.0, 1e3], [-25.0, -9.0, -3.0, 2.0, 9.0, 18.0])
    return tuple(part.reshape(-1).astype(np.float32) for part in grid)


def tail_log_prob(value: np.ndarray, loc: np.ndarray, log_scale: np.ndarray) -> np.ndarray:
    """log(F(u) - F(l)) by the smaller tail, a + log(1 - exp(b - a)), in float64 by SciPy."""
    x, scale = value * 2 / 255 - 1, np.exp(log_scale)
    upper = np.where(value < 255, (x + 1 / 255 - loc) / scale, np.inf)
    lower = np.where(value > 0, (x - 1 / 255 - loc) / scale, -np.inf)
    right = lower > 0
    a = np.where(right, stats.logistic.logsf(lower), stats.logistic.logcdf(upper))
    b = np.where(right, stats.logistic.logsf(upper), stats.logistic.logcdf(lower))
    return a + np.log(-np.expm1(b - a))


@BOTH
def test_float32_is_right_and_has_gradients_at_extremes(engine: Any) -> None:
    value, loc, log_scale = extremes()
    logits = np.zeros((len(value), 1), dtype=np.float32)
    parts = arrays(engine, logits, loc[:, None], log_scale[:, None])
    found, *gradients = value_and_gradients(engine, "DiscretizedLogisticMixture", parts, value)
    expected = tail_log_prob(*(part.astype(float) for part in (value, loc, log_scale)))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)
    assert all(np.isfinite(part).all() for part in gradients)
    with np.errstate(all="ignore"):
        scale = np.exp(log_scale)
        upper, lower = ((value * 2 / 255 - 1 + h - loc) / scale for h in (1 / 255, -1 / 255))
        naive = np.log(1 / (1 + np.exp(-upper)) - 1 / (1 + np.exp(-lower)))
    assert not np.isfinite(naive).all(), "nothing extreme about them"


def value_and_gradients(engine: Any, name: str, parts: list[Any], value: np.ndarray, **kwargs: Any) -> list[np.ndarray]:
    """The log probabilities of a distribution of the face, and the gradients of their sum by its parameters."""
    law = getattr(engine.face, name)
    if engine is PYRO:
        given = [part.clone().requires_grad_() for part in parts]
        found = law(*given, **kwargs).log_prob(engine.array(value))
        gradients = torch.autograd.grad(found.sum(), given)
        return [plain(part) for part in (found, *gradients)]

    def total(*parts: Any) -> Any:
        found = law(*parts, **kwargs).log_prob(value)
        return found.sum(), found

    gradients, found = jax.jit(jax.grad(total, tuple(range(len(parts))), has_aux=True))(*parts)
    return [np.asarray(part) for part in (found, *gradients)]


def differences(parts: list[np.ndarray], value: np.ndarray, values: int) -> list[np.ndarray]:
    """Central differences of the log probability in float64."""
    function: Any = mixture.log_prob if len(parts) == 3 else mixture.coupled_log_prob
    step, found = 1e-5, []
    for i, part in enumerate(parts):
        gradient = np.zeros_like(part)
        for index in np.ndindex(part.shape):
            ends = []
            for sign in (1, -1):
                moved = part.copy()
                moved[index] += sign * step
                ends.append(function(value, *parts[:i], moved, *parts[i + 1 :], values).sum())
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        found.append(gradient)
    return found


@BOTH
@pytest.mark.parametrize("name", ["DiscretizedLogisticMixture", "CoupledLogisticMixture"])
def test_gradients_are_those_of_differences(engine: Any, name: str) -> None:
    parts = list(parameters(2)) if name == "DiscretizedLogisticMixture" else list(pixel(3, (4,)))
    value = np.array([0, 3, 8, 15])
    value = value if len(parts) == 3 else np.stack([value, value[::-1], value], axis=-1)
    expected = differences(parts, value.astype(float), 16)
    found = value_and_gradients(engine, name, arrays(engine, *parts), value, num_values=16)[1:]
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-3, atol=2e-4)
    assert not np.allclose(found[1], expected[1] * 1.01, rtol=2e-3, atol=2e-4)


def chi_square(counts: np.ndarray, probability: np.ndarray) -> float:
    """The tail of the goodness of fit, cells that are expected less than five times taken together."""
    expected = probability * counts.sum()
    rare = expected < 5
    sums = [np.append(part[~rare], part[rare].sum()) for part in (counts, expected)]
    sums = [part[sums[1] > 0] for part in sums]
    return float(stats.chi2.sf(((sums[0] - sums[1]) ** 2 / sums[1]).sum(), len(sums[0]) - 1))


@BOTH
def test_draws_have_the_probabilities(engine: Any) -> None:
    logits, loc, log_scale = (part[0] for part in parameters(5))
    loc[:2] = -1.05, 0.9
    law = engine.face.DiscretizedLogisticMixture(*arrays(engine, logits, loc, log_scale), num_values=32)
    counts = np.bincount(sampled(engine, law, 40_000), minlength=32)
    assert chi_square(counts, probabilities(logits, loc, np.exp(log_scale), 32)) > RATE
    without = probabilities(logits, loc, np.exp(log_scale), 32, edges=False)
    assert chi_square(counts, without / without.sum()) < RATE, "missing edge bins would not be seen"


@BOTH
def test_drawn_pixels_have_the_joint_probabilities(engine: Any) -> None:
    parts = pixel(6)
    law = engine.face.CoupledLogisticMixture(*arrays(engine, *parts), num_values=4)
    drawn = sampled(engine, law, 40_000)
    counts = np.bincount(drawn @ [16, 4, 1], minlength=64)
    logits, loc, log_scale, coefficients = parts
    assert chi_square(counts, pixel_probabilities(logits, loc, np.exp(log_scale), coefficients, 4).ravel()) > RATE
    uncoupled = pixel_probabilities(logits, loc, np.exp(log_scale), 0 * coefficients, 4).ravel()
    assert chi_square(counts, uncoupled) < RATE
    columns = [np.bincount(drawn[:, i], minlength=4) / len(drawn) for i in range(3)]
    apart = np.einsum("i,j,k->ijk", *columns).ravel()
    assert chi_square(counts, apart) < RATE, "a component of each channel's own would not be seen"


def on_noise(engine: Any, law: Any, sample_shape: tuple[int, ...], seed: int = 9) -> np.ndarray:
    """Draws with uniforms that depend on their shape and the seed alone."""

    def uniform(shape: Any, dtype: Any) -> np.ndarray:
        return np.random.default_rng(seed).random(tuple(shape)).astype(dtype)

    def of_torch(shape: Any, dtype: Any, device: Any) -> torch.Tensor:
        return torch.as_tensor(uniform(shape, np.float32))

    def of_jax(key: Any, shape: Any, dtype: Any) -> jax.Array:
        return jnp.asarray(uniform(shape, np.float32))

    with mock.patch.object(torch, "rand", of_torch), mock.patch.object(jax.random, "uniform", of_jax):
        return sampled(engine, law, *sample_shape)


def test_both_engines_draw_the_same_from_the_same_noise() -> None:
    for name, parts, kwargs in (
        ("DiscretizedLogisticMixture", parameters(7), {}),
        ("CoupledLogisticMixture", pixel(8, (5, 2, 2)), {"pixel_dims": 2}),
    ):
        laws = [getattr(engine.face, name)(*arrays(engine, *parts), **kwargs) for engine in ENGINES]
        draws = [on_noise(engine, law, (50,)) for engine, law in zip(ENGINES, laws, strict=True)]
        np.testing.assert_array_equal(*draws)
        assert draws[0].shape == (50, *((5, 3, 2, 2) if kwargs else (4,)))
        assert draws[0].std() > 10
        densities = [log_prob(engine, law, draws[0]) for engine, law in zip(ENGINES, laws, strict=True)]
        np.testing.assert_allclose(*densities, rtol=1e-4)
        assert (on_noise(PYRO, laws[1], (50,), seed=10) != draws[0]).any()


@BOTH
def test_moments_and_the_means_of_coupled_channels(engine: Any) -> None:
    logits, loc, log_scale = parameters(10)
    law = engine.face.DiscretizedLogisticMixture(*arrays(engine, logits, loc, log_scale), num_values=80)
    p, v = probabilities(logits, loc, np.exp(log_scale), 80), np.arange(80)
    mean = np.tensordot(v, p, 1)
    np.testing.assert_allclose(plain(law.mean), mean, rtol=1e-4)
    np.testing.assert_allclose(plain(law.variance), np.tensordot(v**2, p, 1) - mean**2, rtol=1e-3)
    parts = list(pixel(11))
    parts[1] = 0.3 * parts[1] + np.array([0.4, -0.3, -0.2])[:, None]
    parts[2:] = parts[2] - 1.0, np.full((3, K), 0.5)
    exact = pixel_probabilities(parts[0], parts[1], np.exp(parts[2]), parts[3], 16)
    cells = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))
    expected = (exact * cells).sum((1, 2, 3))
    coupled = engine.face.CoupledLogisticMixture(*arrays(engine, *parts), num_values=16)
    found = plain(coupled.middle)
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    # what running into the edges leaves out
    np.testing.assert_allclose(found, expected, atol=0.1)
    still = engine.face.CoupledLogisticMixture(*arrays(engine, *parts[:3], 0 * parts[3]), num_values=16)
    assert abs(plain(still.middle) - expected)[1:].min() > 0.5


@BOTH
def test_values_that_there_are_not_have_no_probability(engine: Any) -> None:
    law = engine.face.DiscretizedLogisticMixture(*arrays(engine, *(part[0] for part in parameters())), num_values=8)
    found = log_prob(engine, law, np.array([-1.0, 0.0, 2.5, 7.0, 8.0, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(np.isneginf(found), [True, False, True, False, True, True])
    coupled = engine.face.CoupledLogisticMixture(*arrays(engine, *pixel()), num_values=8)
    assert np.isneginf(log_prob(engine, coupled, np.array([3, 8, 0])))


@BOTH
def test_shapes_expansion_and_enumeration(engine: Any) -> None:
    law = engine.face.DiscretizedLogisticMixture(*arrays(engine, *parameters()), num_values=8, validate_args=True)
    wide = law.expand((6, 4))
    assert (tuple(wide.batch_shape), tuple(wide.event_shape)) == ((6, 4), ())
    assert sampled(engine, wide, 2).shape == (2, 6, 4)
    values = law.enumerate_support()
    assert (values.shape, law.enumerate_support(expand=False).shape) == ((8, 4), (8, 1))
    np.testing.assert_allclose(np.exp(log_prob(engine, law, values)).sum(0), 1, rtol=1e-5)
    image = engine.face.CoupledLogisticMixture(*arrays(engine, *pixel(2, (5, 2, 4))), num_values=8, pixel_dims=2)
    assert (tuple(image.batch_shape), tuple(image.event_shape)) == ((5,), (3, 2, 4))
    drawn = sampled(engine, image.expand((7, 5)))
    assert drawn.shape == (7, 5, 3, 2, 4)
    found = log_prob(engine, image, drawn)
    assert found.shape == (7, 5)
    elements = (jax.jit(image.elements) if engine is NUMPYRO else image.elements)(engine.array(drawn))
    np.testing.assert_allclose(plain(elements).sum((2, 3, 4)), found, rtol=1e-5)
    valid = image.support(drawn) if engine is NUMPYRO else image.support.check(engine.array(drawn))
    assert valid.shape == (7, 5)
    assert plain(valid).all()
    bad = [part.copy() for part in parameters()]
    bad[1][0, 0] = np.nan
    with pytest.raises(ValueError, match="loc"):
        engine.face.DiscretizedLogisticMixture(*arrays(engine, *bad), validate_args=True)


def test_jax_maps_compiles_and_flattens_them() -> None:
    laws = [
        NUMPYRO.face.DiscretizedLogisticMixture(*arrays(NUMPYRO, *parameters()), num_values=8),
        NUMPYRO.face.CoupledLogisticMixture(*arrays(NUMPYRO, *pixel(2, (4, 2))), num_values=8, pixel_dims=1),
    ]
    for law in laws:
        value = sampled(NUMPYRO, law)
        expected = log_prob(NUMPYRO, law, value)
        leaves, structure = jax.tree.flatten(law)
        again = jax.tree.unflatten(structure, leaves)
        assert (again.batch_shape, again.event_shape, again.num_values) == (law.batch_shape, law.event_shape, 8)
        compiled = jax.jit(lambda law, value: law.log_prob(value))(law, value)
        np.testing.assert_allclose(compiled, expected, rtol=1e-5)

        def one(value: Any, parts: Any, law: Any = law) -> Any:
            return type(law)(*parts, *(getattr(law, name) for name in law.pytree_aux_fields)).log_prob(value)

        mapped = jax.jit(jax.vmap(one))(value, [getattr(law, name) for name in law.arg_constraints])
        np.testing.assert_allclose(mapped, expected, rtol=1e-5)


@BOTH
def test_at_a_site_of_a_plain_model(engine: Any) -> None:
    """Observed, with missing entries summed out."""
    logits, loc, log_scale = arrays(engine, *(part[:1].repeat(6, 0) for part in parameters(3)))
    site = (numpyro if engine is NUMPYRO else pyro).sample
    plate = (numpyro if engine is NUMPYRO else pyro).plate

    def model() -> Any:
        with plate("data", 6):
            return site("x", engine.face.DiscretizedLogisticMixture(logits, loc, log_scale, num_values=8))

    x = np.array([0.0, np.nan, 7.0, 3.0, np.nan, 1.0])
    handled = engine.face.missing(model, data={"x": x}, latent=False)
    if engine is NUMPYRO:
        found, _ = numpyro.infer.util.log_density(numpyro.handlers.seed(handled, 0), (), {}, {})
    else:
        found = pyro.poutine.trace(handled).get_trace().log_prob_sum()
    p = probabilities(*(plain(part)[0].astype(float) for part in (logits, loc)), np.exp(plain(log_scale)[0]), 8)
    assert float(found) == pytest.approx(np.log(p[[0, 7, 3, 1]]).sum(), rel=1e-4)
    assert float(found) != pytest.approx(np.log(p[[0, 0, 7, 3, 0, 1]]).sum(), rel=1e-2)


def test_weights_that_are_all_one_component() -> None:
    """The choice of a component at the ends of its uniform, whatever the rounding of the cumulative weights."""
    logits = np.array([-40.0, 0.0, -40.0])
    which = np.array([0.0, 1e-9, 0.5, 1.0])
    loc, narrow = np.array([-1.0, 0.0, 1.0]), np.full(3, -12.0)
    drawn = mixture.draw(which, np.full(4, 0.5), logits, loc, narrow, 3)
    assert set(drawn[1:3]) == {1.0}
    assert set(drawn) <= {0.0, 1.0, 2.0}
    weights = softmax(np.array([0.3, -0.2, 0.6]))
    inside = np.array([0.5 * weights[0], weights[0] + 0.5 * weights[1], 1 - 0.5 * weights[2]])
    drawn = mixture.draw(inside, np.full(3, 0.5), np.array([0.3, -0.2, 0.6]), loc, narrow, 3)
    np.testing.assert_array_equal(drawn, [0, 1, 2])


def test_the_start_s_raw_scales_are_those_of_the_law() -> None:
    """A raw number at which the law has this scale, restated."""
    law = NUMPYRO.face.likelihoods.DiscretizedLogistic((1,), 1)
    data = np.random.default_rng(0).binomial(255, 0.4, (500, 1))
    raw = law.start(data)[2]
    expected = stretch(np.log(np.sqrt(3) / np.pi * data.std() * 2 / 255), -np.log(255) - 2, 2.0)
    np.testing.assert_allclose(raw, [expected], rtol=1e-6)
