"""Laws with a score and no value: kernels with an acceptance test refuse them, the others follow them."""

from typing import Any

import jax
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO
from registry import ORACLES, oracle_program

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.family == "score")


def prior(engine: Any, gradient: str, *, wrapped: bool = False) -> Any:
    """A model of one site, whose law may stand inside of another."""
    pp = numpyro if engine is NUMPYRO else pyro
    law = oracle_program(ORACLE, engine).distribution(gradient=gradient)

    def model() -> None:
        pp.sample("x", law.expand((1,)).to_event(1).mask(engine.array(True)) if wrapped else law)

    return model


def chains(engine: Any, kernel: Any, **settings: Any) -> Any:
    pyro.set_rng_seed(0)
    return engine.call("run_chains", kernel, progress=False, **settings)


@BOTH
@pytest.mark.parametrize("name", ["MALA", "MetropolisedUnderdampedLangevin"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_kernels_with_an_acceptance_test_refuse_a_score_alone(engine: Any, name: str, wrapped: bool) -> None:
    kernel = getattr(engine.face, name)(prior(engine, "score alone", wrapped=wrapped))
    with pytest.raises(ValueError, match="site 'x': got a law with a score alone for a kernel with an acceptance test"):
        chains(engine, kernel, num_warmup=2, num_samples=2, num_chains=2)


def test_nuts_of_the_engine_finds_no_start() -> None:
    nuts = numpyro.infer.NUTS(prior(NUMPYRO, "score alone"))
    mcmc = numpyro.infer.MCMC(nuts, num_warmup=2, num_samples=2, progress_bar=False)
    with pytest.raises(RuntimeError, match="Cannot find valid initial parameters"):
        mcmc.run(jax.random.key(0))


@BOTH
@pytest.mark.parametrize("wrapped", [False, True])
def test_unadjusted_kernels_follow_a_score_alone(engine: Any, wrapped: bool) -> None:
    kernel = engine.face.ULA(prior(engine, "score alone", wrapped=wrapped), step_size=0.5)
    post = chains(engine, kernel, num_warmup=30, num_samples=40, num_chains=20)
    assert post.attrs["law"] == "approximate"
    x = post.posterior["x"].values.reshape(20, 40, 4).astype(float)
    mean = ORACLE.conditional(np.full((1, 4), np.nan))[0][0]
    error = x.mean(1).std(0, ddof=1) / np.sqrt(20)
    assert (np.abs(x.mean((0, 1)) - mean) < 6 * error).all()
    assert (np.abs(x.mean((0, 1)) + mean) > 6 * error).any(), "a wrong sign of the score would be seen"


@BOTH
def test_the_value_is_nan_and_the_derivative_the_score(engine: Any) -> None:
    law = oracle_program(ORACLE, engine).distribution(gradient="score alone")
    x = engine.array(ORACLE.draw(np.random.default_rng(0), 3))
    with torch.no_grad():
        score = np.asarray(law.score(x))
    for which, value in ((law, np.nan), (law.slope(), 0.0), (law.slope().expand((3,)), 0.0)):
        if engine is NUMPYRO:
            found, slope = which.log_prob(x), jax.grad(lambda x, law=which: law.log_prob(x).sum())(x)
        else:
            leaf = x.clone().requires_grad_()
            found = which.log_prob(leaf)
            (slope,) = torch.autograd.grad(found.sum(), leaf)
            found = found.detach()
        np.testing.assert_array_equal(np.asarray(found), np.full(3, value))
        np.testing.assert_allclose(np.asarray(slope), score, rtol=1e-5)
