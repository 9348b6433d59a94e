"""Score matching against closed forms: what its objectives mean on a normal law, and where they are minimal."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions
import pyro
import pyro.distributions
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit

import deepgen.inference.score_matching.numpyro
import deepgen.inference.score_matching.pyro
from deepgen.inference.score_matching import losses

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
RNG = np.random.default_rng(3)
LOC = np.array([1.0, -1.0, 0.5])
FACTOR = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.3, 0.2, 0.6]])
COVARIANCE = FACTOR @ FACTOR.T
X = (LOC + RNG.standard_normal((2000, 3)) @ FACTOR.T).astype(np.float32)


def loss(engine: Any, objective: Any, loc: np.ndarray, covariance: np.ndarray, x: np.ndarray, seed: int = 0) -> float:
    """The objective of a plain model whose one site is a normal law, in the engine's own SVI's way."""
    law, plate, sample, array = {
        "numpyro": (numpyro.distributions.MultivariateNormal, numpyro.plate, numpyro.sample, jnp.asarray),
        "pyro": (pyro.distributions.MultivariateNormal, pyro.plate, pyro.sample, torch.as_tensor),
    }[engine.name]
    at = [array(np.asarray(part, np.float32)) for part in (loc, covariance)]

    def model(x: Any) -> None:
        with plate("data", len(x)):
            sample("x", law(*at), obs=x)

    def guide(x: Any) -> None:
        """No latents."""

    if engine is NUMPYRO:
        return float(objective.loss(jax.random.key(seed), {}, model, guide, array(x)))
    pyro.set_rng_seed(seed)
    return float(objective.loss(model, guide, array(x)))


def fisher(loc: np.ndarray, covariance: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The exact loss of each row under N(loc, covariance)."""
    precision = np.linalg.inv(covariance)
    return 0.5 * (((x - loc) @ precision) ** 2).sum(1) - np.trace(precision)


@BOTH
def test_the_exact_objective_is_that_of_the_closed_form(engine: Any) -> None:
    found = loss(engine, engine.face.ExactScoreMatching(), LOC + 0.2, 1.3 * COVARIANCE, X[:50])
    truth = fisher(LOC + 0.2, 1.3 * COVARIANCE, X[:50].astype(float)).sum()
    assert found == pytest.approx(truth, rel=1e-5)
    precision = np.linalg.inv(1.3 * COVARIANCE)
    without = truth + 50 * np.trace(precision)
    assert found != pytest.approx(without, rel=1e-2), "a trace left out would not be seen"


@BOTH
@pytest.mark.parametrize("reduced", [True, False])
def test_the_sliced_objective_is_the_exact_one_in_expectation(engine: Any, reduced: bool) -> None:
    """Over directions: means of repeated losses against the closed form, within their standard error."""
    objective = engine.face.SlicedScoreMatching(num_projections=50, variance_reduced=reduced)
    draws = np.array([loss(engine, objective, LOC, COVARIANCE, X[:200], seed=seed) for seed in range(8)]) / 200
    truth = fisher(LOC, COVARIANCE, X[:200].astype(float)).mean()
    error = draws.std(ddof=1) / np.sqrt(len(draws))

    def score(values: np.ndarray) -> float:
        return abs(values.mean() - truth) / error / limit(1, len(draws) - 1)

    assert score(draws) < 1
    assert error < 0.02 * abs(truth)
    curvature = -np.trace(np.linalg.inv(COVARIANCE))
    assert score(draws - 0.5 * curvature) > 1, "half the curvature would not be seen"
    assert score(-draws) > 1, "the wrong sign would not be seen"


@BOTH
def test_the_variance_is_reduced_where_scores_are_long(engine: Any) -> None:
    spread = {}
    for reduced in (True, False):
        objective = engine.face.SlicedScoreMatching(variance_reduced=reduced)
        draws = [loss(engine, objective, LOC + 4, COVARIANCE, X[:100], seed=seed) for seed in range(12)]
        spread[reduced] = np.std(draws)
    assert spread[True] < 0.9 * spread[False]


def linear_minimum(engine: Any, objective: Any, noised: np.ndarray) -> float:
    """How far the slope of a loss by the scale of the covariance is from zero at ``noised``, in standard errors."""
    slopes = []
    for seed in range(10):
        x = (LOC + np.random.default_rng(seed).standard_normal((1000, 3)) @ FACTOR.T).astype(np.float32)
        up, down = (loss(engine, objective, LOC, noised * (1 + step), x, seed=seed) for step in (0.02, -0.02))
        slopes.append((up - down) / 1000)
    return float(abs(np.mean(slopes)) / (np.std(slopes, ddof=1) / np.sqrt(len(slopes))) / limit(1, len(slopes) - 1))


@BOTH
def test_the_minimum_of_the_denoising_objective_is_the_law_of_noised_data(engine: Any) -> None:
    """N(m, C + sigma^2 I), and neither the data's own law nor that of twice the variance of the noise."""
    objective = engine.face.DenoisingScoreMatching(sigma=0.7)
    assert linear_minimum(engine, objective, COVARIANCE + 0.49 * np.eye(3)) < 1
    assert linear_minimum(engine, objective, COVARIANCE) > 1
    assert linear_minimum(engine, objective, COVARIANCE + 2 * 0.49 * np.eye(3)) > 1


def test_losses_are_the_same_in_both_engines_on_a_tape() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((5, 3)).astype(np.float32), rng.standard_normal((3, 3)).astype(np.float32)
    found = {}
    for engine, room, array in (
        (NUMPYRO, deepgen.inference.score_matching.numpyro, jnp.asarray),
        (PYRO, deepgen.inference.score_matching.pyro, torch.as_tensor),
    ):
        tanh = {"numpyro": jnp.tanh, "pyro": torch.tanh}[engine.name]

        class Law:
            """An unnormalised energy of a product of experts."""

            event_dim = 1

            def __init__(self, w: Any, tanh: Any) -> None:
                self.w, self.tanh = w, tanh

            def log_prob(self, value: Any) -> Any:
                return self.tanh(value @ self.w).sum(-1) - 0.5 * (value * value).sum(-1)

        law = Law(array(weights), tanh)
        key = (jax.random.key(0),) if engine is NUMPYRO else ()
        values = []
        for objective in (
            room.ExactScoreMatching(),
            room.SlicedScoreMatching(num_projections=2),
            room.SlicedScoreMatching(num_projections=2, variance_reduced=False),
            room.DenoisingScoreMatching(sigma=0.3),
        ):
            with engine.tape(4):
                rows = objective.rows(*key, law, array(x), "x")
            values.append(np.asarray(rows.detach() if engine is PYRO else rows))
        found[engine.name] = np.stack(values)
    np.testing.assert_allclose(found["numpyro"], found["pyro"], rtol=1e-5, atol=1e-5)
    assert np.abs(found["numpyro"][1] - found["numpyro"][2]).max() > 1e-3


def test_losses_in_closed_form() -> None:
    score, trace, v = np.array([[1.0, 2.0]]), np.array([-3.0]), np.array([[0.5, -1.0]])
    assert losses.exact(score, trace) == pytest.approx([-0.5])
    assert losses.sliced(score, v, trace, variance_reduced=True) == pytest.approx([-0.5])
    assert losses.sliced(score, v, trace, variance_reduced=False) == pytest.approx([-3 + 0.5 * 1.5**2])
    assert losses.denoising(score) == pytest.approx([2.5])
    level = losses.stratified(np.array(0.9), 4, np.zeros(4))
    np.testing.assert_allclose(np.sort(level), [0.15, 0.4, 0.65, 0.9])


@BOTH
def test_what_is_refused(engine: Any) -> None:
    face = engine.face
    with pytest.raises(ValueError, match=r"sigma: got -1; expected a finite number > 0"):
        face.DenoisingScoreMatching(sigma=-1)
    with pytest.raises(ValueError, match=r"num_projections: got 0"):
        face.SlicedScoreMatching(num_projections=0)
    with pytest.raises(TypeError, match=r"num_projections: got 1.5; expected an integer"):
        losses.check_projections(1.5)
    with pytest.raises(ValueError, match=r"sigma: got None, and the law of site 'x' is a .*Pass sigma=0.1"):
        loss(engine, face.DenoisingScoreMatching(), LOC, COVARIANCE, X[:4])
    vae = engine.call(face.VAE.mlp, (3,), 2, "gaussian", hidden=(4,))
    with pytest.raises(ValueError, match=r"model: got the latents \['z'\]; expected observed sites alone"):
        engine.call("fit", vae, X[:8], objective=face.ExactScoreMatching(), steps=1, progress=False)
