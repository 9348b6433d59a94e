"""A linear-Gaussian model, whose bound is known in closed form, written in both engines, and objectives tried on it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as ndist
import pyro
import pyro.distributions as pdist
import torch
from numpyro import handlers

from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi

W = np.array([[1.0, 0.5], [0.0, 0.8], [-0.4, 0.3]], dtype=np.float32)
A = np.array([[0.5, -0.1, 0.2], [0.1, 0.6, -0.3]], dtype=np.float32)
NOISE, SD = 0.5, 0.6
X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def exact_terms(x: np.ndarray = X) -> tuple[float, float]:
    """E_q[-log p(x | z)] and KL(q || p), summed over the rows, in float64."""
    x, w = x.astype(np.float64), W.astype(np.float64)
    mean = x @ A.T.astype(np.float64)
    error = ((x - mean @ w.T) ** 2).sum() + len(x) * SD**2 * (w**2).sum()
    reconstruction = x.size * (0.5 * np.log(2 * np.pi) + np.log(NOISE)) + error / (2 * NOISE**2)
    kl = 0.5 * (mean**2 + SD**2 - 1 - 2 * np.log(SD)).sum()
    return float(reconstruction), float(kl)


@dataclass(frozen=True)
class Engine:
    """What a test needs of an engine, under one name in both."""

    name: str
    ELBO: Any
    numerics: Any
    dist: Any
    sample: Callable[..., Any]
    plate: Callable[..., Any]
    param: Callable[..., Any]
    factor: Callable[..., Any]
    array: Callable[[Any], Any]
    losses: Callable[..., np.ndarray]
    gradient: Callable[..., dict[str, np.ndarray]]
    trace_elbo: Callable[..., Any]
    scale: Callable[..., Any]
    mask: Callable[..., Any]
    trace_graph: str

    def __repr__(self) -> str:
        return self.name

    def pair(self, prior: str = "Normal") -> tuple[Callable[..., Any], Callable[..., Any]]:
        """The linear-Gaussian model with its guide; another prior has no closed-form KL."""
        laws: dict[str, Callable[..., Any]] = {
            "Normal": lambda zero: self.dist.Normal(zero, 1.0),
            "StudentT": lambda zero: self.dist.StudentT(5.0, zero, 1.0),
        }

        def model(x: Any) -> None:
            with self.plate("data", len(x)):
                z = self.sample("z", laws[prior](self.array(np.zeros((len(x), 2)))).to_event(1))
                self.sample("x", self.dist.Normal(z @ self.array(W).T, NOISE).to_event(1), obs=x)

        def guide(x: Any) -> None:
            a = self.param("a", self.array(A))
            with self.plate("data", len(x)):
                self.sample("z", self.dist.Normal(x @ a.T, self.array(SD)).to_event(1))

        return model, guide


def _numpyro_losses(objective: Any, model: Any, guide: Any, *args: Any, count: int = 1, seed: int = 0) -> np.ndarray:
    params = _numpyro_params(model, guide, *args)
    keys = jax.random.split(jax.random.key(seed), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: objective.loss(key, params, model, guide, *args)))(keys))


def _numpyro_params(model: Any, guide: Any, *args: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for fn in (handlers.seed(guide, 0), handlers.seed(model, 0)):
        trace = handlers.trace(fn).get_trace(*args)
        found |= {name: site["value"] for name, site in trace.items() if site["type"] == "param"}
    return found


def _numpyro_gradient(objective: Any, model: Any, guide: Any, *args: Any, seed: int = 0) -> dict[str, np.ndarray]:
    def loss(params: Any) -> Any:
        return objective.loss(jax.random.key(seed), params, model, guide, *args)

    return {name: np.asarray(g) for name, g in jax.jit(jax.grad(loss))(_numpyro_params(model, guide, *args)).items()}


def _pyro_losses(objective: Any, model: Any, guide: Any, *args: Any, count: int = 1, seed: int = 0) -> np.ndarray:
    with pyro.get_param_store().scope():
        losses = []
        for i in range(count):
            pyro.set_rng_seed(seed + i)
            losses.append(objective.loss(model, guide, *args))
        return np.array(losses)


def _pyro_gradient(objective: Any, model: Any, guide: Any, *args: Any, seed: int = 0) -> dict[str, np.ndarray]:
    with pyro.get_param_store().scope():
        pyro.set_rng_seed(seed)
        objective.loss_and_grads(model, guide, *args)
        return {name: param.grad.numpy() for name, param in pyro.get_param_store().named_parameters()}


def _tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, dtype=np.float32))


NUMPYRO = Engine(
    "numpyro",
    nsvi.ELBO,
    jnp,
    ndist,
    numpyro.sample,
    numpyro.plate,
    numpyro.param,
    numpyro.factor,
    lambda values: jnp.asarray(values, dtype=jnp.float32),
    _numpyro_losses,
    _numpyro_gradient,
    numpyro.infer.Trace_ELBO,
    numpyro.handlers.scale,
    numpyro.handlers.mask,
    "TraceGraph_ELBO",
)
PYRO = Engine(
    "pyro",
    psvi.ELBO,
    torch,
    pdist,
    pyro.sample,
    pyro.plate,
    pyro.param,
    pyro.factor,
    _tensor,
    _pyro_losses,
    _pyro_gradient,
    pyro.infer.Trace_ELBO,
    pyro.poutine.scale,
    pyro.poutine.mask,
    "TraceGraph_ELBO",
)
