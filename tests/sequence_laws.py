"""Autoregressive programs whose law is known: linear-Gaussian regressions, and an enumerated binary table."""

from itertools import product
from typing import Any

import numpy as np
from element_laws import SCALE, squash, stretch
from scipy import stats
from scipy.special import log_expit, logsumexp

ORDER = [2, 0, 3, 1]
Moments = tuple[np.ndarray, np.ndarray]


def _config(law: str) -> dict[str, Any]:
    network = {"network": "MaskedMLP", "event_shape": [4], "num_params": 1, "hidden": [], "order": [[i] for i in ORDER]}
    return {"observation": {"law": law, "event_shape": [4]}, "network": network}


def _weights(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All weights, those that the order leaves, and offsets; the others must not matter."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(4, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    when = {entry: t for t, entry in enumerate(ORDER)}
    earlier = np.array([[when[j] < when[i] for j in range(4)] for i in range(4)])
    return weight, np.where(earlier, weight, 0.0).astype(float), bias


def normal(mean: np.ndarray, covariance: np.ndarray) -> dict[str, Any]:
    """Draws, the density and the conditionals of a normal."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.multivariate_normal(mean, covariance, n).astype(np.float32)

    def given(row: np.ndarray) -> Moments:
        seen = np.flatnonzero(~np.isnan(row))
        gain = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen]).T
        return mean + gain @ (row[seen] - mean[seen]), covariance - gain @ covariance[seen]

    def conditional(x: np.ndarray) -> Moments:
        found = [given(row) for row in x.reshape(len(x), -1).astype(float)]
        return np.stack([m for m, _ in found]), np.stack([c for _, c in found])

    def log_prob(row: np.ndarray) -> float:
        seen = np.flatnonzero(~np.isnan(row))
        return float(stats.multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)]).logpdf(row[seen]))

    return {
        "log_prob": lambda x: np.array([log_prob(row) for row in x.reshape(len(x), -1).astype(float)]),
        "draw": draw,
        "conditional": conditional,
    }


def linear_regressions() -> dict[str, Any]:
    """x_i = b_i + sum over what is decided before of A_ij x_j + s e."""
    weight, kept, bias = _weights(3)
    raw = stretch(np.log(0.7), *SCALE).astype(np.float32)
    inverse = np.linalg.inv(np.eye(4) - kept)
    mean, covariance = inverse @ bias, inverse @ inverse.T * np.exp(2 * squash(raw, *SCALE))

    return {
        "config": _config("gaussian"),
        "tensors": {"network.layers.0.weight": weight, "network.layers.0.bias": bias, "observation.raw_scale": raw},
        **normal(mean, covariance),
        **_COMMON,
    }


def binary_table() -> dict[str, Any]:
    """Logistic regressions on what is decided before; all 16 states are enumerated."""
    weight, kept, bias = _weights(4)
    states = np.array(list(product([0.0, 1.0], repeat=4)))

    def log_prob(x: np.ndarray) -> np.ndarray:
        logits = x @ kept.T + bias
        return log_expit(np.where(x == 1, logits, -logits)).sum(-1)

    log_p = log_prob(states)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return states[rng.choice(16, n, p=np.exp(log_p - logsumexp(log_p)))].astype(np.float32)

    def conditional(x: np.ndarray) -> Moments:
        flat = x.reshape(len(x), -1)
        fits = (np.isnan(flat)[:, None] | (flat[:, None] == states)).all(-1)
        p = np.where(fits, np.exp(log_p), 0.0)
        p = p / p.sum(1, keepdims=True)
        mean = p @ states
        centred = states - mean[:, None]
        return mean, np.einsum("ns,nsi,nsj->nij", p, centred, centred)

    return {
        "config": _config("bernoulli"),
        "tensors": {"network.layers.0.weight": weight, "network.layers.0.bias": bias},
        "discrete": True,
        "log_prob": lambda x: log_prob(x.astype(float)),
        "draw": draw,
        "conditional": conditional,
        **_COMMON,
    }


_COMMON: dict[str, Any] = {
    "event_shape": (4,),
    "integer": False,
    "tight": True,
    "exact": True,
    "latent": False,
    "generator": "network",
    "order": tuple(ORDER),
    "posterior": lambda x: {},
    "decode": lambda latents: np.zeros(4),
}
