"""Flows whose law is known: an affine one, and a linear field."""

from typing import Any

import numpy as np
from element_laws import squash
from scipy.linalg import expm
from sequence_laws import normal

SIZE, LOG_SCALE = 4, (-5.0, 5.0)


def affine() -> dict[str, Any]:
    """z = L U (x - b) with z standard normal: x ~ N(b, (U'L'L U)^-1)."""
    rng = np.random.default_rng(6)
    weight, raw = 0.5 * rng.normal(size=(SIZE, SIZE)).astype(np.float32), np.float32([0.3, -0.4, 0.1, 0.6])
    bias = rng.normal(size=SIZE).astype(np.float32)
    lower = np.tril(weight.astype(float), -1) + np.eye(SIZE)
    upper = np.triu(weight.astype(float), 1) + np.diag(np.exp(squash(raw.astype(float), *LOG_SCALE)))
    whitening = lower @ upper
    transform = {"transform": "LULinear", "size": SIZE, "context_dim": 0}
    return {
        "config": {"size": SIZE, "base": "normal", "transforms": [transform]},
        "tensors": {"transforms.0.weight": weight, "transforms.0.log_diagonal": raw, "transforms.0.bias": bias},
        **normal(bias.astype(float), np.linalg.inv(whitening.T @ whitening)),
        "event_shape": (SIZE,),
        "integer": False,
        "tight": True,
        "exact": True,
        "latent": False,
        "generator": "transforms",
        "posterior": lambda x: {},
        "decode": lambda latents: np.zeros(SIZE),
    }


def linear_field() -> dict[str, Any]:
    """dx/dt = A x + w t + b from a standard normal: x ~ N(m, e^A e^A'), all of it one exponential of (x, t, 1)."""
    rng = np.random.default_rng(9)
    weight = 0.5 * rng.normal(size=(SIZE, SIZE + 1)).astype(np.float32)
    bias = rng.normal(size=SIZE).astype(np.float32)
    generator = np.zeros((SIZE + 2, SIZE + 2))
    generator[:SIZE, : SIZE + 1], generator[:SIZE, -1], generator[SIZE, -1] = weight, bias, 1.0
    flow = expm(generator)
    linear = {"network": "MLP", "in_size": SIZE + 1, "out_size": SIZE, "hidden": [], "activation": "gelu"}
    transform = {"transform": "CNF", "network": linear, "size": SIZE, "rtol": 1e-6, "atol": 1e-6}
    return {
        "config": {"size": SIZE, "base": "normal", "transforms": [transform]},
        "tensors": {"transforms.0.network.layers.0.weight": weight, "transforms.0.network.layers.0.bias": bias},
        **normal(flow[:SIZE, -1], flow[:SIZE, :SIZE] @ flow[:SIZE, :SIZE].T),
        "event_shape": (SIZE,),
        "integer": False,
        "tight": True,
        "exact": True,
        "latent": False,
        "generator": "transforms",
        "posterior": lambda x: {},
        "decode": lambda latents: np.zeros(SIZE),
    }
