"""A program with classes and two correlated latents: their prior an affine flow, its guide exact, full covariance."""

from typing import Any

import labelling
import numpy as np
from element_laws import SCALE, squash, stretch
from flow_laws import affine_config, affine_posterior, affine_prior
from labelling import CENTRES, LOG_PI, OFFSET, SHIFTS, D, K
from oracles import POSTERIOR_SCALE
from scipy import stats
from scipy.special import logsumexp, softmax

L = 2
CONFIG: dict[str, Any] = labelling.CONFIG | {
    "latent_dim": L,
    "encoder": {**labelling.CONFIG["encoder"], "out_size": 5},
    "decoder": {**labelling.CONFIG["decoder"], "in_size": L + K},
    "posterior": {"posterior": "full"},
    "prior": {"prior": "flow", "flow": affine_config(L)},
}
LOADING = np.float32([[0.7, 0.5], [-0.5, 0.3], [0.4, -0.2], [0.6, 0.6]]).astype(float)
RAW = np.float32(0.6)
NOISE = float(np.exp(squash(RAW, *SCALE)))
CENTRE, WIDE, FLOW = affine_prior(L)

_prior = np.linalg.inv(WIDE @ WIDE.T)
LEFT = np.linalg.inv(_prior + LOADING.T @ LOADING / NOISE**2)
_gain, _root = LEFT @ LOADING.T / NOISE**2, np.linalg.cholesky(LEFT)
MEANS = np.concatenate([CENTRES + LOADING @ CENTRE, np.tile(CENTRE, (K, 1))], axis=1)
_joint = np.concatenate([LOADING @ WIDE, WIDE])
COVARIANCE = _joint @ _joint.T + np.diag([NOISE**2] * D + [0.0] * L)
"""Of x and z together, whatever the class; `MEANS` are those of each."""
_slopes = np.linalg.solve(COVARIANCE[:D, :D], MEANS[:, :D].T).T
_exact = np.concatenate([_gain, -_gain @ SHIFTS.T], axis=1), LEFT @ _prior @ CENTRE - _gain @ OFFSET

TENSORS = {
    name: np.asarray(value, dtype=np.float32)
    for name, value in {
        "classifier.layers.0.weight": _slopes,
        "classifier.layers.0.bias": LOG_PI - 0.5 * (MEANS[:, :D] * _slopes).sum(1),
        "encoder.layers.0.weight": np.concatenate([_exact[0], np.zeros((3, D + K))]),
        "encoder.layers.0.bias": np.concatenate(
            [_exact[1], stretch(np.log(np.diag(_root)), *POSTERIOR_SCALE), _root[1:, 0]]
        ),
        "decoder.layers.0.weight": np.concatenate([LOADING, SHIFTS.T], axis=1),
        "decoder.layers.0.bias": OFFSET,
        "observation.raw_scale": RAW,
        "classes.logits": labelling.TENSORS["classes.logits"],
        "fill": OFFSET + LOADING @ CENTRE,
        **FLOW,
    }.items()
}

_carried, _spread, _after = affine_posterior(np.linalg.inv(LEFT), *_exact)
BY_FLOW: tuple[dict[str, Any], dict[str, np.ndarray]] = (
    CONFIG
    | {
        "encoder": {**CONFIG["encoder"], "out_size": 2 * L},
        "posterior": {"posterior": "flow", "flow": affine_config(L)},
    },
    TENSORS
    | {
        "encoder.layers.0.weight": np.float32(np.concatenate([_carried[0], np.zeros((L, D + K))])),
        "encoder.layers.0.bias": np.float32(np.concatenate([_carried[1], stretch(np.log(_spread), *POSTERIOR_SCALE)])),
        **_after,
    },
)
"""Configuration and parameters where a diagonal normal and an affine map after it are that guide."""


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Data and their classes."""
    y = rng.choice(K, size=n, p=np.exp(LOG_PI))
    z = CENTRE + rng.standard_normal((n, L)) @ WIDE.T
    x = CENTRES[y] + z @ LOADING.T + NOISE * rng.standard_normal((n, D))
    return x.astype(np.float32), y.astype(np.int32)


def log_joint(x: np.ndarray) -> np.ndarray:
    """log p(x_observed, y) of each row and class, (n, K)."""
    found = np.zeros((len(x), K))
    for i, row in enumerate(x.astype(float)):
        seen = np.flatnonzero(~np.isnan(row))
        for k in range(K):
            law = stats.multivariate_normal(MEANS[k, seen], COVARIANCE[np.ix_(seen, seen)])
            found[i, k] = LOG_PI[k] + law.logpdf(row[seen])
    return found


def known(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p(x_observed, y) where y is known, log p(x_observed) where it is not."""
    joint = log_joint(x)
    return np.where(y >= 0, joint[np.arange(len(x)), y], logsumexp(joint, axis=1))


def conditional(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (x, z) given what is observed of x and y, (n, D + L) and (n, D + L, D + L)."""
    joint = log_joint(x)
    mean, covariance = np.zeros((len(x), D + L)), np.zeros((len(x), D + L, D + L))
    for i, row in enumerate(x.astype(float)):
        seen = np.flatnonzero(~np.isnan(row))
        regression = np.linalg.solve(COVARIANCE[np.ix_(seen, seen)], COVARIANCE[seen]).T
        weights = softmax(joint[i]) if y[i] < 0 else np.eye(K)[y[i]]
        means = MEANS + (row[seen] - MEANS[:, seen]) @ regression.T
        mean[i] = weights @ means
        centred = means - mean[i]
        covariance[i] = COVARIANCE - regression @ COVARIANCE[seen] + (weights * centred.T) @ centred
        covariance[i, seen] = covariance[i, :, seen] = 0.0
    return mean, covariance
