"""Energy-based programs whose law is known: a quadratic energy on a normal, and binary ones whose states are summed."""

from itertools import product
from typing import Any

import numpy as np
from scipy.special import log_expit, logsumexp
from sequence_laws import normal

SIZE = 4
STATES = np.array(list(product([0.0, 1.0], repeat=SIZE)))


def quadratic() -> dict[str, Any]:
    """N(m, S) exp(-|W x + b|^2 / 2): a normal whose precision is S^-1 + W'W."""
    rng = np.random.default_rng(8)
    weight, bias = rng.normal(size=(3, SIZE)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    loc, scale = rng.normal(size=SIZE).astype(np.float32), np.float32([1.5, 0.8, 1.2, 2.0])
    precision = np.diag(1 / scale.astype(float) ** 2) + weight.T.astype(float) @ weight
    mean = np.linalg.solve(precision, loc / scale.astype(float) ** 2 - weight.T.astype(float) @ bias)
    return {
        "config": _config("diagonal", {"energy": "quadratic", "in_size": SIZE, "out_size": 3}, "hamiltonian"),
        "tensors": {"base.loc": loc, "base.log_scale": np.log(scale), "energy.weight": weight, "energy.bias": bias},
        **normal(mean, np.linalg.inv(precision)),
        **_COMMON,
    }


def machine() -> dict[str, Any]:
    """A restricted Boltzmann machine, its hidden states summed one by one."""
    rng = np.random.default_rng(9)
    weight = 1.3 * rng.normal(size=(3, SIZE)).astype(np.float32)
    visible, hidden = rng.normal(size=SIZE).astype(np.float32), rng.normal(size=3).astype(np.float32)
    logits = np.float32([0.4, -0.6, 0.2, -0.1])
    units = np.array(list(product([0.0, 1.0], repeat=3)))
    joint = units @ hidden.astype(float) + STATES @ weight.T.astype(float) @ units.T
    score = STATES @ (visible.astype(float) + logits) + logsumexp(joint, axis=1)
    tensors = {"energy.weight": weight, "energy.visible_bias": visible, "energy.hidden_bias": hidden}
    return {
        "config": _config("bernoulli", {"energy": "rbm", "visible_dim": SIZE, "hidden_dim": 3}, "block-gibbs"),
        "tensors": {"base.logits": logits, **tensors},
        **_table(score),
        **_COMMON,
    }


def flipped() -> dict[str, Any]:
    """A quadratic energy of zeros and ones: an Ising model."""
    rng = np.random.default_rng(10)
    weight, bias = rng.normal(size=(2, SIZE)).astype(np.float32), rng.normal(size=2).astype(np.float32)
    logits = np.float32([0.5, -0.3, 0.1, 0.8])
    base = log_expit(np.where(STATES == 1, logits, -logits)).sum(-1)
    score = base - 0.5 * ((STATES @ weight.T.astype(float) + bias) ** 2).sum(-1)
    return {
        "config": _config("bernoulli", {"energy": "quadratic", "in_size": SIZE, "out_size": 2}, "flips"),
        "tensors": {"base.logits": logits, "energy.weight": weight, "energy.bias": bias},
        **_table(score),
        **_COMMON,
    }


def _config(base: str, energy: dict[str, Any], kernel: str) -> dict[str, Any]:
    return {"event_shape": [SIZE], "base": base, "energy": energy, "kernel": kernel}


def _table(score: np.ndarray) -> dict[str, Any]:
    log_p = score - logsumexp(score)

    def conditional(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = x.reshape(len(x), -1)
        fits = (np.isnan(flat)[:, None] | (flat[:, None] == STATES)).all(-1)
        p = np.where(fits, np.exp(log_p), 0.0)
        p = p / p.sum(1, keepdims=True)
        centred = STATES - (p @ STATES)[:, None]
        return p @ STATES, np.einsum("ns,nsi,nsj->nij", p, centred, centred)

    return {
        "log_prob": lambda x: log_p[(x.astype(int) @ 2 ** np.arange(SIZE)[::-1])],
        "draw": lambda rng, n: STATES[rng.choice(len(STATES), n, p=np.exp(log_p))].astype(np.float32),
        "conditional": conditional,
        "discrete": True,
    }


_COMMON: dict[str, Any] = {
    "event_shape": (SIZE,),
    "integer": False,
    "tight": True,
    "exact": True,
    "latent": False,
    "generator": "energy",
    "posterior": lambda x: {},
    "decode": lambda latents: np.zeros(SIZE),
}
