"""Completions of score models that a density corrects: asymptotically exact where the annealed ones are not."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import worst_moment
from registry import INSTANCES, ORACLES, oracle_program, randomised, twin
from scipy import stats
from score_laws import FACTOR, LOC

from deepgen.inference.hmc import hamiltonian

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.family == "score")
MLP = next(instance for instance in INSTANCES if instance.family == "score" and instance.name == "vp-mlp")
CONTEXT = next(instance for instance in INSTANCES if instance.family == "score" and instance.name == "subvp-context")
RUN = {"num_chains": 10, "num_warmup": 160, "num_samples": 240, "num_steps": 20}
MEAN = np.array([0.5, -0.5, 1.0, 0.0])
COVARIANCE = np.array([[1.0, 0.8, 0.3, 0.0], [0.8, 1.0, 0.4, 0.2], [0.3, 0.4, 0.8, 0.5], [0.0, 0.2, 0.5, 1.2]])
ROWS = np.float32([[1.5, np.nan, np.nan, 0.3], [np.nan, 0.2, np.nan, -1.0], [np.nan, np.nan, np.nan, np.nan]])


def normal(engine: Any, temperature: float = 1.0) -> Any:
    """The log density of N(MEAN, COVARIANCE) to a power, as a function of rows in the engine."""
    precision = engine.array(np.float32(temperature * np.linalg.inv(COVARIANCE)))
    centre = engine.array(np.float32(MEAN))
    return lambda x: -0.5 * (((x - centre) @ precision) * (x - centre)).sum(-1)


def conditionals() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of N(MEAN, COVARIANCE) given what is observed of each row, zero where observed."""
    mean, covariance = np.where(np.isnan(ROWS), MEAN, ROWS).astype(float), np.zeros((len(ROWS), 4, 4))
    for row, hidden in enumerate(np.isnan(ROWS)):
        seen = ~hidden
        gain = COVARIANCE[np.ix_(hidden, seen)] @ np.linalg.inv(COVARIANCE[np.ix_(seen, seen)])
        mean[row, hidden] = MEAN[hidden] + gain @ (ROWS[row, seen] - MEAN[seen])
        covariance[row][np.ix_(hidden, hidden)] = (
            COVARIANCE[np.ix_(hidden, hidden)] - gain @ COVARIANCE[np.ix_(seen, hidden)]
        )
    return mean, covariance


@BOTH
def test_the_density_decides_whatever_the_scores(engine: Any) -> None:
    """Scores of another normal lead there; the draws are of the density that was given."""
    program = oracle_program(ORACLE, engine).with_density(normal(engine))
    post = engine.call("impute", program, ROWS, method="annealed-mala", seed=1, **RUN)
    draws = post.posterior["x"].values.astype(float)
    assert worst_moment(draws, *conditionals()) < 1
    attrs, accepted = post.attrs, post.sample_stats["acceptance_rate"].values
    assert (attrs["judge"], attrs["law"]) == ("energy", "asymptotically exact")
    assert ((accepted > 0.3) & (accepted < 1)).all()
    seen = ~np.isnan(ROWS)
    assert (post.posterior["x"].values[:, :, seen] == ROWS[seen]).all()

    tempered = oracle_program(ORACLE, engine).with_density(normal(engine, 0.7))
    wrong = engine.call("impute", tempered, ROWS, method="annealed-mala", seed=1, **RUN)
    assert worst_moment(wrong.posterior["x"].values.astype(float), *conditionals()) > 1
    annealed = engine.call("impute", program, ROWS, method="annealed-langevin", num_samples=240, num_chains=10)
    assert annealed.attrs["law"] == "approximate"
    assert worst_moment(annealed.posterior["x"].values.astype(float), *conditionals()) > 1


@pytest.mark.filterwarnings("ignore:the chains of:UserWarning")
def test_steps_without_the_test_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same chains with every proposal taken that does not diverge, at the step size that the test would choose."""
    finish = hamiltonian.metropolis

    def always(uniform: Any, start: Any, p_start: Any, end: Any, *args: Any) -> Any:
        _, info = finish(uniform, start, p_start, end, *args)
        return hamiltonian.select(~info.diverging, end, start), info

    monkeypatch.setattr(hamiltonian, "metropolis", always)
    program = oracle_program(ORACLE, PYRO).with_density(normal(PYRO))
    post = PYRO.call("impute", program, ROWS, method="annealed-mala", seed=1, **RUN)
    assert worst_moment(post.posterior["x"].values.astype(float), *conditionals()) > 1


def plane(engine: Any) -> Any:
    """A score model of two entries with random weights."""
    config = {**MLP.config, "event_shape": [2], "network": {**MLP.config["network"], "event_shape": [2]}}
    return randomised(engine, "score", {**config, "tolerance": 1e-3}, seed=4)


def test_without_a_density_that_of_the_flow_judges() -> None:
    """Of a network with random weights, against quadrature of its own density along the missing entry."""
    program, observed = plane(NUMPYRO), 0.7
    axis = np.linspace(-9.0, 9.0, 241, dtype=np.float32)
    value = NUMPYRO.call("log_prob", program, np.stack([np.full_like(axis, observed), axis], -1)).value.astype(float)
    weight = np.exp(value - value.max())
    weight = weight / weight.sum()
    assert weight[[0, -1]].max() < 1e-4
    mean = weight @ axis
    variance = weight @ (axis - mean) ** 2
    few = {"num_chains": 40, "num_warmup": 100, "num_samples": 300, "num_steps": 10}
    holes = np.float32([[observed, np.nan]])
    post = NUMPYRO.call("impute", program, holes, method="annealed-mala", seed=2, **few)
    assert (post.attrs["judge"], post.attrs["law"]) == ("probability flow", "asymptotically exact")
    draws = post.posterior["x"].values.astype(float)

    def score(mean: float, variance: float) -> float:
        return worst_moment(draws, np.array([[observed, mean]]), np.array([[[0, 0], [0, variance]]]))

    assert score(mean, variance) < 1
    assert score(mean + 0.5 * np.sqrt(variance), variance) > 1
    assert score(mean, 2 * variance) > 1


@BOTH
def test_what_judges_is_said(engine: Any) -> None:
    few = {"num_chains": 2, "num_warmup": 2, "num_samples": 2, "num_steps": 3}
    holes = np.float32([[0.7, np.nan]])
    probed = plane(engine).with_options(num_probes=2)
    post = engine.call("impute", probed, holes, method="annealed-mala", **few)
    assert (post.attrs["judge"], post.attrs["law"]) == ("probability flow by probes", "approximate")
    assert plane(engine).judge == "probability flow"
    assert oracle_program(ORACLE, engine).judge == "energy"
    assert twin(ORACLE, engine, network=0.9).guided(lambda x, rho: 0 * rho).judge == "probability flow"


@BOTH
def test_a_density_beside_a_context(engine: Any) -> None:
    """It is of the data whatever the context, and guidance weighs it against itself."""
    program = randomised(engine, "score", CONTEXT.config, seed=1).with_options(guidance=0.5)
    program = program.with_density(lambda x: -(x * x).sum(-1))
    holes = np.float32([[0.1, np.nan, 0.3], [np.nan, 0.2, 0.5]])
    context = np.float32([[0.0, 1.0], [1.0, 0.0]])
    few = {"num_chains": 2, "num_warmup": 2, "num_samples": 3, "num_steps": 3}
    post = engine.call("impute", program, holes, y=context, method="annealed-mala", **few)
    x = post.posterior["x"].values
    np.testing.assert_allclose(post.sample_stats["lp"].values, -(x.astype(float) ** 2).sum(-1), rtol=1e-4)


@BOTH
def test_the_density_of_a_normal_score_is_the_closed_form_and_what_is_no_density_is_refused(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(0), 5)
    program = oracle_program(ORACLE, engine)
    value = program.log_density(engine.array(x))
    value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)
    factor = FACTOR.astype(float)
    # without the least noise, whose variance is 1e-4
    truth = stats.multivariate_normal(LOC, factor @ factor.T).logpdf(x)
    assert np.ptp(value - truth) < 5e-3
    assert np.ptp(1.02 * value - truth) > 5e-3
    wrong = program.with_density(lambda x: -(x * x))
    with pytest.raises(ValueError, match=r"log_prob: got a result of shape \(40, 4\) for 40 rows; expected one number"):
        engine.call("impute", wrong, ROWS[:1].repeat(4, 0), method="annealed-mala", **RUN)


def test_a_density_may_hold_arrays_of_a_program() -> None:
    """An energy-based program judges the completions that a score model begins."""
    ebm = next(oracle for oracle in ORACLES if oracle.family == "ebm" and oracle.name == "quadratic")
    energy = oracle_program(ebm, NUMPYRO)
    program = oracle_program(ORACLE, NUMPYRO).with_density(energy.distribution().log_prob)
    x = ebm.draw(np.random.default_rng(1), 3)
    holes = ebm.hide(x, np.random.default_rng(2))
    post = NUMPYRO.call("impute", program, holes, method="annealed-mala", seed=1, **RUN)
    assert worst_moment(post.posterior["x"].values.astype(float), *ebm.conditional(holes)) < 1
    assert jnp.ptp(program.log_density(x) - energy.distribution().log_prob(x)) == 0
