"""Two stochastic levels of linear maps and normal noise, whose every law is normal."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from element_laws import SCALE, squash, stretch
from flow_laws import affine_config, affine_prior

POSTERIOR_SCALE = (-7.0, 3.0)


def two_levels(correlated: bool = False) -> dict[str, Any]:
    """What an oracle wants of z2 ~ N(c, d^2), z1 = A z2 + a + r e, x = W z1 + b + s e', with the exact guide.

    The guide is exact of a complete row: W has orthogonal columns, so that x says of the two latents of z1 something
    without correlation, N(m, t^2), and z2 is one number, standard normal. ``correlated``, W has others, the posterior a
    full covariance, and the prior of z2 is an affine flow.
    """
    rng = np.random.default_rng(21)
    down = _rounded(np.array([[0.9], [-0.6]]))
    middle, offset = _rounded(np.array([0.3, -0.4])), _rounded(np.array([0.5, -1.0, 0.2, 0.8]))
    orthogonal = np.linalg.qr(rng.standard_normal((4, 2)))[0] * np.array([0.7, 0.5])
    loading = _rounded(orthogonal + np.array([[0.0, 0.5]]) * orthogonal[:, :1] if correlated else orthogonal)
    raw = stretch(np.log(np.array(0.9)), *SCALE).astype(np.float32)
    raw_spread = stretch(np.log(np.array([0.6, 0.9])), *POSTERIOR_SCALE).astype(np.float32)
    noise, spread = float(np.exp(squash(raw, *SCALE))), np.exp(squash(raw_spread, *POSTERIOR_SCALE))
    centre, wide, top = affine_prior(1) if correlated else (np.zeros(1), np.eye(1), {})

    project = np.linalg.solve(loading.T @ loading, loading.T)
    left = noise**2 * np.linalg.inv(loading.T @ loading)
    root = np.linalg.cholesky(left)
    # what is left of z1 in m once z2 is known
    weight = np.linalg.solve(np.diag(spread**2) + left, down[:, 0])
    sd = 1 / np.sqrt(1 / wide[0] ** 2 + weight @ down[:, 0])
    gain = sd**2 * (weight @ project)
    start = sd**2 * (centre / wide[0] ** 2 - weight @ (project @ offset + middle))
    below = root[[1], [0]] if correlated else np.zeros(0)
    tensors = {
        "fill": offset + loading @ (middle + down @ centre) if correlated else offset,
        "encoder.0.layers.0.weight": np.concatenate([project, np.zeros((2 + len(below), 4)), gain[None]]),
        "encoder.0.layers.0.bias": np.concatenate(
            [-project @ offset, stretch(np.log(np.diag(root)), *POSTERIOR_SCALE), below, start]
        ),
        "encoder.1.layers.0.weight": np.array([[1.0], [0.0]]),
        "encoder.1.layers.0.bias": np.concatenate([np.zeros(1), stretch(np.log(sd), *POSTERIOR_SCALE)]),
        "prior.0.layers.0.weight": np.concatenate([down, np.zeros((2, 1))]),
        "prior.0.layers.0.bias": np.concatenate([middle, raw_spread]),
        "decoder.layers.0.weight": loading,
        "decoder.layers.0.bias": offset,
        "observation.raw_scale": raw,
        **{name.replace("prior.", "top."): value for name, value in top.items()},
    }

    # of (x, z1, z2) together
    lowest = middle + down @ centre
    mean = np.concatenate([offset + loading @ lowest, lowest, centre])
    factor = np.concatenate([np.concatenate([loading @ down, down, np.eye(1)]).T * wide, np.zeros((6, 7))])
    factor[1:3, :4], factor[1:3, 4:6] = (loading * spread).T, np.diag(spread)
    factor[3:, :4] = noise * np.eye(4)
    covariance = factor.T @ factor

    def given(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        seen = np.flatnonzero(~np.isnan(row))
        value, block = row[seen] - mean[seen], covariance[np.ix_(seen, seen)]
        regression = np.linalg.solve(block, covariance[seen]).T
        log_density = -0.5 * (value @ np.linalg.solve(block, value) + np.linalg.slogdet(2 * np.pi * block)[1])
        rest = covariance - regression @ covariance[seen]
        return mean + regression @ value, (rest + rest.T) / 2, float(log_density)

    def part(x: np.ndarray, where: slice) -> tuple[np.ndarray, np.ndarray]:
        means, covariances, _ = zip(*map(given, x.astype(float)), strict=True)
        return np.stack(means)[:, where], np.stack(covariances)[:, where, where]

    def decode(latents: Mapping[str, np.ndarray]) -> np.ndarray:
        return offset + latents["z1"] @ loading.T

    parts = {"posterior": {"posterior": "full"}, "top": {"prior": "flow", "flow": affine_config(1)}}
    return {
        "config": {
            "program": "hierarchical",
            "latent_dims": [2, 1],
            "input_shape": [4],
            "observation": {"law": "gaussian", "event_shape": [4]},
            **(parts if correlated else {}),
            "encoder": [_linear(4, 6 if correlated else 5), _linear(1, 2)],
            "prior": [_linear(1, 4)],
            "decoder": _linear(2, 4),
        },
        "tensors": {name: np.asarray(value, dtype=np.float32) for name, value in tensors.items()},
        "event_shape": (4,),
        "integer": False,
        "tight": True,
        "draw": lambda rng, n: (mean + rng.standard_normal((n, 7)) @ factor)[:, :4].astype(np.float32),
        "log_prob": lambda x: np.array([given(row)[2] for row in x.astype(float)]),
        "conditional": lambda x: part(x, slice(4)),
        "posterior": lambda x: {"z1": part(x, slice(4, 6)), "z2": part(x, slice(6, 7))},
        "decode": decode,
    }


def _linear(in_size: int, out_size: int) -> dict[str, Any]:
    return {"network": "MLP", "hidden": [], "activation": "gelu", "in_size": in_size, "out_size": out_size}


def _rounded(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(float)
