"""Programs written by hand in both engines, for what a VAE with a linear decoder cannot be: two modes, a latent class.

``TwoModes``: z ~ N(0, 1), x_0 ~ N(z² + z / 4, s²), x_1 ~ N(3 z, s²). With x_0 alone observed z has two modes, far apart
in x_1. The guide knows complete rows well; where x_1 is missing it knows of the mode with z > 0 only.

``Classes``: c ~ Bernoulli(0.4), x_i ~ N(3 c, 1), i = 0, 1; the guide takes both classes for equally likely.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import torch
from engines import NUMPYRO, PYRO
from numpyro import distributions as numpyro_dist
from pyro import distributions as pyro_dist
from scipy import stats

NOISE = 0.4
IMPUTERS = ("mcmc", "sir", "gibbs", "pseudo-gibbs", "adaptive-gibbs", "lair", "auto")


class Handmade:
    family, likelihood, imputers, event_shape = "handmade", "bound", IMPUTERS, (2,)

    def check_data(self, x: Any, **_: Any) -> np.ndarray:
        return np.asarray(x, dtype=np.float32)

    def spec(self) -> dict[str, Any]:
        return {}

    def diagnose(self, x: Any) -> list[Warning]:
        return []

    def state_dict(self) -> dict[str, Any]:
        return {}


class NumPyroTwoModes(Handmade):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        rows = size if x is None else len(x)
        with numpyro.plate("data", rows):
            z = numpyro.sample("z", numpyro_dist.Normal(jnp.zeros((rows, 1)), 1.0).to_event(1))
            loc = jnp.concatenate([z**2 + z / 4, 3 * z], axis=-1)
            return numpyro.sample("x", numpyro_dist.Normal(loc, NOISE).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        known = ~jnp.isnan(x[:, 1:])
        loc = jnp.where(known, jnp.where(known, x[:, 1:], 0.0) / 3, 1.35)
        with numpyro.plate("data", len(x)):
            return numpyro.sample("z", numpyro_dist.Normal(loc, 0.18).to_event(1))


class PyroTwoModes(Handmade):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        rows = size if x is None else len(x)
        with pyro.plate("data", rows):
            z = pyro.sample("z", pyro_dist.Normal(torch.zeros(rows, 1), 1.0).to_event(1))
            loc = torch.cat([z**2 + z / 4, 3 * z], dim=-1)
            return pyro.sample("x", pyro_dist.Normal(loc, NOISE).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        loc = torch.where(torch.isnan(x[:, 1:]), torch.tensor(1.35), torch.nan_to_num(x[:, 1:]) / 3)
        with pyro.plate("data", len(x)):
            return pyro.sample("z", pyro_dist.Normal(loc, 0.18).to_event(1))


class NumPyroClasses(Handmade):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        with numpyro.plate("data", size if x is None else len(x)):
            c = numpyro.sample("c", numpyro_dist.Bernoulli(0.4))
            loc = 3.0 * jnp.stack([c, c], axis=-1)
            return numpyro.sample("x", numpyro_dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with numpyro.plate("data", size if x is None else len(x)):
            return numpyro.sample("c", numpyro_dist.Bernoulli(0.5))


class PyroClasses(Handmade):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        with pyro.plate("data", size if x is None else len(x)):
            c = pyro.sample("c", pyro_dist.Bernoulli(0.4))
            loc = 3.0 * torch.stack([c, c], dim=-1)
            return pyro.sample("x", pyro_dist.Normal(loc, 1.0).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        rows = size if x is None else len(x)
        with pyro.plate("data", rows):
            return pyro.sample("c", pyro_dist.Bernoulli(0.5).expand([rows]))


TWO_MODES = {NUMPYRO: NumPyroTwoModes(), PYRO: PyroTwoModes()}
CLASSES = {NUMPYRO: NumPyroClasses(), PYRO: PyroClasses()}


def two_modes_law(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n, 1) and covariance (n, 1, 1) of x_1 given x_0 = ``first``, by a sum over a grid."""
    grid = np.linspace(-6, 6, 4001)
    log_weight = stats.norm.logpdf(grid) + stats.norm.logpdf(first[:, None], grid**2 + grid / 4, NOISE)
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = weight @ (3 * grid)
    return mean[:, None], (weight @ (9 * grid**2) - mean**2 + NOISE**2)[:, None, None]


def classes_law(first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (n, 1) and covariance (n, 1, 1) of x_1 given x_0 = ``first``."""
    odds = 0.4 / 0.6 * np.exp(stats.norm.logpdf(first, 3) - stats.norm.logpdf(first, 0))
    one = odds / (1 + odds)
    return 3 * one[:, None], (9 * one * (1 - one) + 1)[:, None, None]


def half_missing(first: np.ndarray) -> np.ndarray:
    """Rows with x_0 given and x_1 missing."""
    return np.stack([first, np.full_like(first, np.nan)], axis=1)
