"""`fit` of data with holes: the bound of the observed entries against the exact likelihood, and what it learns."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from engines import NUMPYRO as JAX_SIDE
from engines import PYRO as TORCH_SIDE
from fitting import FITTINGS, ROWS, Fitting
from objectives import NUMPYRO, PYRO, Engine
from oracles import ORACLES
from registry import oracle_program
from scipy import stats
from test_fit_engines import Compilations
from weighted import ENGINES, ROOM

from deepgen.inference.svi import rows
from deepgen.inference.svi.numpyro.observed import ObservedModel as NumPyroObserved
from deepgen.inference.svi.pyro.observed import ObservedModel as PyroObserved

engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)
fittings = pytest.mark.parametrize("fitting", FITTINGS, ids=repr)
SIDE = {NUMPYRO: JAX_SIDE, PYRO: TORCH_SIDE}
OBSERVED: dict[Engine, Callable[..., Any]] = {NUMPYRO: NumPyroObserved, PYRO: PyroObserved}
ORACLE = {oracle.name: oracle for oracle in ORACLES}
HOLES = np.where(np.random.default_rng(6).random(ROWS.shape) < 0.3, np.nan, ROWS).astype(np.float32)
HOLES[np.isnan(HOLES).all(1), 0] = 0.0


@engines
@pytest.mark.parametrize("name", ["ppca", "categorical"])
def test_miwae_bound_is_below_and_near_the_likelihood_of_what_is_observed(engine: Engine, name: str) -> None:
    oracle = ORACLE[name]
    x = oracle.hide(oracle.draw(np.random.default_rng(0), 30), np.random.default_rng(1))
    program = oracle_program(oracle, SIDE[engine])
    model, exact = OBSERVED[engine](program.model), oracle.log_prob(x).mean()
    count = 60
    one, many = (
        -engine.losses(ROOM[engine].IWAE(k), model, program.guide, SIDE[engine].array(x), count=count) / len(x)
        for k in (1, 64)
    )
    # 6 standard errors: by chance once in a billion
    error = many.std(ddof=1) / np.sqrt(count)
    assert exact - 0.02 < many.mean() < exact + 6 * error
    assert one.mean() < many.mean() - 6 * one.std(ddof=1) / np.sqrt(count)
    # Holes filled with numbers, and taken for observed, are another likelihood.
    filled = np.where(oracle.is_missing(x), 0, x).astype(x.dtype)
    wrong = -engine.losses(ROOM[engine].IWAE(64), model, program.guide, SIDE[engine].array(filled))[0] / len(x)
    assert wrong < exact - 0.2


def linear(fitting: Fitting, size: int) -> Any:
    side = SIDE[fitting.engine]
    return side.call(side.face.VAE.mlp, (size,), 1, "gaussian", hidden=(), seed=3)


def log_likelihood(fitting: Fitting, program: Any, x: np.ndarray) -> float:
    """The exact mean log p(x) of a linear decoder with one normal noise."""
    weights = fitting.weights(program)
    w = weights["decoder.layers.0.weight"].astype(float)
    x_draws = SIDE[fitting.engine].predictive(program, 2000, 1, {"z": np.zeros((1, 1), np.float32)})["x"][:, 0]
    variance = x_draws.var(0, ddof=1).mean()
    law = stats.multivariate_normal(weights["decoder.layers.0.bias"], w @ w.T + variance * np.eye(len(w)))
    return float(law.logpdf(x).mean())


@fittings
@pytest.mark.parametrize("name", ["ELBO", "IWAE", "DReG"])
def test_fit_to_holes_learns_the_law_that_filling_in_means_hides(fitting: Fitting, name: str) -> None:
    rng = np.random.default_rng(8)
    w = np.array([1.0, -1.0, 0.8, 1.2])
    whole = (rng.standard_normal((900, 1)) * w + 0.4 * rng.standard_normal((900, 4))).astype(np.float32)
    test, train = whole[:300], whole[300:].copy()
    train[rng.random(train.shape) < 0.5] = np.nan
    train = train[~np.isnan(train).all(1)]
    truth = stats.multivariate_normal(np.zeros(4), np.outer(w, w) + 0.16 * np.eye(4)).logpdf(test).mean()
    options: dict[str, Any] = {"steps": 300, "batch_size": 100, "learning_rate": 0.03, "ema": 0.97}
    objective = {"ELBO": {}, "IWAE": {"num_particles": 8}, "DReG": {"num_particles": 8}}[name]
    objective = getattr(fitting.room, name)(**objective)

    def learnt(data: np.ndarray) -> float:
        found = fitting.fit(linear(fitting, 4), data, objective=objective, **options)
        assert found.stopped == "steps"
        return truth - log_likelihood(fitting, found.program, test)

    # Nats a row that the fitted law is worse than the true one; the fit has 9 parameters and some 1200 numbers.
    # A linear encoder that is shown a mean in place of a hole is far from the posterior: the ELBO is loose.
    assert learnt(train) < (0.6 if name == "ELBO" else 0.1)
    if name == "IWAE":
        assert learnt(np.where(np.isnan(train), 0.0, train).astype(np.float32)) > 0.7


@fittings
def test_complete_data_are_fitted_as_ever(fitting: Fitting, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any) -> Any:
        pytest.fail("complete data were wrapped")

    for module in ("fit", "trainer"):
        found = importlib.import_module(f"deepgen.inference.svi.{fitting.engine.name}.{module}")
        if hasattr(found, "ObservedModel"):
            monkeypatch.setattr(found, "ObservedModel", refuse)
    assert np.isfinite(fitting.fit(fitting.vae(), ROWS, steps=2, validation=ROWS[:5]).losses).all()
    with pytest.raises(pytest.fail.Exception, match="were wrapped"):
        fitting.fit(fitting.vae(), HOLES, steps=2)
    with pytest.raises(pytest.fail.Exception, match="were wrapped"):
        fitting.fit(fitting.vae(), ROWS, steps=2, validation=HOLES)


@fittings
def test_losses_are_nats_of_a_row(fitting: Fitting) -> None:
    engine, program = fitting.engine, fitting.vae()
    model = OBSERVED[engine](program.model)
    direct = engine.losses(engine.ELBO(), model, program.guide, engine.array(HOLES), count=60) / len(HOLES)
    found = fitting.fit(program, HOLES, steps=1, batch_size=None, validation=HOLES)
    # a draw is further than 6 standard deviations from its mean once in a billion
    assert abs(found.losses[0] - direct.mean()) < 6 * direct.std(ddof=1)
    assert abs(found.validation_losses[0] - direct.mean()) < 0.05 + 6 * direct.std(ddof=1)
    masked = np.ma.masked_array(np.where(np.isnan(HOLES), 7.0, HOLES), np.isnan(HOLES))
    same = fitting.fit(program, masked, steps=1, batch_size=None, validation=HOLES)
    np.testing.assert_array_equal(found.losses, same.losses)


@fittings
def test_holes_in_part_of_the_data(fitting: Fitting) -> None:
    for data, validation in ((ROWS, HOLES[:40]), (HOLES, 0.2)):
        found = fitting.fit(fitting.vae(), data, steps=3, validation=validation, objective=fitting.room.IWAE(2))
        assert np.isfinite([*found.losses, *found.validation_losses]).all()


@fittings
@pytest.mark.filterwarnings("ignore:the posterior has collapsed")
def test_integers_with_holes(fitting: Fitting) -> None:
    side = SIDE[fitting.engine]
    x = np.random.default_rng(0).integers(0, 3, (60, 4))
    x[np.random.default_rng(1).random(x.shape) < 0.3] = -1
    x[(x < 0).all(1), 0] = 0
    program = side.call(side.face.VAE.mlp, (4,), 2, "categorical", hidden=(8,), num_classes=3)
    found = fitting.fit(program, x, steps=5, objective=fitting.room.IWAE(3))
    assert np.isfinite(found.losses).all()
    as_floats = np.where(x < 0, np.nan, x)
    np.testing.assert_array_equal(
        found.losses, fitting.fit(program, as_floats, steps=5, objective=fitting.room.IWAE(3)).losses
    )


def test_second_fit_of_holes_compiles_nothing() -> None:
    numpyro_fitting = FITTINGS[0]
    program, options = numpyro_fitting.vae(), {"steps": 6, "batch_size": 50, "chunk": 3}
    numpyro_fitting.fit(program, HOLES, objective=numpyro_fitting.room.DReG(3), **options)
    with Compilations() as second:
        numpyro_fitting.fit(program, HOLES + 1, objective=numpyro_fitting.room.DReG(3), **options)
    assert second.count == 0


@fittings
def test_objective_is_part_of_a_checkpoint(fitting: Fitting, tmp_path: Any) -> None:
    path = tmp_path / "fit.safetensors"

    def run(steps: int, where: Any, objective: Any) -> Any:
        return fitting.fit(fitting.vae(), HOLES, steps=steps, batch_size=40, objective=objective, checkpoint=where)

    run(4, path, fitting.room.IWAE(3))
    with pytest.raises(ValueError, match=r"objective: 'IWAE\(num_particles=3.* there, 'DReG\(num_particles=3.* here"):
        run(8, path, fitting.room.DReG(3))
    resumed, whole = run(8, path, fitting.room.IWAE(3)), run(8, tmp_path / "whole", fitting.room.IWAE(3))
    np.testing.assert_array_equal(resumed.losses, whole.losses)


class Joint:
    """A program whose law of x is no product over its elements."""

    likelihood = "exact"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def model(self, x: Any) -> None:
        law = self.engine.dist.MultivariateNormal(self.engine.array(np.zeros(6)), self.engine.array(np.eye(6)))
        with self.engine.plate("data", len(x)):
            self.engine.sample("x", law, obs=x)


@engines
def test_joint_laws_are_refused(engine: Engine) -> None:
    model = OBSERVED[engine](Joint(engine).model)
    with pytest.raises(
        ValueError, match=r"site 'x' of data with holes: got a joint law, .*; expected a law whose elements"
    ):
        engine.losses(engine.ELBO(), model, lambda x: None, engine.array(HOLES))


@engines
def test_bounded_laws_are_filled_with_interior_points(engine: Engine) -> None:
    rate = np.array([0.5, 1.0, 2.0])

    def model(x: Any) -> None:
        r = engine.param("r", engine.array(rate))
        with engine.plate("data", len(x)):
            engine.sample("x", engine.dist.Gamma(engine.array(0.5), r).to_event(1), obs=x)

    x = np.array([[0.5, np.nan, 1.0], [np.nan, 2.0, np.nan]])
    observed = OBSERVED[engine](model)
    loss = engine.losses(engine.ELBO(), observed, lambda x: None, engine.array(x))[0]
    assert loss == pytest.approx(-np.nansum(stats.gamma(0.5, scale=1 / rate).logpdf(x)), rel=1e-5)
    gradient = engine.gradient(engine.ELBO(), observed, lambda x: None, engine.array(x))["r"]
    expected = -np.nansum(0.5 / rate - x, axis=0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_holes_are_seen_in_either_kind_of_array() -> None:
    assert not rows.have_holes(rows.as_call(ROWS), None)
    assert rows.have_holes(rows.as_call(ROWS), rows.as_call(HOLES))
    assert rows.have_holes(rows.as_call(np.array([[0, -1]])))
    assert not rows.have_holes(rows.as_call(np.array([[0, 1]])))


def test_pyro_holes_on_the_particles_plate() -> None:
    program = FITTINGS[1].vae()
    x = torch.as_tensor(HOLES)
    pyro.set_rng_seed(0)
    objectives = [ROOM[PYRO].IWAE(10, vectorize_particles=vectorize) for vectorize in (True, False)]
    model = PyroObserved(program.model)
    at_once, one_by_one = ([objective.loss(model, program.guide, x) for _ in range(60)] for objective in objectives)
    assert stats.ttest_ind(at_once, one_by_one).pvalue > 1e-6
