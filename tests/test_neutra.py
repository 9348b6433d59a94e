"""The engines' own ``NeuTraReparam`` around a trained `AutoFlow`: NUTS in the base of a flow, beside plain NUTS."""

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
import pyro.infer.mcmc
import pyro.infer.reparam
import pytest
import torch
from engines import ENGINES, NUMPYRO
from montecarlo import limit
from siting import numbers
from test_autoflow import NARROW, trained

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
CHAINS, WARMUP, LENGTH = 2, 200, 400
Draws = dict[str, np.ndarray]


def in_numpyro(model: Callable[[], None]) -> tuple[dict[str, Any], int]:
    """Draws of NUTS, (chain, draw, ...) each, and how many gradients they took."""
    kernel = numpyro.infer.NUTS(model)
    run = numpyro.infer.MCMC(
        kernel, num_warmup=WARMUP, num_samples=LENGTH, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
    )
    run.run(jax.random.key(1), extra_fields=("num_steps",))
    return run.get_samples(group_by_chain=True), int(run.get_extra_fields()["num_steps"].sum())


def in_pyro(model: Callable[[], None]) -> tuple[dict[str, Any], int]:
    """The same, the gradients counted as calls of the model after the warm-up."""
    chains, count = [], 0

    def counted() -> None:
        nonlocal count
        count += 1
        model()

    def hook(kernel: Any, params: Any, stage: str, i: int) -> None:
        nonlocal count
        count = 0 if "warmup" in stage.lower() else count

    for seed in range(CHAINS):
        pyro.set_rng_seed(seed)
        run = pyro.infer.MCMC(
            pyro.infer.NUTS(counted),
            num_samples=LENGTH,
            warmup_steps=WARMUP,
            disable_progbar=True,
            hook_fn=hook,
        )
        before, count = count, 0
        run.run()
        chains.append(run.get_samples())
        count += before
    return {name: torch.stack([chain[name] for chain in chains]) for name in chains[0]}, count


@cache
def draws(engine: Any, reparameterised: bool) -> tuple[Draws, int]:
    """Of the banana, by NUTS as it is or in the flow's base, and the gradients that they took."""
    model, guide, params = trained(engine, "realnvp")
    nuts = in_numpyro if engine is NUMPYRO else in_pyro
    if not reparameterised:
        found, gradients = nuts(model)
        return {name: numbers(value) for name, value in found.items()}, gradients
    reparam = numpyro.infer.reparam if engine is NUMPYRO else pyro.infer.reparam
    neutra = reparam.NeuTraReparam(*((guide, params) if engine is NUMPYRO else (guide,)))
    found, gradients = nuts(neutra.reparam(model))
    (base,) = (value for name, value in found.items() if name.endswith("_shared_latent"))
    carried = neutra.transform_sample(base.reshape(-1, 2))
    return {name: numbers(carried[name]).reshape(CHAINS, LENGTH) for name in ("a", "b")}, gradients


def moments(found: Draws) -> dict[str, tuple[np.ndarray, float]]:
    """Functions of the draws and their expectations."""
    a, b = found["a"], found["b"]
    return {
        "a": (a, 0.0),
        "a squared": (a**2, 1.0),
        "b": (b, 1.0),
        "the residual": (b - a**2, 0.0),
        "the residual squared": ((b - a**2) ** 2, NARROW**2),
    }


def worst(found: Draws) -> float:
    """The largest error in Monte Carlo standard errors, as a share of its limit."""
    known = moments(found)
    errors = [abs(values.mean() - truth) / float(az.mcse(values)) for values, truth in known.values()]
    return max(errors) / limit(len(known))


def efficiency(engine: Any, reparameterised: bool) -> float:
    """The smallest effective sample size for each gradient."""
    found, gradients = draws(engine, reparameterised)
    return min(float(az.ess(found[name])) for name in ("a", "b")) / gradients


@BOTH
def test_nuts_in_the_base_has_the_law_of_the_model(engine: Any) -> None:
    found, _ = draws(engine, True)
    assert max(float(az.rhat(found[name])) for name in ("a", "b")) < 1.03
    assert worst(found) < 1
    assert worst({"a": found["a"], "b": found["b"] + 0.1}) > 1
    assert worst({"a": 0.7 * found["a"], "b": found["b"]}) > 1


@BOTH
def test_nuts_in_the_base_needs_fewer_gradients(engine: Any) -> None:
    """For each effective draw, against plain NUTS on the same model."""
    assert efficiency(engine, True) > 1.5 * efficiency(engine, False)
