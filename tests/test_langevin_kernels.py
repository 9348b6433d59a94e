"""Langevin kernels on models and functions, in both engines: their laws, ArviZ, MCMC, and what they refuse."""

import arviz as az
import jax
import jax.numpy as jnp
import langevin_models as models
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from scipy import stats

from deepgen.inference.langevin import ladder

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def chains(engine, kernel, seed=0, **settings):
    pyro.set_rng_seed(seed)
    return engine.call("run_chains", kernel, seed=seed, progress=False, **settings)


def score(x, truth):
    """How many Monte Carlo standard errors the mean of (chain, draw) is off."""
    x = np.asarray(x, dtype=np.float64)
    return abs(x.mean() - truth) / float(az.mcse(x, method="mean"))


SETTINGS = {
    NUMPYRO: dict(num_warmup=600, num_samples=1000, num_chains=8),
    PYRO: dict(num_warmup=150, num_samples=150, num_chains=20),
}


@BOTH
@pytest.mark.parametrize("name", ["MALA", "MetropolisedUnderdampedLangevin"])
def test_eight_schools(engine, name):
    post = chains(engine, getattr(engine.face, name)(models.eight_schools(engine)), **SETTINGS[engine])
    truth = models.eight_schools_moments()
    assert score(post.posterior.mu, truth["mu"]) < 5
    assert score(np.log(post.posterior.tau), truth["log_tau"]) < 5
    assert score(post.posterior.mu, truth["mu"] + 1) > 5, "an error of a third of the spread is seen"
    assert float(az.rhat(post).mu) < 1.1
    assert float(az.ess(post, method="bulk").mu) > 100
    assert float(az.ess(post, method="tail").mu) > 100
    assert post.posterior.eta.shape[-1] == 8
    assert post.attrs["law"] == "asymptotically exact"
    assert post.attrs["kernel"] == name


def energy(engine, covariance):
    precision = engine.array(np.linalg.inv(covariance).astype(np.float32))
    return lambda z: 0.5 * z["x"] @ precision @ z["x"]


def spread(engine, num_chains, d, seed=0):
    return {"x": engine.array(np.random.default_rng(seed).normal(size=(num_chains, d)).astype(np.float32))}


@BOTH
@pytest.mark.parametrize("name", ["MALA", "MetropolisedUnderdampedLangevin"])
def test_a_correlated_gaussian(engine, name):
    covariance = np.array([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 25.0]])
    kernel = getattr(engine.face, name)(potential_fn=energy(engine, covariance), dense_mass=True)
    settings = dict(num_warmup=400, num_samples=400, num_chains=20)
    post = chains(engine, kernel, init_params=spread(engine, 20, 3), **settings)
    x = post.posterior.x.values.astype(float)
    for i in range(3):
        assert score(x[..., i], 0) < 5
        for j in range(i + 1):
            assert score(x[..., i] * x[..., j], covariance[i, j]) < 5
    assert float(az.rhat(post).x.max()) < 1.05
    assert float(az.ess(post).x.min()) > 400


def two_modes(z):
    x = z["x"]
    xp = jnp if isinstance(x, jax.Array) else torch
    far = x - xp.asarray([2.0, 0.0])
    near = x + xp.asarray([2.0, 0.0])
    return -xp.logaddexp(-0.5 * (far**2).sum(), np.log(2) - 0.5 * (near**2).sum())


@BOTH
def test_a_mixture_of_two(engine):
    """Twice as much on the left; the modes are four apart and the chains cross."""
    kernel = engine.face.MALA(potential_fn=two_modes, adapt_mass_matrix=False)
    post = chains(engine, kernel, num_warmup=200, num_samples=1500, num_chains=20, init_params=spread(engine, 20, 2))
    left = post.posterior.x.values[..., 0] < 0
    truth = (2 * stats.norm.cdf(2) + stats.norm.cdf(-2)) / 3
    assert score(left, truth) < 5
    assert score(left, 0.5) > 5


def funnel(z):
    v, x = z["x"][0], z["x"][1:]
    xp = jnp if isinstance(v, jax.Array) else torch
    return v**2 / 18 + 0.5 * (x**2).sum() * xp.exp(-v) + 0.5 * len(x) * v


@BOTH
def test_the_funnel_is_not_explored(engine):
    """Neal's funnel: one step size fits no depth, the neck is missed, and R-hat or ESS say so."""
    kernel = engine.face.MALA(potential_fn=funnel)
    post = chains(engine, kernel, num_warmup=300, num_samples=300, num_chains=8, init_params=spread(engine, 8, 10))
    v = post.posterior.x.values[..., 0]
    assert float(np.mean(v < -4)) < stats.norm.cdf(-4 / 3) / 2
    assert float(az.ess(v)) < 0.05 * v.size


@BOTH
@pytest.mark.parametrize("name", ["GibbsWithGradients", "DiscreteLangevin"])
@pytest.mark.parametrize("which", ["bits", "letter"])
def test_discrete_latents(engine, name, which):
    kernel = getattr(engine.face, name)(getattr(models, which)(engine))
    post = chains(engine, kernel, num_warmup=30, num_samples=100, num_chains=30, thinning=2)
    states, p = models.enumerated()[which]
    x = post.posterior.x.values
    for state, probability in zip(states, p, strict=True):
        assert score((x == state).all(-1), probability) < 5
    assert post.sample_stats.acceptance_rate.mean() > 0.3


@BOTH
def test_one_hot_states_of_a_function(engine):
    logits = engine.array(np.array([[0.0, 1.0, -1.0], [0.5, 0.0, 0.0]], dtype=np.float32))
    kernel = engine.face.DiscreteLangevin(potential_fn=lambda z: -(z["x"] * logits).sum(), one_hot=True)
    start = {"x": engine.array(np.tile(np.eye(3, dtype=np.float32)[:2], (20, 1, 1)))}
    post = chains(engine, kernel, num_warmup=30, num_samples=100, num_chains=20, init_params=start)
    p = np.exp(np.asarray(logits)) / np.exp(np.asarray(logits)).sum(-1, keepdims=True)
    for i in range(2):
        for j in range(3):
            assert score(post.posterior.x.values[..., i, j], p[i, j]) < 5


@BOTH
@pytest.mark.parametrize("name", ["SGLD", "PSGLD"])
def test_minibatches_are_drawn_anew_and_widen(engine, name):
    """The mean is right, and the spread is above the posterior's: what the docstring says."""
    kernel = getattr(engine.face, name)(models.minibatches(engine), step_size=0.12, power=0.0)
    if name == "PSGLD":
        kernel = engine.face.PSGLD(models.minibatches(engine), step_size=0.15, power=0.0, num_data=models.N)
    post = chains(engine, kernel, num_warmup=100, num_samples=200, num_chains=20)
    mu, variance = post.posterior.mu.values.astype(float), 1 / (models.N + 0.01)
    assert score(mu, variance * models.DATA.sum()) < 5
    assert mu.var() > 1.15 * variance
    assert post.attrs["law"] == "approximate"
    assert len(np.unique(np.round(post.sample_stats.lp.values, 3))) > 100


@BOTH
@pytest.mark.parametrize("name", ["AnnealedLangevin", "PredictorCorrector"])
def test_descents_of_a_noise_ladder(engine, name):
    """An exact score: the law at the end is the data's, to the error of finitely many levels."""
    mean, sd = np.array([1.0, -2.0], dtype=np.float32), np.array([0.5, 2.0], dtype=np.float32)

    def exact(x, sigma):
        return (engine.array(mean) - x) / (engine.array(sd**2) + sigma[:, None] ** 2)

    kernel = getattr(engine.face, name)(exact, ladder.geometric(8.0, 0.1, 40), event_shape=(2,), num_steps=3)
    post = chains(engine, kernel, num_warmup=0, num_samples=10, num_chains=400)
    x = post.posterior.x.values.reshape(-1, 2).astype(float)
    # 4000 independent draws; the ladder's own error is below a tenth of the spread
    assert (np.abs(x.mean(0) - mean) < (0.1 + 5 / np.sqrt(len(x))) * sd).all()
    assert (np.abs(x.std(0) / sd - 1) < 0.1 + 5 / np.sqrt(2 * len(x))).all()
    assert post.attrs["law"] == "approximate"


# the engines' own MCMC


def test_numpyro_runs_the_kernels_with_any_chain_method():
    """Without a warm-up, which vectorised chains share, the chains are the same whatever the method."""
    found = {}
    for method in ("vectorized", "sequential"):
        kernel = NUMPYRO.face.MALA(models.eight_schools(NUMPYRO), step_size=0.3)
        mcmc = numpyro.infer.MCMC(
            kernel, num_warmup=0, num_samples=20, num_chains=2, thinning=2, chain_method=method, progress_bar=False
        )
        mcmc.run(jax.random.key(0), extra_fields=("potential_energy", "accept_prob", "step_size"))
        found[method] = az.from_numpyro(mcmc)
    first, second = found.values()
    np.testing.assert_allclose(first.posterior.mu, second.posterior.mu, rtol=1e-4)
    np.testing.assert_allclose(first.sample_stats.acceptance_rate, second.sample_stats.acceptance_rate, rtol=1e-3)
    assert first.posterior.tau.shape == (2, 10)
    assert (first.posterior.tau.values > 0).all()
    assert {"lp", "acceptance_rate", "step_size", "diverging"} <= set(first.sample_stats)


def test_pyro_runs_the_kernels():
    pyro.set_rng_seed(0)
    kernel = PYRO.face.MALA(models.eight_schools(PYRO))
    mcmc = pyro.infer.MCMC(kernel, num_samples=30, warmup_steps=30, disable_progbar=True)
    mcmc.run()
    post = az.from_pyro(mcmc)
    assert post.posterior.tau.shape == (1, 30)
    assert (post.posterior.tau.values > 0).all()
    assert post.sample_stats.diverging.shape == (1, 30)
    assert 0 < mcmc.diagnostics()["acceptance rate"]["chain 0"] <= 1


def test_a_second_run_of_chains_compiles_nothing():
    kernel = NUMPYRO.face.MALA(models.eight_schools(NUMPYRO))
    settings = dict(num_warmup=20, num_samples=5, num_chains=2)
    assert NUMPYRO.compiled(lambda: chains(NUMPYRO, kernel, 0, **settings)) > 0
    assert NUMPYRO.compiled(lambda: chains(NUMPYRO, kernel, 1, **settings)) == 0


def test_a_model_that_decides_by_a_value_runs_chain_by_chain():
    def model():
        x = pyro.sample("x", pyro.distributions.Normal(0.0, 1.0))
        scale = 1.0 if float(x.detach()) > 0 else 2.0
        pyro.sample("y", pyro.distributions.Normal(x, scale), obs=torch.tensor(0.3))

    post = chains(PYRO, PYRO.face.MALA(model), num_warmup=10, num_samples=20, num_chains=3)
    assert np.isfinite(post.posterior.x.values).all()
    assert post.posterior.x.shape == (3, 20)


# refusals


def zero(z):
    return z["x"].sum() * 0


def kernel_cases(engine):
    face = engine.face

    def run(kernel, **settings):
        return chains(engine, kernel, **(dict(num_warmup=0, num_samples=1, num_chains=2) | settings))

    start = {"x": engine.array(np.zeros((2, 3), dtype=np.float32))}
    gaussian = models.eight_schools(engine)
    return {
        "two targets": (lambda: face.MALA(gaussian, potential_fn=zero), "model: got a model and potential_fn"),
        "no target": (lambda: face.ULA(), "model: got neither a model nor potential_fn nor score_fn"),
        "score alone": (lambda: face.MALA(score_fn=zero), "score_fn: got a score alone"),
        "step size": (lambda: face.ULA(gaussian, step_size=0.0), "step_size: got 0.0"),
        "friction": (lambda: face.UnderdampedLangevin(gaussian, friction=0.0), "friction: got 0.0"),
        "decay": (lambda: face.PSGLD(gaussian, decay=1.0), "decay: got 1.0; expected a number strictly between"),
        "power": (lambda: face.SGLD(gaussian, power=-1.0), "power: got -1.0"),
        "sigmas": (
            lambda: face.AnnealedLangevin(zero, [0.1, 1.0], event_shape=(2,)),
            "sigmas: got .*; expected at least two positive numbers, each below the one before",
        ),
        "snr": (lambda: face.PredictorCorrector(zero, [1.0, 0.1], event_shape=(2,), snr=0.0), "snr: got 0.0"),
        "start": (lambda: run(face.MALA(potential_fn=zero)), "init_params: got None with potential_fn"),
        "draws": (lambda: run(face.MALA(gaussian), num_samples=0), "num_samples: got 0"),
        "discrete": (
            lambda: run(face.MALA(models.mixed(engine, first="normal"))),
            "site 'b': got a discrete latent for a kernel on real numbers",
        ),
        "continuous": (
            lambda: run(face.GibbsWithGradients(models.mixed(engine, first="normal"))),
            "site 'x': got a continuous latent for a kernel on discrete states",
        ),
        "two kinds": (
            lambda: run(face.GibbsWithGradients(models.mixed(engine, first="bit"))),
            "site 'c': got one-hot rows of 3 beside bits",
        ),
        "counts": (
            lambda: run(face.DiscreteLangevin(models.mixed(engine, first="count"))),
            "site 'k': got a discrete law whose values are neither bits nor one-hot rows",
        ),
        "nothing": (lambda: run(face.MALA(models.mixed(engine, first="none"))), "model: got no latent sites"),
        "no discrete": (lambda: run(face.DiscreteLangevin(models.mixed(engine, first=""))), "model: got no latent"),
        "subsample": (lambda: run(face.MALA(models.minibatches(engine))), "plate 'data': got a subsample_size below"),
        "not one-hot": (
            lambda: run(face.DiscreteLangevin(potential_fn=zero, one_hot=True), init_params={"x": start["x"][:, 0]}),
            "init_params: got arrays of shapes .* with one_hot=True",
        ),
        "infinite": (
            lambda: run(face.MALA(potential_fn=lambda z: z["x"].sum() * float("nan")), init_params=start),
            "an energy or a score that is not finite at 2 of 2 elements",
        ),
    }


@BOTH
@pytest.mark.parametrize("case", kernel_cases(NUMPYRO))
def test_refusals(engine, case):
    act, message = kernel_cases(engine)[case]
    with pytest.raises(ValueError, match=message):
        act()


def test_a_start_is_looked_for_but_not_for_ever():
    def model():
        pyro.sample("x", pyro.distributions.Normal(0.0, 1.0))
        pyro.factor("nowhere", torch.tensor(float("nan")))

    with pytest.raises(ValueError, match="0 starts with a finite energy and gradient, of 2 needed"):
        chains(PYRO, PYRO.face.MALA(model), num_warmup=0, num_samples=1, num_chains=2)


def test_pyro_descents_take_no_start():
    kernel = PYRO.face.AnnealedLangevin(lambda x, sigma: -x, [1.0, 0.1], event_shape=(2,))
    with pytest.raises(ValueError, match="initial_params: got values; expected None"):
        kernel.initial_params = {"x": torch.zeros(2)}
