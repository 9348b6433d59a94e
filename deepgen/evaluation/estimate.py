"""A number with its standard error, and the standard error of means over cells that depend within a row."""

from dataclasses import dataclass

import numpy as np

from deepgen.checks import problem


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error (NaN where one row alone cannot give one).

    >>> print(Estimate(-81.234, 0.567))
    -81.23 ± 0.57
    """

    value: float
    stderr: float

    def __str__(self) -> str:
        if not (np.isfinite(self.stderr) and self.stderr > 0):
            return f"{self.value:.4g}"
        digits = max(1 - int(np.floor(np.log10(self.stderr))), 0)
        return f"{self.value:.{digits}f} ± {self.stderr:.{digits}f}"


def cell_mean(values: np.ndarray, rows: np.ndarray) -> Estimate:
    """The mean over cells, its standard error by rows: cells of one row may depend on each other in any way.

    With s_i the sum and m_i the number of the cells of row i, the mean is the ratio θ = Σ s_i / Σ m_i and, linearised
    (Cochran 1977, Sampling Techniques, 6.4; for equal m_i exactly the standard error of the mean of row means),

        Var θ ≈ n / (n - 1) · Σ (s_i - θ m_i)² / (Σ m_i)².

    Args:
        values: (m,) one number a cell.
        rows: (m,) the row of each cell.

    Returns:
        The mean and its standard error, NaN for a single row.

    Raises:
        ValueError: no cells, or lengths that differ.
    """
    values, rows = np.asarray(values, dtype=np.float64), np.asarray(rows)
    if not values.size or values.shape != rows.shape or values.ndim != 1:
        raise problem(
            "cells",
            got=f"{values.shape} values of {rows.shape} rows",
            expected="one row number a value, at least one",
            fix="Check that some cells are missing.",
        )
    _, index, count = np.unique(rows, return_inverse=True, return_counts=True)
    n = len(count)
    mean = float(values.mean())
    if n == 1:
        return Estimate(mean, float("nan"))
    residual = np.bincount(index, weights=values - mean)
    return Estimate(mean, float(np.sqrt(n / (n - 1) * (residual**2).sum()) / len(values)))
