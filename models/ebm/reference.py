"""The base of an energy-based model, fitted to data: the law from which chains start and which the energy corrects."""

from typing import Any

import numpy as np

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.models.ebm.recipe import check_x

BASES = ("diagonal", "full", "bernoulli")
SMALLEST = 1e-3
"""A standard deviation is at least this share of the largest one: an entry that never varies has a narrow law."""


def fitted(base: str, event_shape: tuple[int, ...], data: Any | None) -> dict[str, np.ndarray]:
    """The parameters of a base.

    Args:
        base: ``"diagonal"`` for independent normals, ``"full"`` for a normal with all covariances, ``"bernoulli"`` for
            independent zeros and ones.
        event_shape: of a datum.
        data: (n, *event_shape), NaN where missing, whose means and (co)variances it takes; None for a standard one.

    Returns:
        By name: ``loc`` and ``log_scale``, and for ``"full"`` also ``lower``, what is below the diagonal of the
        Cholesky factor, whose diagonal is exp(log_scale); or ``logits``. float32.

    Raises:
        ValueError: an unknown base, data that it does not take, or ``"full"`` for a datum that is no vector.
    """
    checks.one_of("base", base, BASES)
    if base == "full" and len(event_shape) != 1:
        raise checks.problem(
            "base",
            got=f"'full' for an event of shape {event_shape}",
            expected="an event of shape (d,)",
            fix="Flatten the data, or take base='diagonal'.",
        )
    size = int(np.prod(event_shape))
    rows = None if data is None else check_x(data, event_shape, base == "bernoulli", missing=True)
    flat = None if rows is None else rows.reshape(-1, size).astype(np.float64)
    found = {"diagonal": _diagonal, "full": _full, "bernoulli": _bernoulli}[base](size, flat)
    shaped = {name: value if name == "lower" else value.reshape(event_shape) for name, value in found.items()}
    return {name: value.astype(np.float32) for name, value in shaped.items()}


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sd = laws.deviation(rows)
    largest = sd.max() if sd.max() > 0 else 1.0
    return laws.mean(rows), np.maximum(sd, SMALLEST * largest)


def _diagonal(size: int, rows: np.ndarray | None) -> dict[str, np.ndarray]:
    mean, sd = (np.zeros(size), np.ones(size)) if rows is None else _moments(rows)
    return {"loc": mean, "log_scale": np.log(sd)}


def _full(size: int, rows: np.ndarray | None) -> dict[str, np.ndarray]:
    if rows is None:
        return {"loc": np.zeros(size), "log_scale": np.zeros(size), "lower": np.zeros((size, size))}
    mean, sd = _moments(rows)
    whitened = np.nan_to_num((rows - mean) / sd)
    correlation = whitened.T @ whitened / len(rows)
    # shrunk as if size + 1 rows had shown no correlation: as many rows as entries leave it singular
    share = len(rows) / (len(rows) + size + 1)
    shrunk = share * correlation + (1 - share) * np.eye(size)
    factor = sd[:, None] * np.linalg.cholesky(shrunk)
    return {"loc": mean, "log_scale": np.log(np.diag(factor)), "lower": np.tril(factor, -1)}


def _bernoulli(size: int, rows: np.ndarray | None) -> dict[str, np.ndarray]:
    if rows is None:
        return {"logits": np.zeros(size)}
    ones, count = np.nansum(rows, axis=0), (~np.isnan(rows)).sum(0)
    # as if each value had been seen once more
    return {"logits": np.log((ones + 1) / (count - ones + 1))}
