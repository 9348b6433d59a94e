"""Langevin kernels on laws that have a density but no draws, on bare energies, and on one-hot sites of Pyro."""

import arviz as az
import jax
import langevin_models as models
import numpy as np
import numpyro
import pyro
import pyro.distributions as dist
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from pyro.infer.autoguide.initialization import InitMessenger

from deepgen.inference.langevin.space.numpyro import Reals as JaxReals
from deepgen.inference.langevin.space.pyro import Reals, States, _numbers, _start

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ROW = np.float32([[0.4, -0.2, 0.3], [-0.2, 0.1, 0.5], [0.3, 0.5, -0.6]])


def chains(engine, kernel, **settings):
    pyro.set_rng_seed(0)
    return engine.call("run_chains", kernel, progress=False, **settings).posterior


def score(x, truth):
    """How many Monte Carlo standard errors the mean of (chain, draw) is off."""
    x = np.asarray(x, dtype=np.float64)
    return abs(x.mean() - truth) / float(az.mcse(x, method="mean"))


def quadratic(x):
    """Of rows (n, 2): with a standard normal base, a normal of variance 1 / 4."""
    return 1.5 * (x**2).sum(-1)


def tilted(engine, energy=quadratic):
    """An energy-based site in a user's program: x is of variance 1/4, y = 1 is x1 and noise of variance 1/4."""
    pp, law, array = models.ppl(engine)

    def model():
        base = law.Normal(array(np.zeros(2, np.float32)), 1.0).to_event(1)
        x = pp.sample("x", engine.face.EnergyBased(base, energy))
        scale = pp.sample("scale", law.LogNormal(0.0, 0.1))
        pp.sample("y", law.Normal(x[0] + 0 * scale, 0.5), obs=array(1.0))

    return model


@BOTH
def test_an_energy_in_a_program_of_the_user_s_own(engine):
    post = chains(engine, engine.face.MALA(tilted(engine)), num_warmup=100, num_samples=100, num_chains=30)
    x = post.x.values.astype(float)
    # the posterior of x1 is N(1/2, 1/8), of x2 N(0, 1/4)
    for found, truth in [(x[..., 0], 0.5), (x[..., 1], 0.0), ((x[..., 0] - 0.5) ** 2, 0.125), (x[..., 1] ** 2, 0.25)]:
        assert score(found, truth) < 5
    assert score(x[..., 1] ** 2, 1.0) > 5, "the energy left out"
    assert score(x[..., 0], 0.8) > 5, "and the posterior of a standard normal"


@BOTH
def test_a_bare_energy(engine):
    program = engine.call(engine.face.EnergyBasedModel.mlp, (2,), hidden=(3,), seed=1)
    law = program.distribution()
    start = {"x": engine.array(np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32))}
    kernel = engine.face.MALA(potential_fn=lambda z: -law.log_prob(z["x"]))
    x = chains(engine, kernel, num_warmup=100, num_samples=100, num_chains=30, init_params=start).x.values
    grid = np.stack(np.meshgrid(*[np.linspace(-6, 6, 121)] * 2), -1).reshape(-1, 2).astype(np.float32)
    value = law.log_prob(engine.array(grid))
    value = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, np.float64)
    p = np.exp(value - value.max()) / np.exp(value - value.max()).sum()
    for i in range(2):
        assert score(x[..., i], p @ grid[:, i]) < 5
        assert score(x[..., i], p @ grid[:, i] + 1) > 5


def coupled(x):
    row = models.ppl(NUMPYRO)[2](ROW) if isinstance(x, jax.Array) else torch.tensor(ROW)
    return -((x @ row) * x).sum(-1)


@BOTH
def test_an_energy_of_bits_in_a_program(engine):
    pp, law, array = models.ppl(engine)

    def model():
        base = law.Bernoulli(logits=array(np.float32([0.5, 0.0, -0.5]))).to_event(1)
        pp.sample("x", engine.face.EnergyBased(base, coupled))

    x = chains(engine, engine.face.DiscreteLangevin(model), num_warmup=20, num_samples=100, num_chains=30).x.values
    states = np.stack(np.meshgrid(*[[0.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    log_p = states @ [0.5, 0.0, -0.5] + ((states @ ROW) * states).sum(-1)
    p = np.exp(log_p) / np.exp(log_p).sum()
    for i in range(3):
        assert score(x[..., i], p @ states[:, i]) < 5
    assert score(x[..., 0], 1 / (1 + np.exp(-0.5))) > 5, "the energy left out"


def without_draws(bits, **options):
    """A Pyro model of one energy-based site, its base a law of these tensors."""
    zeros = torch.zeros(3, **options)
    base = dist.Bernoulli(logits=zeros) if bits else dist.Normal(zeros, zeros + 1)
    return lambda: pyro.sample("x", PYRO.face.EnergyBased(base.to_event(1), quadratic))


@pytest.mark.parametrize("space", [Reals, States])
def test_a_start_is_of_the_law_s_own_dtype_and_device(space):
    start = space(without_draws(space is States, dtype=torch.float64)).start(2, None, (), {})
    assert start["x"].dtype == torch.float64
    # validation looks at numbers, of which that device has none
    with InitMessenger(_start), pyro.validation_enabled(False):
        x = without_draws(space is States, device="meta")()
    assert x.device.type == "meta"
    assert x.shape == (3,)


def test_a_start_finds_numbers_in_a_module_and_takes_the_defaults_where_there_are_none():
    class Law(dist.TorchDistribution):
        def __init__(self, part):
            self.part = part

    assert _numbers(Law(torch.nn.Linear(1, 1, dtype=torch.float64))).dtype == torch.float64
    assert _numbers(Law(torch.zeros(2, dtype=torch.int64))).dtype == torch.float32


def test_a_law_is_not_drawn_from_to_know_its_sites():
    class Dear(numpyro.distributions.Normal):
        def sample(self, key, sample_shape=()):
            raise RuntimeError("drawn")

    start = JaxReals(lambda: numpyro.sample("x", Dear(0.0, 1.0))).start(jax.random.key(0), None, (), {})
    assert abs(float(start["x"])) <= 2
    with pytest.raises(RuntimeError, match="drawn"):
        Dear(0.0, 1.0).sample(jax.random.key(0))


@BOTH
def test_the_engine_s_own_mcmc_draws_from_an_energy(engine):
    kernel = engine.face.MALA(tilted(engine), step_size=0.4)
    if engine is NUMPYRO:
        mcmc = numpyro.infer.MCMC(kernel, num_warmup=50, num_samples=50, progress_bar=False)
        mcmc.run(jax.random.key(0))
    else:
        pyro.set_rng_seed(0)
        mcmc = pyro.infer.MCMC(kernel, num_samples=50, warmup_steps=50, disable_progbar=True)
        mcmc.run()
    assert np.asarray(mcmc.get_samples()["x"]).shape == (50, 2)
    assert 0.1 < np.asarray(mcmc.get_samples()["x"]).std() < 1


PROBS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])


def masked():
    x = pyro.sample("x", dist.OneHotCategorical(PROBS).mask(torch.tensor([True, False])).to_event(1))
    pyro.sample("y", dist.Normal((x[0] * torch.arange(3.0)).sum(-1), 1.0), obs=torch.tensor(0.0))


def letters():
    with pyro.plate("letters", 2):
        x = pyro.sample("x", dist.OneHotCategorical(PROBS))
    pyro.sample("y", dist.Normal((x[0] * torch.arange(3.0)).sum(-1), 1.0), obs=torch.tensor(0.0))


@pytest.mark.parametrize(("name", "model"), [("GibbsWithGradients", letters), ("DiscreteLangevin", masked)])
def test_one_hot_sites_of_pyro(name, model):
    """NumPyro has no such law: there it is a ``Multinomial`` with total_count=1."""
    engine = next(engine for engine in ENGINES if engine is not NUMPYRO)
    kernel = getattr(engine.face, name)(model)
    x = chains(engine, kernel, num_warmup=20, num_samples=100, num_chains=30).x.values
    first = models.enumerated()["letter"][1]
    second = PROBS[1].numpy() if model is letters else np.full(3, 1 / 3)
    for j in range(3):
        assert score(x[..., 0, j], first[j]) < 5
        assert score(x[..., 1, j], second[j]) < 5
    assert score(x[..., 0, 2], 0.5) > 5, "the observation left out"
