"""The warm-up of Hamiltonian chains that learn together: none is left standing where it needs a smaller step."""

from typing import Any

import arviz as az
import langevin_models as models
import numpy as np
import pytest
from array_api_compat import array_namespace
from engines import ENGINES, NUMPYRO

from deepgen.inference.hmc import adaptation
from deepgen.inference.hmc import numpyro as hmc_numpyro
from deepgen.inference.hmc import pyro as hmc_pyro

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
SEEDS = {"numpyro": range(3), "pyro": range(1)}
CHAINS = 8
SETTINGS: dict[str, Any] = {"num_warmup": 300, "num_samples": 200, "progress": False}


def tails() -> Any:
    """The posterior of ``langevin_models.tails`` over the mean and the logarithm of the scale, each time anew."""

    def log_density(z: Any) -> Any:
        mean, log_scale = z[..., 0], z[..., 1]
        scale = array_namespace(z).exp(log_scale)
        square = sum((y - mean) ** 2 for y in (0.3, -1.2, 2.0, 0.8, 1.5))
        return -0.5 * mean**2 - 0.5 * scale**2 + log_scale - 0.5 * square / scale**2 - 5 * log_scale

    return log_density


def plain_mean(state: Any, lately: Any, accept_prob: Any, target: Any, *, pool: bool) -> Any:
    """As ``adaptation.pooled_update``, without looking at how evenly chains share the mean."""
    seen = accept_prob.mean(0, keepdims=True) if pool else accept_prob
    return adaptation.dual_averaging_update(state, seen, target), lately


def runs(engine: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draws (chain, draw, 2) and acceptance rates (chain) of several seeds; one chain starts where the scale is 0.14.

    Of eight chains seven may accept more than 0.8 and the last nothing, and still the mean is what was asked for.
    """
    room = hmc_numpyro if engine is NUMPYRO else hmc_pyro
    log_density, found = tails(), []
    for seed in SEEDS[engine.name]:
        start = np.array([0.5, 0.2]) + 0.2 * np.random.default_rng(seed).standard_normal((CHAINS, 2))
        start[0] = -1.5, -2.0
        draws, result = engine.call(
            room.run, log_density, engine.array(start.astype(np.float32)), seed=seed, **SETTINGS
        )
        found.append((np.asarray(draws).swapaxes(0, 1).astype(float), np.asarray(result.accept_rate)))
    return found


@BOTH
def test_a_chain_in_a_tail_is_not_left_behind(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for draws, rate in runs(engine):
        assert rate.min() > 0.5
        scale = np.exp(draws[..., 1])
        assert float(az.rhat(scale)) < 1.1
        assert abs(scale.mean() - models.tails_mean()) < 5 * float(az.mcse(scale, method="mean"))
    monkeypatch.setattr(adaptation, "pooled_update", plain_mean)
    still = runs(engine)
    assert all(rate.min() == 0 for _, rate in still), "with the plain mean it stands still throughout"
    assert all(rate.mean() > 0.75 for _, rate in still), "and the mean does not show it"


def test_chains_alike_learn_from_their_mean() -> None:
    """What is learned where chains share the mean evenly is what the mean teaches; rows learn apart from each other."""
    begin = adaptation.adaptation(np.zeros((4, 2, 3)), np.full((4, 2), 0.1), pool=True)
    row = np.array([0.0, 0.7, 0.7, 0.6])
    both, alone = begin, begin
    for _ in range(50):
        both = adaptation.adapt_step_size(both, np.stack([np.full(4, 0.5), row], 1), 0.8, pool=True)
        averaging, _ = plain_mean(alone.averaging, alone.lately, np.full((4, 2), 0.5), 0.8, pool=True)
        alone = alone._replace(averaging=averaging)
    alike, apart = adaptation.adapted_step_size(both)[0]
    np.testing.assert_allclose(alike, adaptation.adapted_step_size(alone)[0, 0])
    assert apart < 0.01 * alike
