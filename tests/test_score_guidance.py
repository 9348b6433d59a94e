"""Scores beside other knowledge: contexts, classifiers, and observations in a user's own program, in closed form."""

from typing import Any

import equinox as eqx
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
from registry import ORACLES, oracle_program

import deepgen.inference.langevin.continuous.numpyro
import deepgen.inference.langevin.continuous.pyro

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.family == "score")


def shifted(x: Any, rho: Any, context: Any) -> Any:
    """The scaled score of N(context, 1) noised where the context is shown, of N(0, 1) noised where it is not."""
    level = rho[:, None]
    return -level * (x - context[:, :1]) / (1 + level**2)


class JaxShifted(eqx.Module):
    def __call__(self, x: Any, rho: Any, context: Any) -> Any:
        return shifted(x, rho, context)


class TorchShifted(torch.nn.Module):
    def forward(self, x: Any, rho: Any, context: Any) -> Any:
        return shifted(x, rho, context)


def conditional(engine: Any, **options: Any) -> Any:
    network = {"numpyro": JaxShifted, "pyro": TorchShifted}[engine.name]()
    return engine.face.ScoreModel(network, (1,), "vp", context_dim=1, **options)


def score(draws: np.ndarray, mean: float, variance: float) -> float:
    """Mean and variance of normal draws, the worse of both as a share of its limit; a solver may cost a hundredth."""
    n = draws.size
    first = max(abs(draws.mean() - mean) - 0.01, 0) / np.sqrt(variance / n)
    second = max(abs(draws.var() / variance - 1) - 0.02, 0) / np.sqrt(2 / n)
    return float(max(first, second) / limit(2))


@BOTH
def test_contexts_are_told_and_guidance_goes_beyond_them(engine: Any) -> None:
    """(1 + w) s(x | c) - w s(x) is here the score of N((1 + w) c, 1)."""
    context = np.full((4000, 1), 0.7, np.float32)
    plain = np.asarray(engine.call("sample", conditional(engine), 4000, y=context))
    guided = np.asarray(engine.call("sample", conditional(engine, guidance=1.5), 4000, y=context))
    free = np.asarray(engine.call("sample", conditional(engine), 4000))
    for draws, mean in ((plain, 0.7), (guided, 2.5 * 0.7), (free, 0.0)):
        assert score(draws, mean, 1.0) < 1
        assert score(draws, mean + 0.35, 1.0) > 1
    x = np.array([[0.3], [-1.0]], np.float32)
    found = engine.call("log_prob", conditional(engine), x, y=np.float32([[0.7], [-0.2]]))
    truth = -0.5 * (x[:, 0] - [0.7, -0.2]) ** 2 - 0.5 * np.log(2 * np.pi)
    # the prior at t = 1 has the mean 0, and the law noised there 0.0066 c
    np.testing.assert_allclose(found.value, truth, atol=0.02)


@BOTH
def test_a_context_completes_rows(engine: Any) -> None:
    program = conditional(engine)
    rows = np.full((2, 1), np.nan, np.float32)
    context = np.float32([[2.0], [-2.0]])
    post = engine.call("impute", program, rows, y=context, num_samples=200, num_chains=2, num_steps=60)
    draws = post.posterior["x"].values.reshape(-1, 2)
    np.testing.assert_allclose(draws.mean(0), [2.0, -2.0], atol=0.3)


@BOTH
def test_a_classifier_guides_to_the_posterior(engine: Any) -> None:
    """x ~ N(0, 1) and y = x + N(0, 1/4): given data plus noise, y is normal as well, so the sum of scores is exact."""
    y, variance = 1.2, 0.25

    def log_likelihood(x: Any, rho: Any) -> Any:
        shrunk = 1 / (1 + rho**2)
        return -0.5 * (y - x[:, 0] * shrunk) ** 2 / (variance + rho**2 * shrunk)

    mean, left = y / (1 + variance), variance / (1 + variance)
    plain = conditional(engine)
    draws = np.asarray(engine.call("sample", plain.guided(log_likelihood), 4000))
    assert score(draws, mean, left) < 1
    assert score(np.asarray(engine.call("sample", plain.guided(log_likelihood, 0.5), 4000)), mean, left) > 1


A, NOISE, Y = np.float32([[1.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, -0.5]]), 0.8, np.float32([0.7, -0.4])


def posterior() -> tuple[np.ndarray, np.ndarray]:
    mean, covariance = (part[0] for part in ORACLE.conditional(np.full((1, 4), np.nan)))
    gain = covariance @ A.T @ np.linalg.inv(A @ covariance @ A.T + NOISE**2 * np.eye(2))
    return mean + gain @ (Y - A @ mean), covariance - gain @ A @ covariance


@BOTH
def test_a_trained_score_is_the_prior_of_an_inverse_problem(engine: Any) -> None:
    """y = A x + noise in a plain model, by an unadjusted Langevin kernel that looks at the score alone."""
    law = oracle_program(ORACLE, engine).distribution(gradient="score alone")
    if engine is NUMPYRO:

        def numpyro_model(y: Any) -> None:
            x = numpyro.sample("x", law)
            numpyro.sample("y", numpyro.distributions.Normal(jnp.asarray(A) @ x, NOISE).to_event(1), obs=y)

        kernel = deepgen.inference.langevin.continuous.numpyro.ULA(numpyro_model, step_size=0.4)
        mcmc = numpyro.infer.MCMC(
            kernel, num_warmup=100, num_samples=200, num_chains=40, chain_method="vectorized", progress_bar=False
        )
        mcmc.run(jax.random.key(0), jnp.asarray(Y))
        draws = np.asarray(mcmc.get_samples(group_by_chain=True)["x"])
    else:

        def pyro_model(y: Any) -> None:
            with pyro.plate("chains", 40):
                x = pyro.sample("x", law)
                mean = x @ torch.as_tensor(A).T
                pyro.sample("y", pyro.distributions.Normal(mean, NOISE).to_event(1), obs=y.expand(40, 2))

        pyro.set_rng_seed(0)
        kernel = deepgen.inference.langevin.continuous.pyro.ULA(pyro_model, step_size=0.4)
        mcmc = pyro.infer.MCMC(kernel, warmup_steps=100, num_samples=200, disable_progbar=True)
        mcmc.run(torch.as_tensor(Y))
        draws = mcmc.get_samples()["x"].numpy().swapaxes(0, 1)
    mean, covariance = posterior()
    flat = draws.reshape(-1, 4).astype(float)
    # means of 40 independent chains
    error = draws.mean(1).std(0, ddof=1) / np.sqrt(len(draws))
    assert (np.abs(flat.mean(0) - mean) / error < limit(4, 39)).all()
    # its stationary covariance is (P - e P P / 4)^-1 with P the precision and e the square of the step
    precision = np.linalg.inv(covariance)
    wider = np.diag(np.linalg.inv(precision - 0.4**2 / 4 * precision @ precision))
    assert (np.abs(flat.var(0) / wider - 1) < 0.35).all()
    prior = ORACLE.conditional(np.full((1, 4), np.nan))[0][0]
    assert (np.abs(flat.mean(0) - prior) / error > limit(4, 39)).any(), "the prior alone would pass"


@BOTH
def test_the_gradient_of_a_density_is_the_score_that_is_asked_for(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    x = ORACLE.draw(np.random.default_rng(0), 3)

    def slope(gradient: str) -> tuple[np.ndarray, np.ndarray]:
        law = program.distribution(gradient=gradient)
        if engine is NUMPYRO:
            value, back = jax.jit(lambda x: jax.vjp(law.log_prob, x))(jnp.asarray(x))
            return np.asarray(value), np.asarray(back(jnp.ones(len(x)))[0])
        at = torch.as_tensor(x).requires_grad_()
        value = law.log_prob(at)
        return value.detach().numpy(), torch.autograd.grad(value.sum(), at)[0].numpy()

    truth = ORACLE.log_prob(x)
    through, by_score, alone = (slope(gradient) for gradient in ("flow", "score", "score alone"))
    np.testing.assert_allclose(through[0], truth, atol=1e-3)
    np.testing.assert_allclose(by_score[0], truth, atol=1e-3)
    assert np.isnan(alone[0]).all()
    np.testing.assert_allclose(by_score[1], alone[1], rtol=1e-5)
    np.testing.assert_allclose(through[1], by_score[1], atol=0.03)
    with pytest.raises(ValueError, match=r"gradient: got 'none'; expected one of \['flow', 'score', 'score alone'\]"):
        program.distribution(gradient="none")
