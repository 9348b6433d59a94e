"""How a VAE is fitted to a table: which rows are watched, which are drawn from the normal it starts as."""

from typing import NamedTuple

import numpy as np

from deepgen import checks

PSEUDO_ROWS = 20
"""Rows drawn from the normal, for each column: how strongly the fit is pulled towards it."""
MOST_PASSES = 20
"""Passes over the rows that have drawn rows of their own: the same ones again and again would be learned by heart."""
PARTICLES = 8
LEARNING_RATE = 1e-3
CHUNK = 100
COMPARED = 200
"""Particles of the bound by which the trained program is compared with what it started as."""
FEWEST_ROWS = 20


class Split(NamedTuple):
    """The rows of a table by their use.

    Attributes:
        train: (m, d) rows that are fitted.
        held: (k, d) rows that are watched.
    """

    train: np.ndarray
    held: np.ndarray


def split(x: np.ndarray, validation: float, seed: int) -> Split:
    """Hold some rows out at random.

    Args:
        x: (n, d).
        validation: the share of the rows, between 0 and 1/2.
        seed: of the choice.

    Returns:
        Both parts, the rows in their order.

    Raises:
        ValueError: another share, or fewer rows than such a fit needs.
    """
    if not 0 < validation <= 0.5:
        raise checks.problem(
            "validation", got=validation, expected="a share above 0, at most 0.5", fix="0.1 is a good one."
        )
    if len(x) < FEWEST_ROWS:
        raise checks.problem(
            "x",
            got=f"{len(x)} rows",
            expected=f"at least {FEWEST_ROWS}",
            fix="Fit a normal: VAE.table without training; or make a VAE.mlp and fit it (--network mlp).",
        )
    held = np.zeros(len(x), dtype=bool)
    held[np.random.default_rng(seed).permutation(len(x))[: max(round(validation * len(x)), 2)]] = True
    return Split(x[~held], x[held])


def passes(rows: int, pseudo_rows: int, visits: int) -> int:
    """How many passes over the rows get drawn rows of their own: as many as the fit makes, at most twenty.

    Args:
        rows: that are fitted.
        pseudo_rows: drawn for each pass.
        visits: of a row or a drawn row by the fit's minibatches, in all; none where each step takes all rows.

    Returns:
        At least one.

    >>> passes(500, 600, 256_000), passes(500, 600, 3000), passes(100_000, 600, 256_000)
    (20, 2, 2)
    """
    return min(max(visits // (rows + pseudo_rows), 1), MOST_PASSES)


def with_holes(drawn: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
    """Drawn rows with the holes of randomly chosen rows of the data.

    Args:
        drawn: (k, d) complete.
        x: (n, d), NaN where missing.
        seed: of the choice.

    Returns:
        (k, d), NaN where missing.
    """
    holes = np.isnan(x)[np.random.default_rng(seed).integers(len(x), size=len(drawn))]
    return np.where(holes, np.nan, drawn).astype(x.dtype)
