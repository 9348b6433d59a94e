"""Laws of single elements as the package states them, by SciPy in float64, sharing no line with the package."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import expit, logsumexp, softmax


def squash(x: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """The package's bounded map, restated: m + r u / sqrt(1 + u^2) with u = (x - m) / r."""
    middle, radius = (low + high) / 2, (high - low) / 2
    u = (np.asarray(x, dtype=float) - middle) / radius
    return middle + radius * u / np.sqrt(1 + u * u)


def stretch(y: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """The inverse of ``squash``."""
    middle, radius = (low + high) / 2, (high - low) / 2
    v = (np.asarray(y, dtype=float) - middle) / radius
    return middle + radius * v / np.sqrt(1 - v * v)


SCALE = (math.log(1e-2), math.log(1e2))
DF = (math.log(2.5), math.log(100.0))


@dataclass(frozen=True, eq=False)
class ElementLaw:
    """A law of one element given what the decoder says of it, by SciPy.

    Attributes:
        law: its name and arguments for the configuration.
        num_params: numbers of the decoder for each element.
        log_pdf: (values (n, 1, D), parameters (K, P, D)) to (n, K, D).
        mean: parameters (..., P, D) to (..., D).
        variance: likewise.
        draw: (generator, parameters (n, P, D)) to (n, D).
    """

    law: Mapping[str, Any]
    num_params: int
    log_pdf: Callable[[np.ndarray, np.ndarray], np.ndarray]
    mean: Callable[[np.ndarray], np.ndarray]
    variance: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.random.Generator, np.ndarray], np.ndarray]


BERNOULLI = ElementLaw(
    {"law": "bernoulli"},
    1,
    lambda x, a: stats.bernoulli.logpmf(x, expit(a[:, 0])),
    lambda a: expit(a[..., 0, :]),
    lambda a: expit(a[..., 0, :]) * expit(-a[..., 0, :]),
    lambda rng, a: (rng.random(a[:, 0].shape) < expit(a[:, 0])).astype(np.float32),
)


def _student(a: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "df": np.exp(squash(a[..., 2, :], *DF)),
        "loc": a[..., 0, :],
        "scale": np.exp(squash(a[..., 1, :], *SCALE)),
    }


STUDENT_T = ElementLaw(
    {"law": "student_t"},
    3,
    lambda x, a: stats.t.logpdf(x, **_student(a)),
    lambda a: a[..., 0, :],
    lambda a: stats.t.var(**_student(a)),
    lambda rng, a: stats.t.rvs(**_student(a), random_state=rng).astype(np.float32),
)


def _codes(a: np.ndarray, power: int) -> np.ndarray:
    return np.einsum("...kd,k->...d", softmax(a, axis=-2), np.arange(a.shape[-2]) ** power)


def categorical(classes: int) -> ElementLaw:
    """Integers from 0 to ``classes`` - 1."""

    def log_pmf(x: np.ndarray, a: np.ndarray) -> np.ndarray:
        log_p = a - logsumexp(a, axis=1, keepdims=True)
        chosen = np.arange(classes) == np.nan_to_num(x)[..., None]
        return np.einsum("nide,ked->nkd", chosen.astype(float), log_p)

    def draw(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
        return np.argmax(a + rng.gumbel(size=a.shape), axis=1).astype(np.int32)

    return ElementLaw(
        {"law": "categorical", "num_classes": classes},
        classes,
        log_pmf,
        lambda a: _codes(a, 1),
        lambda a: _codes(a, 2) - _codes(a, 1) ** 2,
        draw,
    )
