"""Flows whose law is known: affine ones, of vectors and of images at two scales."""

from typing import Any

import numpy as np
from element_laws import squash
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


def multiscale() -> dict[str, Any]:
    """A grey image of 2 x 2 pixels: half of the four channels of its one block stop at a first scale, half go on.

    At each scale x = (L U P)^-1 z, then times e^s and plus t for each channel; of the inner one the first two of z.
    """
    rng = np.random.default_rng(9)
    mean, loading = np.zeros(4), np.eye(4)
    specs: list[dict[str, Any]] = []
    tensors: dict[str, np.ndarray] = {}
    for size, order, path in ((2, [1, 0], "transforms.0.transforms."), (4, [2, 0, 3, 1], "transforms.")):
        weight, raw, shift, scale = (
            0.4 * rng.normal(size=s).astype(np.float32) for s in ((size, size), size, size, size)
        )
        lower = np.tril(weight.astype(float), -1) + np.eye(size)
        upper = np.triu(weight.astype(float), 1) + np.diag(np.exp(squash(raw.astype(float), *LOG_SCALE)))
        step, moved = np.eye(4), np.zeros(4)
        stretched = np.exp(squash(scale.astype(float), *LOG_SCALE))
        step[:size, :size] = stretched[:, None] * np.linalg.inv(lower @ upper @ np.eye(size)[order])
        moved[:size] = shift
        mean, loading = step @ mean + moved, step @ loading
        specs += [
            {"transform": "InvertibleConv1x1", "channels": size, "permutation": order},
            {"transform": "ActNorm2d", "channels": size, "context_dim": 0},
        ]
        tensors |= {f"{path}1.weight": weight, f"{path}1.log_diagonal": raw}
        tensors |= {f"{path}2.shift": shift, f"{path}2.raw_log_scale": scale}
    inner = [{"transform": "Unflatten", "event_shape": [2, 1, 1]}, *specs[:2]]
    split = {"transform": "Split", "event_shape": [4, 1, 1], "transforms": inner}
    law = normal(mean, loading @ loading.T)
    return {
        "config": {"size": 4, "base": "normal", "transforms": [split, *specs[2:], {"transform": "Squeeze"}]},
        "tensors": tensors,
        **law,
        "log_prob": lambda x: law["log_prob"](x.reshape(len(x), -1)),
        "draw": lambda rng, n: law["draw"](rng, n).reshape(n, 1, 2, 2),
        "event_shape": (1, 2, 2),
        "integer": False,
        "tight": True,
        "exact": True,
        "latent": False,
        "generator": "transforms",
        "posterior": lambda x: {},
        "decode": lambda latents: np.zeros((1, 2, 2)),
    }
