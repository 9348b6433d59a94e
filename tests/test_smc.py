"""Particles: resampling schemes, evidence against the Kalman filter, parity, and faults that must show."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions
import pyro.distributions
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit
from scipy import stats

import deepgen.inference.smc.numpyro
import deepgen.inference.smc.pyro
from deepgen.inference.smc import genealogy, weights
from deepgen.inference.smc.resampling import SCHEMES, residual, stratified, systematic

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ROOM: dict[str, Any] = {"numpyro": deepgen.inference.smc.numpyro, "pyro": deepgen.inference.smc.pyro}
WEIGHTS = np.array([0.31, 0.0, 0.05, 0.24, 0.17, 0.0, 0.22, 0.01])


def counts(scheme: Callable[..., Any], draws: int = 20_000, seed: int = 0) -> np.ndarray:
    uniforms = np.random.default_rng(seed).random((draws, len(WEIGHTS)))
    index = scheme(np.broadcast_to(WEIGHTS, uniforms.shape), uniforms)
    assert index.shape == uniforms.shape
    return (index[..., None] == np.arange(len(WEIGHTS))).sum(1)


def unbiased(found: np.ndarray) -> float:
    """The worst score of the mean number of copies, as a share of its limit; infinite where a zero weight is drawn."""
    expected = len(WEIGHTS) * WEIGHTS
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    sure = error == 0
    if (found.mean(0)[sure] != expected[sure]).any():
        return np.inf
    return float(np.abs((found.mean(0) - expected)[~sure] / error[~sure]).max() / limit(int((~sure).sum())))


@pytest.mark.parametrize("name", SCHEMES)
def test_every_particle_goes_on_as_often_as_its_weight_says(name: str) -> None:
    assert unbiased(counts(SCHEMES[name])) < 1

    def flattened(w: np.ndarray, u: np.ndarray) -> np.ndarray:
        return SCHEMES[name](0.9 * w + 0.1 * (w > 0) / 6, u)

    assert unbiased(counts(flattened)) > 1
    assert unbiased(counts(lambda w, u: SCHEMES[name](w, u * 0.7))) > 1


def test_schemes_differ_in_variance_as_they_should() -> None:
    """Multinomial above residual and stratified in every particle; systematic within one copy of the mean."""
    spread = {name: counts(scheme).var(0) for name, scheme in SCHEMES.items()}
    expected = len(WEIGHTS) * WEIGHTS
    binomial = expected * (1 - WEIGHTS)
    np.testing.assert_allclose(spread["multinomial"], binomial, rtol=0.06)
    for name in ("residual", "stratified", "systematic"):
        assert (spread[name] <= binomial * 1.06 + 1e-12).all(), name
        assert spread[name].sum() < 0.6 * binomial.sum(), name
    found = counts(systematic)
    assert (np.abs(found - expected) < 1).all()
    assert (counts(residual) >= np.floor(expected)).all()
    assert not (counts(stratified) >= np.floor(expected)).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_resampling_at_the_edges(name: str) -> None:
    """A uniform that rounds to one, one particle, one weight that is all, weights of equal size."""
    scheme = SCHEMES[name]
    edge = np.full((1, 8), np.nextafter(1, 0))
    assert WEIGHTS[scheme(WEIGHTS[None], edge)].min() > 0
    assert WEIGHTS[scheme(WEIGHTS[None], np.zeros((1, 8)))].min() > 0
    assert scheme(np.ones((3, 1)), np.random.default_rng(0).random((3, 5))).max() == 0
    alone = np.eye(8)[[0, 3, 7]]
    assert (scheme(alone, np.random.default_rng(0).random((3, 8))) == np.array([[0], [3], [7]])).all()
    for size in (3, 7, 10, 49):
        even = np.full((1, size), np.float32(1 / size))
        if name != "multinomial":
            middle = np.full((1, size), np.float32(0.5))
            assert sorted(scheme(even, middle)[0]) == list(range(size)), size


@pytest.mark.parametrize("name", SCHEMES)
def test_engines_resample_alike(name: str) -> None:
    rng = np.random.default_rng(1)
    w = rng.dirichlet(np.ones(33), (4, 2)).astype(np.float32)
    u = rng.random((4, 2, 33)).astype(np.float32)
    expected = SCHEMES[name](w, u)
    assert (np.asarray(jax.jit(SCHEMES[name])(w, u)) == expected).mean() > 0.99
    assert (SCHEMES[name](torch.as_tensor(w), torch.as_tensor(u)).numpy() == expected).mean() > 0.99


def test_weights_and_evidence_add_up() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.standard_normal((2, 3, 6)) * 4 + 300
    one, z_one = weights.reweigh(weights.even(first), first)
    two, z_two = weights.reweigh(one, second)
    direct = first + second
    np.testing.assert_allclose(z_one + z_two, np.log(np.exp(direct - 600).mean(-1)) + 600)
    np.testing.assert_allclose(np.exp(two).sum(-1), 1)
    p = np.exp(direct - direct.max(-1, keepdims=True))
    np.testing.assert_allclose(np.exp(two), p / p.sum(-1, keepdims=True))
    np.testing.assert_allclose(weights.effective_sample_size(two), p.sum(-1) ** 2 / (p**2).sum(-1))
    dead, nothing = weights.reweigh(one, np.full((3, 6), -np.inf))
    assert (nothing == -np.inf).all()
    np.testing.assert_allclose(dead, -np.log(6))
    np.testing.assert_array_equal(
        weights.too_uneven(np.array([4.9, 5.0, 5.1, 10.0]), 10, 0.5), [True, False, False, False]
    )
    assert not weights.too_uneven(np.array([10.0]), 10, 1.0).any()


def test_unique_lineages_are_counted() -> None:
    assert genealogy.count_unique(np.array([[3, 1, 3, 0], [2, 2, 2, 2]])).tolist() == [3, 1]
    np.testing.assert_array_equal(
        genealogy.follow(np.array([[2, 2, 0]]), np.array([[1, 2, 2, 0]])), np.array([[2, 0, 0, 2]])
    )


# a linear-Gaussian state-space model: z_0 ~ N(0, 2^2), z_t = 0.9 z_{t-1} + N(0, 1), y_t = z_t + N(0, 0.6^2)

COEFFICIENT, NOISE, LENGTH, ROWS, COUNT = 0.9, 0.6, 5, 2000, 24
SERIES = np.array([0.5, -1.2, 2.2, 1.5, -0.3], dtype=np.float32)


def smoothed(y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """log p(y), and mean and covariance of z_0 … z_T given y, by the joint normal law."""
    size = len(y) + 1
    prior = np.zeros((size, size))
    prior[0, 0] = 4.0
    for t in range(1, size):
        prior[t, :t] = prior[:t, t] = COEFFICIENT * prior[t - 1, :t]
        prior[t, t] = COEFFICIENT**2 * prior[t - 1, t - 1] + 1
    seen = prior[1:, 1:] + NOISE**2 * np.eye(len(y))
    gain = np.linalg.solve(seen, prior[1:]).T
    value = stats.multivariate_normal(np.zeros(len(y)), seen).logpdf(y)
    return float(value), gain @ y, prior - gain @ prior[1:]


def kalman(y: np.ndarray) -> float:
    mean, variance, total = 0.0, 4.0, 0.0
    for value in y:
        mean, variance = COEFFICIENT * mean, COEFFICIENT**2 * variance + 1
        spread = variance + NOISE**2
        total += stats.norm(mean, np.sqrt(spread)).logpdf(value)
        gain = variance / spread
        mean, variance = mean + gain * (value - mean), (1 - gain) * variance
    return total


def numpyro_start(rng_key: Any, shape: tuple[int, ...]) -> Any:
    return numpyro.distributions.Normal(0.0, 2.0).sample(rng_key, shape), jnp.zeros(shape)


def numpyro_move(rng_key: Any, z: Any, y: Any) -> Any:
    z = numpyro.distributions.Normal(COEFFICIENT * z, 1.0).sample(rng_key)
    return z, numpyro.distributions.Normal(z, NOISE).log_prob(y)


def pyro_start(shape: tuple[int, ...]) -> Any:
    return pyro.distributions.Normal(0.0, 2.0).sample(shape), torch.zeros(shape)


def pyro_move(z: Any, y: Any) -> Any:
    z = pyro.distributions.Normal(COEFFICIENT * z, 1.0).sample()
    return z, pyro.distributions.Normal(z, NOISE).log_prob(y)


def itself(z: Any) -> Any:
    return z


MODEL = {"numpyro": (numpyro_start, numpyro_move), "pyro": (pyro_start, pyro_move)}


def run(engine: Any, **options: Any) -> dict[str, np.ndarray]:
    given = {"num_particles": COUNT, "batch_shape": (ROWS,), "collect": itself} | options
    found = engine.call("smc", *MODEL[engine.name], engine.array(SERIES), seed=3, **given)
    return {name: np.asarray(value) for name, value in found._asdict().items()}


@cache
def ran(engine: Any, resampling: str = "systematic", ess_threshold: float = 0.5) -> dict[str, np.ndarray]:
    return run(engine, resampling=resampling, ess_threshold=ess_threshold)


def evidence_score(found: dict[str, np.ndarray]) -> float:
    """How far the mean of independent estimates of Z is from Z, as a share of its limit."""
    ratio = np.exp(found["log_evidence"].astype(float) - kalman(SERIES))
    return float(abs(ratio.mean() - 1) / (ratio.std(ddof=1) / np.sqrt(len(ratio))) / limit(1, len(ratio) - 1))


def history_score(found: dict[str, np.ndarray]) -> float:
    """Unbiased weighted means: Z times the mean of z_t and of its square, under the smoothing law."""
    value, mean, covariance = smoothed(SERIES)
    z, w = found["history"].astype(float), np.exp(found["log_weights"].astype(float))
    ratio = np.exp(found["log_evidence"].astype(float) - value)
    scores = []
    for power, truth in [(1, mean), (2, mean**2 + np.diag(covariance))]:
        estimate = ratio * (w * z**power).sum(-1) - truth[:, None]
        scores.append(estimate.mean(1) / (estimate.std(1, ddof=1) / np.sqrt(estimate.shape[1])))
    return float(np.abs(scores).max() / limit(2 * len(mean), ROWS - 1))


SETTINGS = [
    *[(PYRO, name, 0.5) for name in SCHEMES],
    *[(PYRO, "systematic", threshold) for threshold in (0.0, 1.0)],
    # each is compiled anew
    *[(NUMPYRO, "systematic", 0.5), (NUMPYRO, "residual", 1.0)],
]


def test_closed_forms_agree() -> None:
    assert smoothed(SERIES)[0] == pytest.approx(kalman(SERIES))


@pytest.mark.parametrize(("engine", "resampling", "threshold"), SETTINGS, ids=str)
def test_evidence_is_unbiased(engine: Any, resampling: str, threshold: float) -> None:
    """Also of few particles; its logarithm lies below the truth on average."""
    found = ran(engine, resampling, threshold)
    assert evidence_score(found) < 1
    assert history_score(found) < 1
    logs = found["log_evidence"] - kalman(SERIES)
    assert logs.mean() / (logs.std(ddof=1) / np.sqrt(ROWS)) < -limit(1)
    assert found["resampled"].any() == (threshold > 0)
    if threshold == 1:
        assert found["resampled"][1:].all()


@BOTH
def test_planted_faults_in_the_weights_show(engine: Any) -> None:
    room = ROOM[engine.name]

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(weights, name)

    kept = Broken()
    kept.even = lambda log_weights: log_weights  # type: ignore[attr-defined]
    unnormalised = Broken()
    unnormalised.reweigh = lambda w, g: (weights.reweigh(w, g)[0], weights.log_sum(g)[..., 0])  # type: ignore[attr-defined]
    for fault in (kept, unnormalised):
        # another number of particles, lest a compiled right program be found
        with mock.patch.object(room, "weights", fault):
            assert evidence_score(run(engine, num_particles=COUNT + 1 + (fault is kept))) > 1


@BOTH
def test_histories_follow_the_ancestors(engine: Any) -> None:
    found = ran(engine)
    lineage = found["lineage"]
    assert lineage.shape == (LENGTH + 1, ROWS, COUNT)
    assert (lineage[-1] == np.arange(COUNT)).all()
    unique = genealogy.count_unique(lineage)
    assert (np.diff(unique, axis=0) >= 0).all()
    assert (unique[0] < COUNT).any()
    np.testing.assert_array_equal(found["history"][-1], found["particles"])
    with mock.patch.object(genealogy, "follow", lambda ancestors, lineage: lineage):
        planted = run(engine, num_particles=COUNT + 3)
    assert history_score(planted) > 1
    assert evidence_score(planted) < 1


class NumPyroTape(eqx.Module):
    """The same model with its normals and the uniforms of resampling among the inputs."""

    def __call__(self, z: Any, item: Any) -> Any:
        y, normals = item
        z = {"z": COEFFICIENT * z["z"] + normals}
        return z, numpyro.distributions.Normal(z["z"], NOISE).log_prob(y)


def pyro_tape(z: Any, item: Any) -> Any:
    y, normals = item
    z = {"z": COEFFICIENT * z["z"] + normals}
    return z, pyro.distributions.Normal(z["z"], NOISE).log_prob(y)


@pytest.mark.parametrize("resampling", SCHEMES)
def test_engines_agree_on_the_same_noise(resampling: str) -> None:
    rng = np.random.default_rng(5)
    normals = rng.standard_normal((LENGTH + 1, 3, 16)).astype(np.float32)
    uniforms = rng.random((LENGTH, 3, 16)).astype(np.float32)
    found: dict[str, list[Any]] = {}
    for engine, move in [(NUMPYRO, NumPyroTape()), (PYRO, pyro_tape)]:
        room = ROOM[engine.name]
        step = room.step_with_uniforms if engine is PYRO else eqx.filter_jit(room.step_with_uniforms)
        state = room.init({"z": engine.array(2 * normals[0])}, engine.array(np.zeros((3, 16), np.float32)))
        steps = []
        for t, y in enumerate(SERIES):
            item = (engine.array(y), engine.array(normals[t + 1]))
            state, info = step(engine.array(uniforms[t]), state, move, item, resampling, 0.7)
            steps.append([np.asarray(v) for v in (state.particles["z"], *state[1:], *info)])
        found[engine.name] = steps
    assert any(step[4].any() for step in found["pyro"])
    for mine, other in zip(found["numpyro"], found["pyro"], strict=True):
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_a_second_run_compiles_nothing() -> None:
    call = partial(run, NUMPYRO, num_particles=9, batch_shape=())
    first = call()
    assert first["history"].shape == (LENGTH + 1, 9)
    assert NUMPYRO.compiled(call) == 0
    assert NUMPYRO.compiled(partial(run, NUMPYRO, num_particles=10, batch_shape=())) > 0


@BOTH
def test_impossible_observations_leave_no_evidence(engine: Any) -> None:
    def start(*args: Any) -> Any:
        z, w = MODEL[engine.name][0](*args)
        return z, w - np.inf

    found = engine.call("smc", start, MODEL[engine.name][1], engine.array(SERIES), num_particles=5)
    assert float(found.log_evidence) == -np.inf
    assert np.isfinite(np.asarray(found.log_weights)).all()


@BOTH
def test_bad_arguments_are_refused(engine: Any) -> None:
    start, move = MODEL[engine.name]
    y = engine.array(SERIES)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"num_particles": 0}, "num_particles: got 0; expected a number >= 1"),
        ({"resampling": "best"}, r"resampling: got 'best'; expected one of \['multinomial', 'systematic'"),
        ({"ess_threshold": 1.5}, "ess_threshold: got 1.5; expected a number from 0 to 1"),
        ({"batch_shape": (0,)}, r"batch_shape: got \(0,\); expected positive integers"),
    ]
    for options, message in refused:
        with pytest.raises(ValueError, match=message):
            engine.call("smc", start, move, y, **options)
    for inputs in ((), y[:0], (y, y[:2]), y[0]):
        with pytest.raises(ValueError, match="inputs: got arrays of shapes"):
            engine.call("smc", start, move, inputs)
    with pytest.raises(ValueError, match=r"move: got log weights of shape \(3, 7\); expected .* = \(7,\)"):
        engine.call("smc", start, move, engine.array(np.ones((2, 3, 1), np.float32)), num_particles=7)
    with pytest.raises(ValueError, match=r"start: got particles with an array of shape \(2,\)"):
        engine.call("smc", lambda *args: (y[:2], start(*args)[1]), move, y, num_particles=7)
