"""A trained flow and a trained energy as the prior of an inverse problem in a user's own program, against quadrature.

y = A x + noise with x in the plane: the posterior under what the prior has *learned* is summed over a grid, and chains
on the plain model are compared with its mean, its covariance and the probability of a mode within Monte Carlo error,
by the effective number of draws.
"""

from functools import cache
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions
import pyro
import pyro.distributions
import pytest
import torch
from engines import ENGINES, NUMPYRO
from montecarlo import limit
from scipy.special import logsumexp
from test_planar_energies import CHAINS, LAWS, LEAST, ROWS, learned

pytestmark = pytest.mark.slow
BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
LAW = LAWS["two_moons"]
A, NOISE, Y = np.float32([[0.8, 0.9], [-0.3, 0.5]]), 0.6, np.float32([0.3, 0.1])


def untrained(engine: Any) -> tuple[Any, np.ndarray]:
    x = LAW.draw(np.random.default_rng(0), ROWS)
    return engine.call(engine.face.Flow.realnvp, (2,), num_transforms=6, hidden=(32, 32), data=x), x


@cache
def trained() -> dict[str, np.ndarray]:
    """The parameters of a flow, which both engines take."""
    program, x = untrained(NUMPYRO)
    options = {"batch_size": 256, "learning_rate": 3e-3, "ema": 0.99, "progress": False}
    return NUMPYRO.tensors(NUMPYRO.call("fit", program, x, steps=1500, **options).program)


def prior_of(engine: Any, family: str) -> Any:
    """The distribution of a trained program."""
    if family == "ebm":
        return learned(engine, "two_moons").program.distribution()
    return engine.with_tensors(untrained(engine)[0], trained()).distribution()


def starts(engine: Any) -> Any:
    """Rows of data, (chains, 2): far from all data a flow of few couplings is too steep to come back from soon."""
    return engine.array(LAW.draw(np.random.default_rng(3), CHAINS))


def log_density(engine: Any, law: Any, x: np.ndarray) -> np.ndarray:
    value = law.log_prob(engine.array(x))
    return np.asarray(value if engine is NUMPYRO else value.detach()).astype(float)


def moments(x: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """What means are taken of, (..., 6): x, its squares and product around a centre, and whether it is in one moon."""
    away, moon = x - centre, LAW.mode(x.reshape(-1, 2)).reshape(*x.shape[:-1], 1)
    return np.concatenate([x, away**2, away[..., :1] * away[..., 1:], moon], axis=-1)


def posterior(prior: np.ndarray, points: np.ndarray, matrix: np.ndarray, noise: float) -> np.ndarray:
    """Posterior mean, variances, covariance and probability of one moon, of a prior's log density on the grid."""
    joint = prior - 0.5 * ((Y - points @ matrix.T) ** 2).sum(-1) / noise**2
    mass = np.exp(joint - logsumexp(joint))
    return mass @ moments(points.astype(float), mass @ points)


def apart(draws: np.ndarray, truth: np.ndarray) -> float:
    """How far draws (chain, draw, 2) are from a posterior, in Monte Carlo errors; the worst as a share of its limit.

    Infinity where a moment has fewer than ``LEAST`` effective draws.
    """
    values = moments(draws.astype(float), truth[:2])
    ess = np.array([float(az.ess(values[..., k])) for k in range(6)])
    if not (ess > LEAST).all():
        return float("inf")
    error = values.std((0, 1)) / np.sqrt(ess)
    return float((np.abs(values.mean((0, 1)) - truth) / error).max() / limit(6))


def nuts(prior: Any) -> np.ndarray:
    """NumPyro's own NUTS on a plain model."""

    def model(y: Any) -> None:
        x = numpyro.sample("x", prior)
        numpyro.sample("y", numpyro.distributions.Normal(jnp.asarray(A) @ x, NOISE).to_event(1), obs=y)

    mcmc = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model),
        num_warmup=300,
        num_samples=1000,
        num_chains=8,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), jnp.asarray(Y), init_params={"x": starts(NUMPYRO)[:8]})
    return np.asarray(mcmc.get_samples(group_by_chain=True)["x"])


def mala(engine: Any, prior: Any) -> np.ndarray:
    """`run_chains` on a plain model of either engine."""

    def numpyro_model(y: Any) -> None:
        x = numpyro.sample("x", prior)
        numpyro.sample("y", numpyro.distributions.Normal(jnp.asarray(A) @ x, NOISE).to_event(1), obs=y)

    def pyro_model(y: Any) -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", pyro.distributions.Normal(torch.as_tensor(A) @ x, NOISE).to_event(1), obs=y)

    kernel = engine.face.MALA(numpyro_model if engine is NUMPYRO else pyro_model)
    settings = {"num_warmup": 300, "num_samples": 400, "thinning": 5, "num_chains": CHAINS, "progress": False}
    post = engine.call("run_chains", kernel, engine.array(Y), init_params={"x": starts(engine)}, **settings)
    return post.posterior["x"].values


@pytest.mark.parametrize("family", ["flow", "ebm"])
@BOTH
def test_a_trained_density_is_the_prior_of_an_inverse_problem(engine: Any, family: str) -> None:
    law, (points, area) = prior_of(engine, family), LAW.grid(200)
    prior, rows = log_density(engine, law, points), LAW.draw(np.random.default_rng(5), 2000)
    gap = LAW.log_prob(rows) - log_density(engine, law, rows) + logsumexp(prior) + np.log(area)
    assert gap.mean() < 0.3, "a prior that has learned the moons"
    truth = posterior(prior, points, A, NOISE)
    assert 0.2 < truth[5] < 0.8, "both modes matter"

    draws = nuts(law) if engine is NUMPYRO and family == "flow" else mala(engine, law)
    assert apart(draws, truth) < 1
    wrong = {
        "noise halved": posterior(prior, points, A, NOISE / 2),
        "A transposed": posterior(prior, points, A.T, NOISE),
        "the data left out": posterior(prior, points, 0 * A, NOISE),
        "the prior left out": posterior(0 * prior, points, A, NOISE),
    }
    assert {name: apart(draws, moments) > 1 for name, moments in wrong.items()} == dict.fromkeys(wrong, True)
