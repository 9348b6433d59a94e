"""Simulation-based calibration of `impute`: ranks of the truth among its draws are uniform, or it is overconfident.

Talts, Betancourt, Simpson, Vehtari & Gelman 2018. A check rejects by chance with probability `montecarlo.RATE`.
"""

from functools import cache
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, NUMPYRO
from montecarlo import RATE
from registry import ORACLES, cases, oracle_program, twin

from deepgen.evaluation import sbc_ranks, uniformity_pvalue
from deepgen.inference.imputation.methods import METHODS, described

# the estimated Pareto k of a few of so many rows passes 0.7 by chance
pytestmark = [
    pytest.mark.filterwarnings("ignore:the importance weights of:UserWarning"),
    pytest.mark.filterwarnings("ignore:the particles of:UserWarning"),
]

DRAWS = 19
DATA_SETS = 500
OPTIONS: dict[str, dict[str, int]] = {
    # the last draw of each chain: chains do not depend on each other
    "mcmc": {"num_chains": DRAWS, "num_warmup": 40, "num_samples": 2, "num_steps": 6},
    "gibbs": {"num_chains": DRAWS, "num_warmup": 40, "num_samples": 2},
    "pseudo-gibbs": {"num_chains": DRAWS, "num_warmup": 40, "num_samples": 2},
    "adaptive-gibbs": {"num_chains": DRAWS, "num_warmup": 80, "num_samples": 2},
    "clamped": {"num_chains": DRAWS, "num_warmup": 40, "num_samples": 2, "num_steps": 6},
    "annealed-mala": {"num_chains": DRAWS, "num_warmup": 40, "num_samples": 2, "num_steps": 10},
    "sir": {"num_samples": DRAWS, "num_particles": 600},
    "lair": {"num_samples": DRAWS, "num_particles": 600, "num_chains": 9},
    "smc": {"num_chains": 1, "num_samples": DRAWS, "num_particles": 3000},
    "exact": {"num_chains": 1, "num_samples": DRAWS},
    "enumerate": {"num_chains": 1, "num_samples": DRAWS},
    "hmc": {"num_chains": DRAWS, "num_warmup": 40, "num_samples": 2, "num_steps": 6},
    "pl-mcmc": {"num_chains": DRAWS, "num_warmup": 15, "num_samples": 2, "num_steps": 6},
    "importance": {"num_samples": DRAWS, "num_particles": 600},
    # one chain for all rows, thinned
    "nuts": {"num_chains": 1, "num_warmup": 100, "num_samples": 3 * DRAWS},
    "auto": {"num_chains": 1, "num_warmup": 40, "num_samples": DRAWS, "num_steps": 6, "num_particles": 3000},
}


TIGHT = next(oracle for oracle in ORACLES if oracle.tight)
MANY = 8
"""(instance, engine) pairs of a method, beyond which each instance is taken in one engine."""
LOOSE = 3.0
"""What the guide's numbers are multiplied by, for a guide far from the posterior."""


def methods() -> list[Any]:
    """Every method that claims the law of the model, in both engines.

    Where a method has many instances, the engines take them in turns: what both of them do with the same noise is
    compared elsewhere. NUTS, which takes plain models, stands here once and in the faster engine.
    """
    found = []
    for method, entry in METHODS.items():
        having = [
            case
            for case in cases(ORACLES, all_quick=False)
            for oracle, engine in [case.values]
            if entry.law in {"exact", "asymptotically exact"}
            and method in oracle_program(oracle, engine).imputers
            and oracle.offers(method)
        ]
        if len(having) > MANY:
            having = [case for i, case in enumerate(having) if i // len(ENGINES) % len(ENGINES) == i % len(ENGINES)]
        found += [pytest.param(*case.values, method, id=f"{case.id}-{method}", marks=case.marks) for case in having]
    return [*found, pytest.param(TIGHT, NUMPYRO, "nuts", id="plain-numpyro-nuts")]


def test_every_method_is_here() -> None:
    here = {case.values[2] for case in methods()}
    both = {(case.values[2], case.values[1].name) for case in methods()}
    assert both == {(name, engine.name) for name in here - {"nuts"} for engine in ENGINES} | {("nuts", NUMPYRO.name)}
    # a mixture over orders that no one program draws from, see test_order_agnostic.py; levels, see test_dequantized.py
    own = {"observed-first", "cells"}
    assert here == {name for name, method in METHODS.items() if method.law != "approximate"} - own
    assert METHODS.keys() - here == {"pseudo-gibbs", "predictor-corrector", "annealed-langevin"} | own


@cache
def simulated(
    oracle: Any, engine: Any, method: str, encoder: float = 1.0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One number of each latent site and one missing entry of each data set: (n,) truths and (n, DRAWS) draws.

    The guide's numbers are multiplied by ``encoder``; the model stays as it is.
    """
    rng = np.random.default_rng(11)
    program = oracle_program(oracle, engine) if encoder == 1 else twin(oracle, engine, encoder=encoder)
    # without latents the truth is the datum alone
    joint = (
        engine.predictive(program, 1, DATA_SETS, {}, seed=4)
        if oracle.latent
        else {"x": oracle.draw(rng, DATA_SETS)[None]}
    )
    truth = {name: value[0].reshape(DATA_SETS, -1) for name, value in joint.items() if name in ["x", *latents(oracle)]}
    x = joint["x"][0].astype(np.int32 if oracle.integer else np.float32)
    holes = oracle.hide_last(x, rng) if method == "exact" else oracle.hide(x, rng)
    missing = oracle.is_missing(holes).reshape(DATA_SETS, -1)
    some = missing.any(1)
    plain = {"model_kwargs": {"size": DATA_SETS}} if method == "nuts" else {}
    given = program.model if plain else program
    taken = METHODS[method].options if plain else described(method, program.imputers).options
    options = {name: value for name, value in OPTIONS.get(method, {}).items() if name in taken}
    post = engine.call("impute", given, holes, method=method, seed=6, **options, **plain)
    found: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})
    for name, values in truth.items():
        draws = post.posterior[name].values
        draws = np.moveaxis(draws, 0, 1).reshape(-1, DATA_SETS, values.shape[1])
        entry = (rng.random(values.shape) * (missing + 1e-9 if name == "x" else 1)).argmax(1)
        rows = some if name == "x" else np.full(DATA_SETS, True)
        found[0][name] = values[rows, entry[rows]]
        kept = draws[:: len(draws) // DRAWS] if plain else draws[-DRAWS:]
        found[1][name] = kept[:, rows, entry[rows]].T
    return found


def latents(oracle: Any) -> list[str]:
    return list(oracle.posterior(oracle.draw(np.random.default_rng(0), 1)))


def pvalue(truth: np.ndarray, draws: np.ndarray) -> float:
    ranks = sbc_ranks(truth, draws, seed=1)
    return uniformity_pvalue(ranks, DRAWS, bins=10)


@pytest.mark.parametrize(("oracle", "engine", "method"), methods())
def test_ranks_of_the_truth_are_uniform(oracle: Any, engine: Any, method: str) -> None:
    truths, draws = simulated(oracle, engine, method)
    assert {"x", *latents(oracle)} == set(truths)
    for name, truth in truths.items():
        assert draws[name].shape == (len(truth), DRAWS)
        assert pvalue(truth, draws[name]) > RATE, name


@pytest.mark.parametrize(("oracle", "engine", "method"), methods())
def test_overconfident_and_biased_draws_are_noticed(oracle: Any, engine: Any, method: str) -> None:
    truths, draws = simulated(oracle, engine, method)
    for name, truth in truths.items():
        centre = draws[name].mean(1, keepdims=True)
        assert pvalue(truth, centre + 0.6 * (draws[name] - centre)) < RATE, f"{name}, overconfident"
        assert pvalue(truth, draws[name] + 0.5 * draws[name].std()) < RATE, f"{name}, biased"


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_pseudo_gibbs_is_as_good_as_its_guide(engine: Any) -> None:
    """With the exact posterior for a guide it is a Gibbs sampler; with another guide it has another law, which the
    Metropolis correction of the same proposals mends."""
    truths, draws = simulated(TIGHT, engine, "pseudo-gibbs")
    assert all(pvalue(truth, draws[name]) > RATE for name, truth in truths.items())
    truths, draws = simulated(TIGHT, engine, "pseudo-gibbs", LOOSE)
    assert all(pvalue(truth, draws[name]) < RATE for name, truth in truths.items())
    truths, draws = simulated(TIGHT, engine, "gibbs", LOOSE)
    assert all(pvalue(truth, draws[name]) > RATE for name, truth in truths.items())
