"""Objectives in the engines' plain SVI: a schedule's steps, and data with holes."""

import pickle
from typing import Any

import jax
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from pyro import distributions as dist
from registry import ORACLES, oracle_program, twin

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
VAE = next(oracle for oracle in ORACLES if repr(oracle) == "vae-conjugate")
X = VAE.draw(np.random.default_rng(3), 6)
HOLES = np.where(np.arange(6)[:, None] % 4 == np.arange(4), np.nan, X).astype(np.float32)


def model(x: torch.Tensor) -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0), obs=x)


class Guide(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loc = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> None:
        pyro.module("guide", self)
        pyro.sample("z", dist.Normal(self.loc, 1.0))


def svi_of(guide: Guide, objective: Any) -> Any:
    pyro.clear_param_store()
    return pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.0}), loss=objective)


def test_each_set_of_parameters_counts_its_own_steps() -> None:
    """KL = 2 of the guide's start: the loss less its reconstruction is 2 beta."""
    objective, x = PYRO.face.ELBO(beta=PYRO.face.Linear(3)), torch.tensor(0.0)

    def betas(svi: Any, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            pyro.set_rng_seed(0)
            loss = svi.step(x)
            pyro.set_rng_seed(0)
            with torch.no_grad():
                plain = PYRO.face.ELBO(beta=0.0).loss(svi.model, svi.guide, x)
            found.append((loss - plain) / 2)
        return found

    first, second = Guide(), Guide()
    assert betas(svi_of(first, objective), 4) == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-5)
    assert objective.step == 4
    other = svi_of(second, objective)
    assert betas(other, 2) == pytest.approx([0, 1 / 3], abs=1e-5)
    other.evaluate_loss(x)
    assert objective.step == 2
    assert betas(svi_of(first, objective), 1) == pytest.approx([1], abs=1e-5)
    assert betas(svi_of(second, objective), 1) == pytest.approx([2 / 3], abs=1e-5)
    assert pickle.loads(pickle.dumps(objective)).step == 0


def losses(engine: Any, program: Any, x: np.ndarray) -> float:
    """The first loss of the MIWAE bound in the engine's own SVI."""
    observed, objective = engine.face.ObservedModel(program.model), engine.face.IWAE(num_particles=4)
    if engine is NUMPYRO:
        svi = numpyro.infer.SVI(observed, program.guide, numpyro.optim.Adam(1e-9), objective)
        return float(svi.run(jax.random.key(0), 2, engine.array(x), progress_bar=False).losses[0])
    with pyro.get_param_store().scope():
        svi = pyro.infer.SVI(observed, program.guide, pyro.optim.Adam({"lr": 1e-9}), objective)
        return float(svi.step(engine.array(x)))


@BOTH
def test_holes_in_a_plain_svi(engine: Any) -> None:
    """The guide is exact, so that the loss is -log p(x_observed) without noise; that of another decoder is not."""
    exact = -VAE.log_prob(HOLES).sum()
    assert losses(engine, oracle_program(VAE, engine), HOLES) == pytest.approx(exact, abs=2e-3)
    assert losses(engine, oracle_program(VAE, engine), X) == pytest.approx(-VAE.log_prob(X).sum(), abs=2e-3)
    assert abs(losses(engine, twin(VAE, engine, decoder=1.2), HOLES) - exact) > 0.1


@BOTH
def test_missing_says_what_takes_the_data(engine: Any) -> None:
    program = oracle_program(VAE, engine)
    handled = engine.face.missing(program.model, data={"x": HOLES}, latent=False)
    run = numpyro.handlers.seed(handled, 0) if engine is NUMPYRO else handled
    with pytest.raises(ValueError, match=r"already has a value .* is wrapped by ObservedModel instead"):
        run(engine.array(HOLES))
