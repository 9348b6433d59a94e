"""Chains of a plain model under `impute`, judged: two modes that no chain leaves, and one mode."""

import warnings
from typing import Any

import numpy as np
import numpyro
import pyro
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from numpyro import distributions as numpyro_dist
from pyro import distributions as pyro_dist

from deepgen.inference.imputation import result

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
SAMPLERS: dict[Any, Any] = {NUMPYRO: (numpyro.sample, numpyro_dist), PYRO: (pyro.sample, pyro_dist)}
X = np.array([[9.0, np.nan]], dtype=np.float32)
OPTIONS: dict[str, Any] = {"num_warmup": 100, "num_samples": 100}


def model_of(engine: Any, power: int) -> Any:
    """z ~ N(0, 3²), x_0 ~ N(z^power, 1), x_1 ~ N(3 z, 1): of two modes in z and x_1 where the power is even."""
    sample, dist = SAMPLERS[engine]

    def model() -> Any:
        z = sample("z", dist.Normal(engine.array(np.zeros(1, np.float32)), 3.0).to_event(1))
        loc = engine.array(np.float32([1, 0])) * z**power + engine.array(np.float32([0, 3])) * z
        return sample("x", dist.Normal(loc[None], 1.0).to_event(2))

    return model


@BOTH
def test_chains_in_two_modes_are_announced(engine: Any) -> None:
    with pytest.warns(UserWarning, match=r"the chains disagree \(R-hat above 1\.1, largest of .*z \d+\.\d\d, x \d+"):
        post = engine.call("impute", model_of(engine, 2), X, num_chains=4, seed=1, **OPTIONS)
    hats = post.sample_stats["r_hat"]
    assert list(hats["quantity"].values) == ["lp", "z", "x"]
    assert float(hats.sel(quantity="x")) > 1.5
    assert post.attrs["quantities_with_high_r_hat"] >= 2


@BOTH
def test_chains_in_one_mode_are_not(engine: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        post = engine.call("impute", model_of(engine, 1), X, num_chains=2, seed=1, **OPTIONS)
    assert set(post.sample_stats) == {"lp", "acceptance_rate", "diverging", "r_hat"}
    assert (post.sample_stats["r_hat"] < 1.1).all()
    assert post.attrs["quantities_with_high_r_hat"] == 0
    assert post.attrs["divergences"] == int(post.sample_stats["diverging"].sum())
    rate = post.sample_stats["acceptance_rate"].values
    assert rate.shape == (2, 100)
    assert 0.5 < rate.mean() < 1
    assert (rate >= -1e-6).all()
    assert (rate <= 1 + 1e-6).all()


@BOTH
def test_one_chain_is_not_judged(engine: Any) -> None:
    post = engine.call("impute", model_of(engine, 2), X, num_chains=1, num_warmup=5, num_samples=5)
    assert np.isnan(post.attrs["quantities_with_high_r_hat"])
    assert np.isnan(post.sample_stats["r_hat"]).all()
    assert post.attrs["not_judged"].startswith("R-hat")


def test_divergences_are_counted_beside_what_disagrees() -> None:
    rng = np.random.default_rng(0)
    draws, diverging = rng.standard_normal((2, 50, 3)), np.zeros((2, 50), bool)
    diverging[0, :7] = True
    draws[1, :, 2] += 9
    call: dict[str, Any] = {"acceptance_rate": np.ones((2, 50)), "diverging": diverging}
    with pytest.warns(UserWarning, match=r"largest of z \d+\.\d\d; 7 of 100 trajectories diverged\)"):
        _, said, coords = result.joint_stats(draws[..., 0], {"z": draws}, draws[..., :0], **call)
    assert said == {"quantities_with_high_r_hat": 1, "divergences": 7}
    assert coords == {"quantity": ["lp", "z"]}
