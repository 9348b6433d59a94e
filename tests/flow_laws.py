"""Flows whose law is known: affine ones, of vectors and of images at two scales, and a linear field."""

from typing import Any

import numpy as np
from element_laws import squash
from scipy.linalg import expm
from sequence_laws import normal

SIZE, LOG_SCALE = 4, (-5.0, 5.0)


def affine_config(size: int) -> dict[str, Any]:
    """The configuration of one affine map, z = L U (x - b)."""
    transform = {"transform": "LULinear", "size": size, "context_dim": 0}
    return {"size": size, "base": "normal", "transforms": [transform]}


def affine_prior(size: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The mean and a root of the covariance of an affine flow as prior, and its tensors.

    It is narrower than a standard normal: a guide for complete rows is then wide enough for rows with holes.
    """
    rng = np.random.default_rng(9)
    weight = 0.3 * rng.normal(size=(size, size)).astype(np.float32)
    raw, bias = (rng.normal(loc, 0.2, size).astype(np.float32) for loc in (0.3, 0.5))
    named = {"weight": weight, "log_diagonal": raw, "bias": bias}
    return (
        bias.astype(float),
        np.linalg.inv(whitening(weight, raw)),
        {f"prior.flow.transforms.0.{name}": value for name, value in named.items()},
    )


def affine_posterior(
    precision: np.ndarray, gain: np.ndarray, bias: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
    """A diagonal normal and an affine map after it that give N(gain x + bias, inv(precision)).

    precision = U' diag(1 / s^2) U with U unit upper triangular: z = inv(U) z0, z0 ~ N(U (gain x + bias), diag s^2).

    Returns:
        The encoder's weight and bias, s, and the map's tensors.
    """
    upper = np.linalg.cholesky(precision).T
    spread = 1 / np.diag(upper)
    unit = spread[:, None] * upper
    size = len(precision)
    named = {"weight": np.triu(unit, 1), "log_diagonal": np.zeros(size), "bias": np.zeros(size)}
    tensors = {f"posterior.flow.transforms.0.{name}": value.astype(np.float32) for name, value in named.items()}
    return (unit @ gain, unit @ bias), spread, tensors


def whitening(weight: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """L U of an affine flow's tensors."""
    upper = np.triu(weight.astype(float), 1) + np.diag(np.exp(squash(raw.astype(float), *LOG_SCALE)))
    return (np.tril(weight.astype(float), -1) + np.eye(len(weight))) @ upper


def affine() -> dict[str, Any]:
    """z = L U (x - b) with z standard normal: x ~ N(b, (U'L'L U)^-1)."""
    rng = np.random.default_rng(6)
    weight, raw = 0.5 * rng.normal(size=(SIZE, SIZE)).astype(np.float32), np.float32([0.3, -0.4, 0.1, 0.6])
    bias = rng.normal(size=SIZE).astype(np.float32)
    white = whitening(weight, raw)
    return {
        "config": affine_config(SIZE),
        "tensors": {"transforms.0.weight": weight, "transforms.0.log_diagonal": raw, "transforms.0.bias": bias},
        **normal(bias.astype(float), np.linalg.inv(white.T @ white)),
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


def linear_field() -> dict[str, Any]:
    """dx/dt = A x + w t + b from a standard normal: x ~ N(m, e^A e^A'), all of it one exponential of (x, t, 1)."""
    rng = np.random.default_rng(9)
    weight = 0.3 * rng.normal(size=(SIZE, SIZE + 1)).astype(np.float32)
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
