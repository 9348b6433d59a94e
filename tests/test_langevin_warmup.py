"""The warm-up of Langevin chains that learn together: none is left standing in a tail."""

import warnings

import arviz as az
import jax
import langevin_models as models
import numpy as np
import numpyro
import pyro
import pytest
from engines import ENGINES, NUMPYRO

from deepgen.inference.langevin import tuning
from deepgen.inference.langevin.arguments import DivergenceWarning

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
SEEDS = {"numpyro": range(3), "pyro": range(1)}


def plain_mean(learned, accept_prob, target, *, pool):
    """As ``tuning.learn_step_size``, without looking at how evenly chains share the mean."""
    seen = accept_prob.mean(0, keepdims=True) if pool else accept_prob
    return learned._replace(averaging=tuning.adapting.dual_averaging_update(learned.averaging, seen, target))


def starts(engine):
    """Four chains, the first of which starts where the scale is 0.14."""
    start = np.array([[-1.5, -2.0], [0.5, 0.2], [0.7, 0.3], [0.3, 0.0]], dtype=np.float32)
    return {"a": engine.array(start[:, 0]), "s": engine.array(start[:, 1])}


def tail_chains(engine):
    """Posteriors of several seeds."""
    kernel = engine.face.MALA(models.tails(engine))
    for seed in SEEDS[engine.name]:
        pyro.set_rng_seed(seed)
        settings = dict(num_warmup=200, num_samples=80, num_chains=4, init_params=starts(engine), progress=False)
        yield engine.call("run_chains", kernel, seed=seed, **settings)


def slowest(post):
    return post.sample_stats.acceptance_rate.values.mean(1).min()


@BOTH
def test_a_chain_in_a_tail_is_not_left_behind(engine, monkeypatch):
    for post in tail_chains(engine):
        assert slowest(post) > 0.3
        assert float(az.rhat(post).s) < 1.2
    monkeypatch.setattr(tuning, "learn_step_size", plain_mean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)
        assert min(map(slowest, tail_chains(engine))) == 0, "with the plain mean it stands still throughout"


def test_in_numpyro_s_own_mcmc():
    kernel = NUMPYRO.face.MALA(models.tails(NUMPYRO))
    mcmc = numpyro.infer.MCMC(
        kernel, num_warmup=200, num_samples=300, num_chains=4, chain_method="vectorized", progress_bar=False
    )
    mcmc.run(jax.random.key(0), init_params=starts(NUMPYRO))
    s = np.asarray(mcmc.get_samples(group_by_chain=True)["s"], dtype=float)
    assert float(az.rhat(s)) < 1.1
    assert abs(s.mean() - models.tails_mean()) < 5 * float(az.mcse(s, method="mean"))


def test_chains_alike_learn_from_their_mean():
    """What is learned where chains share the mean evenly is what the mean teaches; where one has none of it, less."""
    alike = tuning.begin(np.zeros((4, 2)), np.full(4, 0.1), pool=True, dense=False)
    apart = alone = alike
    for _ in range(50):
        alike = tuning.learn_step_size(alike, np.full(4, 0.5), 0.574, pool=True)
        alone = plain_mean(alone, np.full(4, 0.5), 0.574, pool=True)
        apart = tuning.learn_step_size(apart, np.array([0.0, 0.7, 0.7, 0.6]), 0.574, pool=True)
    np.testing.assert_allclose(tuning.learned_step_size(alike), tuning.learned_step_size(alone))
    assert tuning.learned_step_size(apart) < 0.01 * tuning.learned_step_size(alike)
