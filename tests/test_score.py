"""Score models in both engines: draws, densities, completions and guidance against closed forms and quadrature."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from montecarlo import worst_stated_error
from registry import INSTANCES, ORACLES, oracle_program, randomised, twin
from score_biases import law_of_draws
from score_laws import exact_law

from deepgen.models.score import sdes

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.family == "score")
MLP = next(instance for instance in INSTANCES if instance.family == "score" and instance.name == "vp-mlp")
BIAS = 0.12
"""What completions down a ladder may be off, in units of the variances: as annealed draws are shown to be."""


def off(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray, bias: float = 0.0) -> float:
    """The largest error of a mean or a covariance, in units of the standard deviations, over a bias and its noise."""
    flat = draws.reshape(len(draws), -1).astype(float)
    sd = np.sqrt(np.diag(covariance))
    errors = np.abs(flat.mean(0) - mean) / sd, np.abs(np.cov(flat.T) - covariance) / np.outer(sd, sd)
    # five standard errors of a mean, seven of a covariance
    noise = 5 / np.sqrt(len(flat)), 7 / np.sqrt(len(flat))
    return float(max(error.max() / (bias + extra) for error, extra in zip(errors, noise, strict=True)))


@BOTH
@pytest.mark.parametrize("method", ["sde", "predictor-corrector", "annealed-langevin"])
def test_draws_by_every_method_have_the_law_of_its_steps(engine: Any, method: str) -> None:
    """The bias of finite steps is what their recursion gives in closed form, neither more nor less."""
    program, (mean, covariance) = oracle_program(ORACLE, engine), exact_law()
    found = np.asarray(engine.call("sample", program, 10_000, method=method, seed=2))
    assert off(found, *law_of_draws(method, program.sde, mean, covariance)) < 1
    assert (off(found, mean, covariance) > 1) == (method == "annealed-langevin"), "its bias is seen, the others' not"
    wrong = engine.call("sample", twin(ORACLE, engine, network=0.6), 3000, method=method, seed=2)
    assert off(np.asarray(wrong), *law_of_draws(method, program.sde, mean, covariance)) > 1


@pytest.mark.parametrize("sde", [sdes.VP(), sdes.SubVP(), sdes.VE()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize(
    ("method", "low", "high"),
    [("sde", 0.999, 1.004), ("predictor-corrector", 1.016, 1.026), ("annealed-langevin", 1.10, 1.13)],
)
def test_the_biases_are_those_that_the_docstring_says(sde: Any, method: str, low: float, high: float) -> None:
    for variance in (0.25, 1.0, 4.0):
        mean, covariance = law_of_draws(method, sde, np.ones(1), variance * np.eye(1))
        assert mean[0] == pytest.approx(1.0, abs=2e-3)
        assert low < covariance[0, 0] / variance < high


@BOTH
def test_random_probes_estimate_the_density_within_their_stated_error(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(1), 60)
    program = oracle_program(ORACLE, engine).with_options(num_probes=4)
    found = engine.call("log_prob", program, x, num_particles=80)
    assert found.kind == "estimate"
    truth = ORACLE.log_prob(x)
    # the score's Jacobian is the same at every row, so that rows share the law of their error
    assert worst_stated_error(found.value, found.stderr, truth) < 1
    assert found.stderr.min() > 0
    assert worst_stated_error(found.value + 0.2, found.stderr, truth) > 1
    assert worst_stated_error(found.value, found.stderr / 3, truth) > 1
    alone = engine.call("log_prob", program, x[:3], num_particles=1)
    assert np.isnan(alone.stderr).all()


@cache
def density_on_a_grid(engine: Any) -> tuple[np.ndarray, Any, float]:
    config = {**MLP.config, "event_shape": [2], "network": {**MLP.config["network"], "event_shape": [2]}}
    program = randomised(engine, "score", {**config, "tolerance": 1e-5}, seed=4)
    axis = np.linspace(-7.0, 7.0, 57, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    found = engine.call("log_prob", program, points)
    assert found.stderr.max() == 0
    return found.value.astype(float), program, float((axis[1] - axis[0]) ** 2)


@BOTH
def test_the_density_of_the_flow_integrates_to_one_and_is_that_of_its_draws(engine: Any) -> None:
    """Of a network with random weights, by the trapezoidal rule; moments against draws."""
    value, program, cell = density_on_a_grid(engine)
    weights = np.exp(value) * cell
    assert weights.sum() == pytest.approx(1.0, abs=5e-3)
    axis = np.linspace(-7.0, 7.0, 57)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    mean = weights @ points
    variance = weights @ (points - mean) ** 2
    draws = np.asarray(engine.call("sample", program, 4000, seed=3)).astype(float)
    error = draws.std(0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(0) - mean) < 5 * error).all()
    assert (np.abs(draws.var(0) / variance - 1) < 0.15).all()
    # the change of volume left out: the prior's density at the other end of the flow
    half = np.exp(value / 2) * cell
    assert abs(half.sum() - 1) > 0.1


@BOTH
@pytest.mark.parametrize("method", ["predictor-corrector", "annealed-langevin"])
def test_completions_are_near_the_law_given_what_is_observed(engine: Any, method: str) -> None:
    """Within the bias that they admit to: they are labelled approximate."""
    rng = np.random.default_rng(5)
    x = ORACLE.draw(rng, 3)
    holes = ORACLE.hide(x, rng)
    holes[0] = [x[0, 0], np.nan, np.nan, x[0, 3]]
    program = oracle_program(ORACLE, engine)
    post = engine.call("impute", program, holes, method=method, num_samples=500, num_chains=2, seed=1)
    assert post.posterior.attrs["law"] == "approximate"
    draws = post.posterior["x"].values.reshape(-1, *x.shape)
    mean, covariance = ORACLE.conditional(holes)
    free_mean, free_covariance = ORACLE.conditional(np.full_like(holes, np.nan))

    def worst(mean: np.ndarray, covariance: np.ndarray) -> float:
        scores = []
        for row in range(len(x)):
            hidden = np.isnan(holes[row])
            if hidden.any():
                at = np.ix_(hidden, hidden)
                scores.append(off(draws[:, row, hidden], mean[row, hidden], covariance[row][at], BIAS))
        return max(scores)

    assert worst(mean, covariance) < 1
    assert worst(free_mean, free_covariance) > 1, "draws that know nothing of the observed would not be seen"
    seen = ~np.isnan(holes)
    assert (draws[:, seen] == holes[seen]).all()


@BOTH
def test_the_exact_score_of_a_normal_law_is_learned(engine: Any) -> None:
    """Denoising over all levels: the minimiser in closed form is the mean and the covariance of the data."""
    x = ORACLE.draw(np.random.default_rng(2), 2000)
    program = engine.call(engine.face.ScoreModel, engine.call(engine.face.GaussianScore, (4,)), (4,), "vp")
    fit = engine.call("fit", program, x, steps=500, learning_rate=2e-2, ema=0.98, progress=False)
    tensors = engine.tensors(fit.program)
    assert fit.losses[-50:].mean() < fit.losses[:10].mean()
    assert np.abs(tensors["network.loc"] - x.mean(0)).max() < 0.15
    found = tensors["network.factor"] @ tensors["network.factor"].T
    assert np.abs(found - np.cov(x.T)).max() < 0.15
    assert np.abs(np.eye(4) - np.cov(x.T)).max() > 0.3, "the start would pass"


@BOTH
@pytest.mark.parametrize("method", ["ode", "sde", "predictor-corrector", "annealed-langevin"])
def test_a_draw_is_repeated_by_its_seed_and_changes_with_it(engine: Any, method: str) -> None:
    program = oracle_program(ORACLE, engine).with_options(method=method, num_steps=None if method == "ode" else 10)
    first, again, other = (np.asarray(engine.call("sample", program, 5, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("method", ["ode", "sde", "predictor-corrector", "annealed-langevin"])
def test_draws_are_the_same_in_both_engines_on_a_tape(method: str) -> None:
    weights, found = ENGINES[0].tensors(randomised(ENGINES[0], "score", MLP.config, seed=1)), []
    for engine in ENGINES:
        program = engine.with_tensors(engine.build("score", MLP.config), weights)
        program = program.with_options(method=method, num_steps=None if method == "ode" else 4)
        found.append(np.asarray(engine.on_tape(3, "sample", program, 3)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_residuals_are_the_same_in_both_engines() -> None:
    rng = np.random.default_rng(0)
    instance = next(i for i in INSTANCES if i.family == "score" and i.name == "subvp-context")
    x, noise = (rng.standard_normal((4, 3)).astype(np.float32) for _ in range(2))
    level, drop = (rng.random(4).astype(np.float32) for _ in range(2))
    context = rng.standard_normal((4, 2)).astype(np.float32)
    weights, found = ENGINES[0].tensors(randomised(ENGINES[0], "score", instance.config, seed=1)), []
    for engine in ENGINES:
        program = engine.with_tensors(engine.build("score", instance.config), weights).with_options(drop=0.5)
        law = program.distribution(engine.array(context))
        rows = law.residual(*(engine.array(part) for part in (x, noise, level, drop)))
        hidden = law.residual(*(engine.array(part) for part in (x, noise, level, 0 * drop)))
        free = program.distribution(engine.array(0 * context)).residual(
            *(engine.array(part) for part in (x, noise, level, 0 * drop))
        )
        rows, hidden, free = (
            np.asarray(part.detach() if hasattr(part, "detach") else part) for part in (rows, hidden, free)
        )
        np.testing.assert_allclose(hidden, free, rtol=1e-5)
        assert (np.abs(rows - hidden).max(1) > 1e-4).tolist() == (drop >= 0.5).tolist()
        found.append(rows)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


@BOTH
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "euler"}, r"method: got 'euler'; expected one of \['ode', 'sde', 'predictor-corrector'"),
        ({"num_steps": 7}, r"num_steps: got 7; expected none for method='ode'"),
        ({"y": np.zeros(3)}, r"context: got shape \(2, 3\); expected none"),
    ],
)
def test_draws_that_are_refused(engine: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.call("sample", oracle_program(ORACLE, engine), 2, **arguments)


@BOTH
def test_what_else_is_refused(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    vae = engine.call(engine.face.VAE.mlp, (3,), 2, "gaussian", hidden=(4,))
    with pytest.raises(ValueError, match=r"method: got .* for a VAE, which has one way to draw"):
        engine.call("sample", vae, 2, method="sde")
    with pytest.raises(ValueError, match=r"x: got 1 NaN values, .*complete them with impute"):
        engine.call("log_prob", program, np.array([[0.0, np.nan, 0.0, 0.0]], np.float32))
    with pytest.raises(ValueError, match=r"option: got 'sde'; expected one of \['drop'"):
        program.with_options(sde="ve")
    with pytest.raises(ValueError, match=r"tolerance: got 0"):
        program.with_options(tolerance=0.0)
    with pytest.raises(ValueError, match=r"num_particles: got 0"):
        engine.call("log_prob", program, np.zeros((1, 4), np.float32), num_particles=0)
    with pytest.raises(ValueError, match=r"event_shape: got \(4,\); expected three numbers"):
        engine.call(engine.face.ScoreModel.conv, (4,))
    with pytest.raises(ValueError, match=r"method: got 'sir'; expected one of \['predictor-corrector'"):
        engine.call("impute", program, np.full((1, 4), np.nan), method="sir")
