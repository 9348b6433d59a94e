"""Importance-weighted objectives by hand, in NumPy float64, on models written once for both engines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyro
import torch
from objectives import NOISE, NUMPYRO, PYRO, SD, A, Engine, W, X
from scipy.special import logsumexp

from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi

ENGINES = [NUMPYRO, PYRO]
ROOM: dict[Engine, Any] = {NUMPYRO: nsvi, PYRO: psvi}
ROWS = X * np.array([[0.1], [1.0], [2.0], [4.0]], dtype=np.float32)
"""Rows that differ a lot: the weights of a whole batch are those of its last row."""
PARAMS = {"a": A, "w": W, "c": np.array([0.3, -0.2], dtype=np.float32)}
Params = dict[str, np.ndarray]


def record(engine: Engine, log: list[np.ndarray], value: Any) -> None:
    """Write down a draw, wherever it is drawn: inside of vmap too, or in a plate of particles."""
    if engine is NUMPYRO:
        jax.debug.callback(lambda array: log.append(np.array(array)), value)
    elif torch.is_grad_enabled():
        log.extend(value.detach().numpy() if value.ndim > 2 else [value.detach().numpy()])


def linear_pair(
    engine: Engine, log: list[np.ndarray] | None = None, subsample: int | None = None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A linear-Gaussian model and guide that share the parameter c; with a log the guide's draws are written there."""

    def plate(x: Any) -> Any:
        return engine.plate("data", len(x), subsample_size=subsample)

    def model(x: Any) -> None:
        w, c = (engine.param(name, engine.array(PARAMS[name])) for name in "wc")
        with plate(x) as rows:
            z = engine.sample("z", engine.dist.Normal(c + engine.array(np.zeros((len(rows), 2))), 1.0).to_event(1))
            engine.sample("x", engine.dist.Normal(z @ w.T, NOISE).to_event(1), obs=x[rows])

    def guide(x: Any) -> None:
        a, c = (engine.param(name, engine.array(PARAMS[name])) for name in "ac")
        with plate(x) as rows:
            z = engine.sample("z", engine.dist.Normal(x[rows] @ a.T + c, engine.array(SD)).to_event(1))
        if log is not None:
            record(engine, log, z)

    return model, guide


def evaluate(
    engine: Engine, objective: Any, model: Any, guide: Any, *args: Any, params: Params = PARAMS, seed: int = 0
) -> tuple[float, Params]:
    """The loss and its gradient by every parameter, at one seed."""
    if engine is NUMPYRO:

        def loss(values: Any) -> Any:
            return objective.loss(jax.random.key(seed), values, model, guide, *args)

        at = {name: jnp.asarray(array) for name, array in params.items()}
        value, gradient = jax.jit(jax.value_and_grad(loss))(at)
        jax.effects_barrier()
        return float(value), {name: np.asarray(array) for name, array in gradient.items()}
    with pyro.get_param_store().scope():
        pyro.set_rng_seed(seed)
        value = objective.loss_and_grads(model, guide, *args)
        store = dict(pyro.get_param_store().named_parameters())
        return value, {name: store[name].grad.numpy() for name in params}


def log_weights(params: Params, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(K, n): log p(x, z) - log q(z | x) of the linear pair."""

    def normal(value: np.ndarray, mean: np.ndarray, sd: float) -> np.ndarray:
        return (-0.5 * ((value - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)).sum(-1)

    p = normal(z, params["c"], 1.0) + normal(x, z @ params["w"].T, NOISE)
    return p - normal(z, x @ params["a"].T + params["c"], SD)


def iwae_by_hand(params: Params, x: np.ndarray, z: np.ndarray) -> tuple[float, Params]:
    """The loss at these draws (K, n, 2), and its gradient by central differences with the draws' noise held."""
    params = {name: value.astype(float) for name, value in params.items()}
    x, z = x.astype(float), z.astype(float)
    noise = z - x @ params["a"].T - params["c"]

    def loss(at: Params) -> float:
        weights = log_weights(at, x, x @ at["a"].T + at["c"] + noise)
        return -float((logsumexp(weights, axis=0) - np.log(len(z))).sum())

    gradient = {}
    for name, value in params.items():
        gradient[name] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            step = np.zeros_like(value)
            step[index] = 1e-5
            high, low = ({**params, name: value + sign * step} for sign in (1, -1))
            gradient[name][index] = (loss(high) - loss(low)) / 2e-5
    return loss(params), gradient


def dreg_by_hand(params: Params, x: np.ndarray, z: np.ndarray, power: int = 2) -> Params:
    """The doubly reparameterised gradient at these draws (Tucker et al. 2019); ``power`` 1 is a known fault."""
    params = {name: value.astype(float) for name, value in params.items()}
    x, z = x.astype(float), z.astype(float)
    weights = np.exp(log_weights(params, x, z))
    weights /= weights.sum(0)
    error = x - z @ params["w"].T
    mean = x @ params["a"].T + params["c"]
    by_z = -(z - params["c"]) + error @ params["w"] / NOISE**2 + (z - mean) / SD**2
    path = weights[..., None] ** power * by_z
    prior = weights[..., None] * (z - params["c"])
    return {
        "a": -np.einsum("kni,nj->ij", path, x),
        "c": -(path + prior).sum((0, 1)),
        "w": -np.einsum("kn,kni,knj->ij", weights, error, z) / NOISE**2,
    }


DEEP = {
    name: np.array(value, dtype=np.float32)
    for name, value in {"a": 0.3, "b": 0.4, "c": -0.2, "d": 0.3, "g": 0.9, "t": 0.8}.items()
}
DEEP_ROWS = np.array([0.4, 1.5, 3.0], dtype=np.float32)


def deep_pair(engine: Engine) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two levels, z2 -> z1 -> x, where the guide's z1 is a trained function of an auxiliary draw that depends on z2.

    c is shared by model and guide, g is the model's alone, the others are the guide's.
    """

    def get(*names: str) -> Any:
        found = [engine.param(name, engine.array(DEEP[name])) for name in names]
        return found if len(found) > 1 else found[0]

    def model(x: Any) -> None:
        c, g = get("c", "g")
        with engine.plate("data", len(x)):
            z2 = engine.sample("z2", engine.dist.Normal(c + 0.0 * x, 1.0))
            z1 = engine.sample("z1", engine.dist.LogNormal(0.5 * z2, 0.7))
            engine.sample("x", engine.dist.Normal(g * z1, 0.5), obs=x)

    def guide(x: Any) -> None:
        a, b, c, d, t = get("a", "b", "c", "d", "t")
        with engine.plate("data", len(x)):
            z2 = engine.sample("z2", engine.dist.Normal(a * x + c, 0.8))
            u = engine.sample("u", engine.dist.Normal(b * z2 + d * x, 0.6), infer={"is_auxiliary": True})
            density = -engine.numerics.log(t) - t * u
            engine.sample("z1", engine.dist.Delta(engine.numerics.exp(t * u), log_density=density))

    return model, guide
