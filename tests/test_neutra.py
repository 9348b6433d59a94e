"""NumPyro's own ``NeuTraReparam`` around a trained `AutoFlow`: NUTS in the base of a flow has the model's law."""

from functools import cache

import arviz as az
import jax
import numpy as np
import numpyro.infer
import numpyro.infer.reparam
from engines import NUMPYRO
from montecarlo import limit
from siting import numbers
from test_autoflow import NARROW, trained

CHAINS, WARMUP, LENGTH = 2, 200, 400
Draws = dict[str, np.ndarray]


@cache
def draws() -> Draws:
    """Of the banana, (chain, draw) each, by NUTS in the flow's base."""
    model, guide, params = trained(NUMPYRO, "realnvp")
    neutra = numpyro.infer.reparam.NeuTraReparam(guide, params)
    kernel = numpyro.infer.NUTS(neutra.reparam(model))
    run = numpyro.infer.MCMC(
        kernel, num_warmup=WARMUP, num_samples=LENGTH, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
    )
    run.run(jax.random.key(1))
    base = run.get_samples(group_by_chain=True)["auto_shared_latent"]
    carried = neutra.transform_sample(base.reshape(-1, 2))
    return {name: numbers(carried[name]).reshape(CHAINS, LENGTH) for name in ("a", "b")}


def worst(found: Draws) -> float:
    """The largest error of a mean in Monte Carlo standard errors, as a share of its limit."""
    a, b = found["a"], found["b"]
    known = [(a, 0.0), (a**2, 1.0), (b, 1.0), (b - a**2, 0.0), ((b - a**2) ** 2, NARROW**2)]
    errors = [abs(values.mean() - truth) / float(az.mcse(values)) for values, truth in known]
    return max(errors) / limit(len(known))


def test_nuts_in_the_base_has_the_law_of_the_model() -> None:
    found = draws()
    assert max(float(az.rhat(found[name])) for name in ("a", "b")) < 1.03
    assert worst(found) < 1
    assert worst({"a": found["a"], "b": found["b"] + 0.1}) > 1
    assert worst({"a": 0.7 * found["a"], "b": found["b"]}) > 1
