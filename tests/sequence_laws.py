"""Autoregressive programs whose law is known: linear-Gaussian regressions, and an enumerated binary table."""

from itertools import product
from typing import Any

import numpy as np
from element_laws import SCALE, squash, stretch
from scipy import stats
from scipy.special import log_expit, logsumexp

ORDER = [2, 0, 3, 1]
ORDERS = (ORDER, [0, 2, 1, 3])
"""They have their first two entries in common, in another order."""
Moments = tuple[np.ndarray, np.ndarray]


def _config(law: str) -> dict[str, Any]:
    network = {"network": "MaskedMLP", "event_shape": [4], "num_params": 1, "hidden": [], "order": [[i] for i in ORDER]}
    return {"observation": {"law": law, "event_shape": [4]}, "network": network}


def _weights(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All weights, those that the order leaves, and offsets; the others must not matter."""
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(4, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    return weight, _kept(weight, ORDER), bias


def _kept(weight: np.ndarray, order: list[int]) -> np.ndarray:
    """The weights of entries that come earlier in an order."""
    when = {entry: t for t, entry in enumerate(order)}
    earlier = np.array([[when[j] < when[i] for j in range(4)] for i in range(4)])
    return np.where(earlier, weight, 0.0).astype(float)


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


def binary_table(orders: tuple[list[int], ...] = (ORDER,), shift: Any = 0.0) -> dict[str, Any]:
    """Logistic regressions on what is decided before, or a mixture over orders; all 16 states are enumerated."""
    weight, _, bias = _weights(4)
    # so far apart that it matters how much an order weighs in
    weight, bias = weight * np.float32(len(orders)), bias + np.float32(shift)
    states = np.array(list(product([0.0, 1.0], repeat=4)))

    def under(order: list[int]) -> np.ndarray:
        logits = states @ _kept(weight, order).T + bias
        return log_expit(np.where(states == 1, logits, -logits)).sum(-1)

    log_p = logsumexp([under(order) for order in orders], axis=0) - np.log(len(orders))

    def fitting(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), 1, -1)
        return (np.isnan(flat) | (flat == states)).all(-1)

    def log_prob(x: np.ndarray) -> np.ndarray:
        return logsumexp(np.where(fitting(x), log_p, -np.inf), axis=1)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return states[rng.choice(16, n, p=np.exp(log_p - logsumexp(log_p)))].astype(np.float32)

    def conditional(x: np.ndarray) -> Moments:
        p = np.where(fitting(x), np.exp(log_p), 0.0)
        p = p / p.sum(1, keepdims=True)
        mean = p @ states
        centred = states - mean[:, None]
        return mean, np.einsum("ns,nsi,nsj->nij", p, centred, centred)

    members = {"members": [[[[i] for i in order], None] for order in orders]} if len(orders) > 1 else {}
    return {
        "config": {**_config("bernoulli"), **members},
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
