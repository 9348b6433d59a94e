"""A program with classes whose law is known: x = W z + b + B_y + s e, in NumPy float64; its guide is not exact."""

from typing import Any

import numpy as np
from element_laws import SCALE, squash, stretch
from oracles import POSTERIOR_SCALE
from scipy import stats
from scipy.special import log_softmax, logsumexp, softmax

K, D = 3, 4
_LINEAR: dict[str, Any] = {"network": "MLP", "hidden": [], "activation": "gelu"}
CONFIG = {
    "program": "class_conditional",
    "latent_dim": 1,
    "num_classes": K,
    "learn_classes": True,
    "observation": {"law": "gaussian", "event_shape": [D]},
    "classifier": {**_LINEAR, "in_size": D, "out_size": K},
    "encoder": {**_LINEAR, "in_size": D + K, "out_size": 2},
    "decoder": {**_LINEAR, "in_size": 1 + K, "out_size": D},
}


def _float32(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float32).astype(float)


LOADING = _float32([0.7, -0.5, 0.4, 0.6])
SHIFTS = _float32([[1.2, 0.0, -0.9, 0.3], [-1.0, 0.8, 0.2, 0.5], [0.1, -1.1, 0.6, -0.7]])
OFFSET = _float32([0.3, -0.2, 0.1, 0.5])
LOG_PI = log_softmax(_float32([0.2, -0.4, 0.5]))
RAW = stretch(np.log(0.7), *SCALE).astype(np.float32)
SD = float(np.exp(squash(RAW, *SCALE)))
COVARIANCE = np.outer(LOADING, LOADING) + SD**2 * np.eye(D)
CENTRES = OFFSET + SHIFTS

GAIN = _float32(0.8 * LOADING / (SD**2 + LOADING @ LOADING))
SPREAD = 1.5 * np.sqrt(SD**2 / (SD**2 + LOADING @ LOADING))
SLOPES = _float32(0.5 * np.linalg.solve(COVARIANCE, CENTRES.T).T)
CONSTANTS = _float32(LOG_PI - 0.5 * np.einsum("kd,kd->k", CENTRES, np.linalg.solve(COVARIANCE, CENTRES.T).T))

TENSORS = {
    name: np.asarray(value, dtype=np.float32)
    for name, value in {
        "classifier.layers.0.weight": SLOPES,
        "classifier.layers.0.bias": CONSTANTS,
        "encoder.layers.0.weight": np.stack([np.concatenate([GAIN, -CENTRES @ GAIN]), np.zeros(D + K)]),
        "encoder.layers.0.bias": np.array([0.0, stretch(np.log(SPREAD), *POSTERIOR_SCALE)]),
        "decoder.layers.0.weight": np.concatenate([LOADING[:, None], SHIFTS.T], axis=1),
        "decoder.layers.0.bias": OFFSET,
        "observation.raw_scale": RAW,
        "classes.logits": [0.2, -0.4, 0.5],
        "fill": OFFSET,
    }.items()
}


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Data and their classes."""
    y = rng.choice(K, size=n, p=np.exp(LOG_PI))
    x = CENTRES[y] + rng.standard_normal((n, 1)) * LOADING + SD * rng.standard_normal((n, D))
    return x.astype(np.float32), y.astype(np.int32)


def log_joint(x: np.ndarray) -> np.ndarray:
    """log p(x_observed, y) of each row and class, (n, K)."""
    found = np.zeros((len(x), K))
    for i, row in enumerate(x.astype(float)):
        seen = np.flatnonzero(~np.isnan(row))
        for k in range(K):
            law = stats.multivariate_normal(CENTRES[k, seen], COVARIANCE[np.ix_(seen, seen)])
            found[i, k] = LOG_PI[k] + law.logpdf(row[seen])
    return found


def log_prob(x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """log p(x_observed), or log p(x_observed | y) where y >= 0."""
    joint = log_joint(x)
    whole = logsumexp(joint, axis=1)
    return whole if y is None else np.where(y >= 0, joint[np.arange(len(x)), y] - LOG_PI[y], whole)


def conditional(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of (x, z) given what is observed of x and y, (n, D + 1) each."""
    joint = log_joint(x)
    mean, variance = np.zeros((2, len(x), D + 1))
    both = np.concatenate([LOADING, [1.0]])
    whole = np.outer(both, both) + np.diag([SD**2] * D + [0.0])
    for i, row in enumerate(x.astype(float)):
        seen = np.flatnonzero(~np.isnan(row))
        regression = np.linalg.solve(whole[np.ix_(seen, seen)], whole[seen]).T
        spread = np.diag(whole - regression @ whole[seen])
        weights = softmax(joint[i]) if y[i] < 0 else np.eye(K)[y[i]]
        centres = np.concatenate([CENTRES, np.zeros((K, 1))], axis=1)
        means = centres + (row[seen] - CENTRES[:, seen]) @ regression.T
        mean[i] = weights @ means
        variance[i] = weights @ (means**2 + spread) - mean[i] ** 2
    return mean, variance


def log_q(x: np.ndarray) -> np.ndarray:
    """The classifier's log q(y | x), (n, K)."""
    return log_softmax(np.where(np.isnan(x), OFFSET, x) @ SLOPES.T + CONSTANTS, axis=1)


def class_bound(x: np.ndarray) -> np.ndarray:
    """E_q(z|x,y)[log p(x, y, z) - log q(z | x, y)] of each row and class, (n, K)."""
    seen = ~np.isnan(x)[:, None]
    left = np.where(np.isnan(x), OFFSET, x)[:, None] - CENTRES
    mean = left @ GAIN
    error = (left - mean[..., None] * LOADING) ** 2 + SPREAD**2 * LOADING**2
    fit = (seen * (-0.5 * np.log(2 * np.pi * SD**2) - error / (2 * SD**2))).sum(-1)
    kl = 0.5 * (mean**2 + SPREAD**2 - 1) - np.log(SPREAD)
    return LOG_PI + fit - kl


def loss(x: np.ndarray, y: np.ndarray, alpha: float = 0.0, *, entropy: bool = True) -> float:
    """The paper's objective, equation 9, as a loss summed over rows; without the entropy of q(y | x) it is wrong."""
    x = x.astype(float)
    bound, guess = class_bound(x), log_q(x)
    unknown = (np.exp(guess) * (bound - (guess if entropy else 0.0))).sum(1)
    rows = np.arange(len(x))
    known = bound[rows, y] + alpha * guess[rows, y]
    return -float(np.where(y >= 0, known, unknown).sum())
