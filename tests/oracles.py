"""Programs whose law is known, for every family and apart from any engine: a configuration, parameters, closed forms.

An oracle's exact side is NumPy in float64 and shares no line with the package.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from element_laws import BERNOULLI, DF, SCALE, STUDENT_T, ElementLaw, categorical, squash, stretch
from energy_laws import flipped, machine, quadratic
from flow_laws import affine, affine_config, affine_posterior, affine_prior, linear_field, multiscale
from level_laws import two_levels
from logistic_laws import discretized_logistic
from oracle import Moments, Oracle
from scipy import stats
from scipy.special import logsumexp, softmax
from score_laws import linear_score
from sequence_laws import ORDERS, binary_table, linear_regressions
from table_laws import plain_columns

POSTERIOR_SCALE = (-7.0, 3.0)


def _vae_config(event_shape: tuple[int, ...], latent_dim: int, law: Mapping[str, Any], num_params: int) -> dict:
    size = math.prod(event_shape)
    features = size * (law.get("num_classes", 1))
    linear: dict[str, Any] = {"network": "MLP", "hidden": [], "activation": "gelu"}
    return {
        "latent_dim": latent_dim,
        "input_shape": [features],
        "observation": {**law, "event_shape": list(event_shape)},
        "encoder": {**linear, "in_size": features, "out_size": 2 * latent_dim},
        "decoder": {**linear, "in_size": latent_dim, "out_size": num_params * size},
    }


def _vae_tensors(
    decoder: tuple[np.ndarray, np.ndarray], encoder: tuple[np.ndarray, np.ndarray], sd: np.ndarray, **others: np.ndarray
) -> dict[str, np.ndarray]:
    """A linear decoder, and a linear encoder of the posterior's mean beside constant standard deviations."""
    weight, bias = encoder
    raw = stretch(np.log(sd), *POSTERIOR_SCALE)
    found = {
        "decoder.layers.0.weight": decoder[0],
        "decoder.layers.0.bias": decoder[1],
        "encoder.layers.0.weight": np.concatenate([weight, np.zeros_like(weight)]),
        "encoder.layers.0.bias": np.concatenate([bias, raw]),
        **others,
    }
    return {name: np.asarray(value, dtype=np.float32) for name, value in found.items()}


def linear_gaussian(
    name: str,
    description: str,
    event_shape: tuple[int, ...],
    loading: np.ndarray,
    sd: np.ndarray,
    widen: float,
    conjugate: bool = False,
    flows: bool = False,
    **kwargs: Any,
) -> Oracle:
    """x = W z + b + s e: PPCA where s is one number, factor analysis where it is one for each dimension.

    The encoder has the posterior's mean and ``widen`` times its standard deviations, the correlations left out: it is
    the exact posterior where W'W / s^2 is diagonal and ``widen`` is 1. A ``conjugate`` guide is it always, whatever is
    missing, where ``widen`` is 1. With ``flows`` the prior is an affine flow, z ~ N(c, A A'), and so is what comes
    after the encoder's normal, such that the guide of a complete row is its exact posterior, correlations and all.
    """
    shared = sd.ndim == 0
    law = "gaussian" if shared else "gaussian_per_dimension"
    latent_dim, size = loading.shape[1], loading.shape[0]
    offset = np.linspace(-1.0, 1.5, size).astype(np.float32).astype(float)
    loading = loading.astype(np.float32).astype(float)
    raw = stretch(np.log(sd), *SCALE).astype(np.float32)
    noise = np.broadcast_to(np.exp(squash(raw, *SCALE)), (size,))
    centre, root, own = affine_prior(latent_dim) if flows else (np.zeros(latent_dim), np.eye(latent_dim), {})
    inverse = np.linalg.inv(root @ root.T)
    precision = inverse + loading.T @ (loading / noise[:, None] ** 2)
    gain = np.linalg.solve(precision, loading.T / noise**2)
    spread = np.sqrt(np.diag(np.linalg.inv(precision)))
    encoder = gain, np.linalg.solve(precision, inverse @ centre) - gain @ offset
    if flows:
        encoder, spread, after = affine_posterior(precision, *encoder)
        own = own | after
    tensors = _vae_tensors(
        (loading, offset),
        encoder,
        widen * spread,
        **own,
        fill=(offset + loading @ centre).reshape(event_shape),
        **{"observation.raw_scale": raw if shared else raw.reshape(event_shape)},
    )
    config = _vae_config(event_shape, latent_dim, {"law": law}, 1)
    if flows:
        flow = affine_config(latent_dim)
        config |= {"prior": {"prior": "flow", "flow": flow}, "posterior": {"posterior": "flow", "flow": flow}}
    if conjugate:
        config |= {"posterior": {"posterior": "conjugate", "num_features": size, "latent_dim": latent_dim}}
        silent = {name: np.zeros_like(tensors[f"encoder.layers.0.{name}"]) for name in ("weight", "bias")}
        tensors |= {
            **{f"encoder.layers.0.{name}": value for name, value in silent.items()},
            "posterior.weight": loading.astype(np.float32),
            "posterior.bias": offset.astype(np.float32),
            "posterior.raw_scale": np.broadcast_to(stretch(np.log(widen * noise), *SCALE), (size,)).astype(np.float32),
        }
    mean = np.concatenate([offset + loading @ centre, centre])
    joint = np.concatenate([loading @ root, root])
    covariance = joint @ joint.T + np.diag(np.concatenate([noise**2, np.zeros(latent_dim)]))

    def given(row: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Mean and covariance of (x, z) given a row's observed entries, and their log density."""
        seen = np.flatnonzero(~np.isnan(row))
        value = row[seen] - mean[seen]
        block = covariance[np.ix_(seen, seen)]
        regression = np.linalg.solve(block, covariance[seen]).T
        log_density = -0.5 * (value @ np.linalg.solve(block, value) + np.linalg.slogdet(2 * np.pi * block)[1])
        left = covariance - regression @ covariance[seen]
        return mean + regression @ value, (left + left.T) / 2, float(log_density)

    def rows(x: np.ndarray) -> list[Any]:
        return [np.stack(part) for part in zip(*map(given, x.reshape(len(x), -1).astype(float)), strict=True)]

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        z = rng.standard_normal((n, latent_dim))
        x = offset + z @ loading.T + noise * rng.standard_normal((n, size))
        return x.reshape(n, *event_shape).astype(np.float32)

    def conditional(x: np.ndarray) -> Moments:
        m, c, _ = rows(x)
        return m[:, :size], c[:, :size, :size]

    def posterior(x: np.ndarray) -> dict[str, Moments]:
        m, c, _ = rows(x)
        return {"z": (m[:, size:], c[:, size:, size:])}

    diagonal = np.allclose(precision, np.diag(np.diag(precision)), atol=1e-6)
    return Oracle(
        "vae",
        name,
        description,
        config,
        tensors,
        event_shape,
        integer=False,
        tight=(diagonal or conjugate or flows) and widen == 1.0,
        exact=conjugate and widen == 1.0,
        draw=draw,
        log_prob=lambda x: rows(x)[2],
        conditional=conditional,
        posterior=posterior,
        decode=lambda latents: (offset + latents["z"] @ loading.T).reshape(*latents["z"].shape[:-1], *event_shape),
        **kwargs,
    )


GRID = np.linspace(-9.0, 9.0, 1201)
"""The trapezoidal rule on the whole line converges exponentially for what is smooth and decays like a normal."""


def one_latent(
    name: str,
    description: str,
    event_shape: tuple[int, ...],
    law: ElementLaw,
    slopes: np.ndarray,
    offsets: np.ndarray,
    encoder: tuple[np.ndarray, float],
    own: Mapping[str, np.ndarray] | None = None,
    **kwargs: Any,
) -> Oracle:
    """A VAE with one latent, whose integrals are sums over a grid.

    Args:
        name: for the test's id.
        description: what it is.
        event_shape: of a datum of D elements.
        law: of an element.
        slopes: (P, D), how the decoder's outputs move with z.
        offsets: (P, D).
        encoder: (features,) weights of the guide's mean, and its standard deviation.
        own: tensors of the observation law.
        kwargs: of the oracle.
    """
    size = math.prod(event_shape)
    slopes, offsets = (np.asarray(v, dtype=np.float32).astype(float) for v in (slopes, offsets))
    integer = law.law["law"] in ("categorical", "discretized_logistic")
    one_hot = (law.law["num_classes"],) if "num_classes" in law.law else ()
    fill = np.full((*one_hot, *event_shape), 0.3)
    tensors = _vae_tensors(
        (slopes.reshape(-1, 1), offsets.reshape(-1)),
        (encoder[0][None], np.zeros(1)),
        np.array([encoder[1]]),
        fill=fill,
        **{f"observation.{name}": value for name, value in (own or {}).items()},
    )
    at_grid = offsets + GRID[:, None, None] * slopes
    means, variances = law.mean(at_grid), law.variance(at_grid)
    prior = stats.norm.logpdf(GRID) + math.log(GRID[1] - GRID[0])

    def log_weights(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1).astype(float)
        absent = (flat < 0) if integer else np.isnan(flat)
        elements = law.log_pdf(np.where(absent, 0.0, flat)[:, None], at_grid)
        return prior + np.where(absent[:, None], 0.0, elements).sum(-1)

    def weights(x: np.ndarray) -> np.ndarray:
        return softmax(log_weights(x), axis=1)

    def conditional(x: np.ndarray) -> Moments:
        w = weights(x)
        mean = w @ means
        second = np.einsum("nk,ki,kj->nij", w, means, means) - mean[:, :, None] * mean[:, None]
        second += np.einsum("nk,ki,ij->nij", w, variances, np.eye(size))
        flat = x.reshape(len(x), -1)
        seen = ~((flat < 0) if integer else np.isnan(flat))
        second[seen] = 0.0
        second.swapaxes(1, 2)[seen] = 0.0
        return np.where(seen, flat, mean), second

    def posterior(x: np.ndarray) -> dict[str, Moments]:
        w = weights(x)
        mean = w @ GRID
        return {"z": (mean[:, None], (w @ GRID**2 - mean**2)[:, None, None])}

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        at = offsets + rng.standard_normal((n, 1, 1)) * slopes
        return law.draw(rng, at).reshape(n, *event_shape)

    return Oracle(
        "vae",
        name,
        description,
        _vae_config(event_shape, 1, law.law, law.num_params),
        tensors,
        event_shape,
        integer=integer,
        tight=False,
        draw=draw,
        log_prob=lambda x: logsumexp(log_weights(x), axis=1),
        conditional=conditional,
        posterior=posterior,
        decode=lambda latents: law.mean(offsets + latents["z"][..., None] * slopes).reshape(
            *latents["z"].shape[:-1], *event_shape
        ),
        **kwargs,
    )


TABLE = {
    "centre": np.array([0.7, 2.0, 0.5, -1.0], dtype=np.float32),
    "spread": np.array([0.5, 1.5, 0.6, 0.8], dtype=np.float32),
    "log_rate": np.array([1.0], dtype=np.float32),
    "raw_scale": np.array([-0.3, -0.7, 0.1], dtype=np.float32),
    "raw_concentration": np.array([1.5], dtype=np.float32),
}


def _vae_oracles() -> list[Oracle]:
    rng = np.random.default_rng(20)
    orthogonal = np.linalg.qr(rng.standard_normal((5, 2)))[0] * np.array([0.8, 0.5])
    correlated = np.array([[0.7, 0.5], [0.5, 0.6], [-0.4, -0.5], [0.6, 0.2], [0.3, 0.5], [0.0, 0.4]])
    student_slopes = np.array([[0.9, -0.6, 0.5, 0.7], [0.0] * 4, [0.0] * 4])
    student_offsets = np.array(
        [[0.5, -0.5, 1.0, 0.0], stretch(np.log([0.8, 1.0, 0.6, 0.9]), *SCALE), stretch(np.log([9.0] * 4), *DF)]
    )
    codes = rng.standard_normal((3, 4))
    return [
        linear_gaussian(
            "ppca",
            "PPCA with orthogonal columns: the guide is the exact posterior, and the bound is tight",
            (5,),
            orthogonal,
            np.array(0.8),
            1.0,
            quick=True,
        ),
        linear_gaussian(
            "factor-analysis",
            "factor analysis of images with a correlated posterior, which the guide cannot have: the bound is strict",
            (1, 2, 3),
            correlated,
            np.array([0.9, 0.7, 0.8, 1.0, 0.6, 0.8]),
            1.2,
        ),
        linear_gaussian(
            "conjugate",
            "factor analysis whose guide is the exact posterior of any row with holes",
            (4,),
            correlated[:4],
            np.array([0.9, 0.7, 0.8, 0.6]),
            1.0,
            conjugate=True,
        ),
        linear_gaussian(
            "affine-flows",
            "factor analysis whose prior is an affine flow, and whose guide is the exact posterior by another",
            (4,),
            correlated[:4],
            np.array([1.3, 1.1, 1.2, 1.0]),
            1.0,
            flows=True,
        ),
        one_latent(
            "bernoulli",
            "binary data with one latent",
            (2, 3),
            BERNOULLI,
            np.array([[1.5, -1.0, 0.8, 1.2, -0.7, 0.5]]),
            np.array([[0.3, -0.5, 0.2, 1.0, -0.2, 0.4]]),
            (0.2 * np.array([1.5, -1.0, 0.8, 1.2, -0.7, 0.5]), 1.1),
        ),
        one_latent(
            "student-t",
            "heavy-tailed data with one latent",
            (4,),
            STUDENT_T,
            student_slopes,
            student_offsets,
            (0.15 * student_slopes[0], 1.1),
        ),
        one_latent(
            "table",
            "real, positive and count columns with one latent",
            (4,),
            plain_columns(["count", "real", "positive", "real"], TABLE),
            np.array([[0.4, 0.8, -0.5, -0.6]]),
            np.array([[0.1, 0.2, -0.1, 0.3]]),
            (np.array([0.3, 0.3, -0.2, -0.2]), 1.1),
            own=TABLE,
        ),
        one_latent(
            "categorical",
            "four variables of three classes with one latent",
            (4,),
            categorical(3),
            codes,
            0.5 * rng.standard_normal((3, 4)),
            (0.3 * codes.reshape(-1), 1.1),
            quick=True,
        ),
        one_latent(
            "discretized-logistic",
            "three ordered integers with one latent, each a mixture of two components",
            (3,),
            discretized_logistic(6, 2),
            np.array([[0.5, -0.4, 0.0], [0.0] * 3, [0.6, -0.5, 0.7], [0.4, -0.3, 0.5], [0.0] * 3, [0.0] * 3]),
            np.array([[0.0] * 3, [0.3, -0.2, 0.0], [-0.5, 0.2, 0.4], [0.6, -0.6, 0.0], [-1.5] * 3, [-1.0, -0.8, -1.2]]),
            (np.array([0.5, -0.4, 0.6]), 1.1),
        ),
        Oracle("vae", "two-levels", "two linear-Gaussian levels with their exact posterior as guide", **two_levels()),
        Oracle("vae", "correlated-levels", "likewise with correlated latents and a flow on top", **two_levels(True)),
    ]


ORACLES: tuple[Oracle, ...] = (
    *_vae_oracles(),
    Oracle("autoregressive", "regressions", "linear-Gaussian regressions", **linear_regressions()),
    Oracle("autoregressive", "table", "a binary table of 16 states", **binary_table()),
    Oracle("autoregressive", "orders", "a mixture over orders of 16 states", **binary_table(ORDERS), first=2),
    Oracle("flow", "affine", "a linear map of a normal, by its triangles", **affine()),
    Oracle("ebm", "quadratic", "a quadratic energy on a normal base", **quadratic(), quick=True),
    Oracle("ebm", "machine", "a restricted Boltzmann machine of 16 states", **machine()),
    Oracle("ebm", "flipped", "an Ising model of 16 states, under flips", **flipped()),
    Oracle("flow", "multiscale", "images at two scales, linear maps of a normal", **multiscale()),
    Oracle("flow", "linear-field", "a normal along a linear field", **linear_field(), costly=True),
    Oracle("score", "linear", "the linear score of a normal law", **linear_score()),
)
