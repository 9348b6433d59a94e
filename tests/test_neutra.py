"""The engines' own ``NeuTraReparam`` around a trained `AutoFlow`: NUTS in the base of a flow has the model's law."""

from collections.abc import Callable
from functools import cache
from typing import Any

import arviz as az
import jax
import numpy as np
import numpyro.infer
import numpyro.infer.reparam
import pyro
import pyro.infer
import pyro.infer.reparam
import pytest
import torch
from engines import ENGINES, NUMPYRO
from montecarlo import limit
from siting import numbers
from test_autoflow import NARROW, trained

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
CHAINS = 2
Draws = dict[str, np.ndarray]


def in_numpyro(model: Callable[[], None]) -> Any:
    """Draws of the base, (chain, draw, 2)."""
    run = numpyro.infer.MCMC(
        numpyro.infer.NUTS(model),
        num_warmup=200,
        num_samples=400,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    run.run(jax.random.key(1))
    return run.get_samples(group_by_chain=True)["auto_shared_latent"]


def in_pyro(model: Callable[[], None]) -> Any:
    """The same; Pyro names the base after the first latent."""
    chains = []
    for seed in range(CHAINS):
        pyro.set_rng_seed(seed)
        with pyro.validation_enabled(False):
            kernel = pyro.infer.NUTS(model, max_tree_depth=6)
            run = pyro.infer.MCMC(kernel, warmup_steps=80, num_samples=160, disable_progbar=True)
            run.run()
        chains.append(run.get_samples()["a_shared_latent"])
    return torch.stack(chains)


@cache
def draws(engine: Any) -> Draws:
    """Of the banana, (chain, draw) each, by NUTS in the flow's base."""
    model, guide, params = trained(engine, "realnvp")
    if engine is NUMPYRO:
        neutra: Any = numpyro.infer.reparam.NeuTraReparam(guide, params)
        base = in_numpyro(neutra.reparam(model))
    else:
        neutra = pyro.infer.reparam.NeuTraReparam(guide)
        base = in_pyro(neutra.reparam(model))
    carried = neutra.transform_sample(base.reshape(-1, 2))
    return {name: numbers(carried[name]).reshape(CHAINS, -1) for name in ("a", "b")}


def worst(found: Draws) -> float:
    """The largest error of a mean in Monte Carlo standard errors, as a share of its limit."""
    a, b = found["a"], found["b"]
    known = [(a, 0.0), (a**2, 1.0), (b, 1.0), (b - a**2, 0.0), ((b - a**2) ** 2, NARROW**2)]
    errors = [abs(values.mean() - truth) / float(az.mcse(values)) for values, truth in known]
    return max(errors) / limit(len(known))


@BOTH
def test_nuts_in_the_base_has_the_law_of_the_model(engine: Any) -> None:
    found = draws(engine)
    assert max(float(az.rhat(found[name])) for name in ("a", "b")) < 1.05
    assert worst(found) < 1
    assert worst({"a": found["a"], "b": found["b"] + 0.2}) > 1
    assert worst({"a": 0.7 * found["a"], "b": found["b"]}) > 1
