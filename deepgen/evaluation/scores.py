"""Scores of draws against the truth: CRPS, central intervals and ranks cell by cell, the energy score row by row."""

from collections.abc import Callable

import numpy as np

from deepgen.checks import problem
from deepgen.math.intervals import fewest_draws

_CHUNK = 2**24


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The fair continuous ranked probability score of an ensemble, in the units of the data; smaller is better.

    For the law F it is ∫ (F(t) - 1[y ≤ t])² dt = E|X - y| - ½ E|X - X'| (Gneiting and Raftery 2007, eq. 21,
    https://doi.org/10.1198/016214506000001437). From S independent draws it is estimated without bias by

        (1/S) Σ_s |x_s - y| - 1 / (2 S (S - 1)) Σ_{s,t} |x_s - x_t|

    (Ferro 2014, https://doi.org/10.1002/qj.2270), the double sum from the sorted draws as 2 Σ_k (2k - S - 1) x_(k), so
    in O(S log S). For a binary y and binary draws it is the (fair) Brier score. Draws that depend on each other, as
    those of a short Markov chain do, make the spread term too small and the score too large.

    Args:
        draws: (S, *cells), S ≥ 2.
        truth: (*cells,).

    Returns:
        (*cells,) float64.

    Raises:
        ValueError: fewer than two draws, or shapes that do not fit.
    """
    draws, truth = _fitting(draws, truth, 2)
    size = len(draws)
    weights = (2.0 * np.arange(1, size + 1) - size - 1) / (size * (size - 1))

    def score(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # Centred at the truth, so that large offsets do not cancel.
        difference = np.sort(x.astype(np.float64) - y, axis=0)
        return np.abs(difference).mean(0) - weights @ difference

    return _by_cells(score, draws, truth)


def energy_score(draws: np.ndarray, truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The fair energy score of each row's cells together, in the units of the data; smaller is better.

    For the law F of a vector it is E||X - y|| - ½ E||X - X'|| with Euclidean norms, strictly proper where the norm has
    a mean (Gneiting and Raftery 2007, eq. 22, https://doi.org/10.1198/016214506000001437). It sees how the cells of a
    row depend on each other, which no score of single cells does; of one cell it is the CRPS. From S independent draws
    it is estimated without bias by

        (1/S) Σ_s ||x_s - y|| - 1 / (2 S (S - 1)) Σ_{s,t} ||x_s - x_t||,

    in O(S² m) for the m cells of a row. Where columns have different units, standardise them first; rows with more
    cells have larger scores.

    Args:
        draws: (S, cells), S ≥ 2.
        truth: (cells,).
        rows: (cells,) the row of each cell, in any order.

    Returns:
        (number of rows,) float64, in the order of the sorted row numbers.

    Raises:
        ValueError: fewer than two draws, or shapes that do not fit.
    """
    draws, truth = _fitting(draws, truth, 2)
    rows = np.asarray(rows)
    if truth.ndim != 1 or rows.shape != truth.shape or not truth.size:
        raise problem(
            "rows",
            got=f"shape {rows.shape} for a truth of shape {truth.shape}",
            expected="one row number a cell, at least one cell",
            fix="Pass draws (S, cells), truth (cells,) and rows (cells,).",
        )
    order = np.argsort(rows, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(rows[order])) + 1)
    return np.array([_energy(draws[:, cells].astype(np.float64) - truth[cells]) for cells in groups])


def _energy(error: np.ndarray) -> float:
    """The score of one row from the (S, m) differences of its draws from the truth."""
    size = len(error)
    # Centred at their mean, so that draws far from the truth do not cancel in the squares.
    x = error - error.mean(0)
    square = (x**2).sum(1)
    step = max(_CHUNK // 4 // size, 1)
    pairs = 0.0
    for at in range(0, size, step):
        part = slice(at, at + step)
        distance = square[part, None] + square - 2 * (x[part] @ x.T)
        np.fill_diagonal(distance[:, at:], 0.0)
        pairs += np.sqrt(np.maximum(distance, 0.0)).sum()
    return float(np.sqrt((error**2).sum(1)).mean() - pairs / (2 * size * (size - 1)))


def interval(draws: np.ndarray, prob: float) -> np.ndarray:
    """The central interval that holds the next draw with probability ``prob``.

    Its ends are the order statistics number (S + 1)(1 ∓ prob)/2, interpolated (Weibull's plotting position; number 6 of
    Hyndman and Fan 1996): of S + 1 exchangeable values the last lies below the k-th of the others with probability
    k / (S + 1), so the coverage has no bias from the number of draws.

    Args:
        draws: (S, *cells).
        prob: in (0, 1).

    Returns:
        (2, *cells): the lower and the upper ends.

    Raises:
        ValueError: a probability outside (0, 1), or fewer draws than 2 / (1 - prob) - 1, from which it cannot be had.
    """
    draws = np.asarray(draws)
    if not 0 < prob < 1:
        raise problem("prob", got=prob, expected="a probability in (0, 1)", fix="Pass for instance 0.9.")
    need = fewest_draws(prob)
    if len(draws) < need:
        raise problem(
            "draws",
            got=f"{len(draws)} for an interval of probability {prob}",
            expected=f"at least {need}",
            fix="Take more draws, or a smaller probability.",
        )
    return np.quantile(draws.astype(np.float64), [(1 - prob) / 2, (1 + prob) / 2], axis=0, method="weibull")


def ranks(draws: np.ndarray, truth: np.ndarray, *, seed: int | np.random.Generator) -> np.ndarray:
    """How many draws lie below the truth, ties broken at random: uniform on 0..S where they are exchangeable.

    With l draws below and e equal to the truth the rank is l + U, U uniform on 0..e; so it is uniform for discrete data
    too.

    Args:
        draws: (S, *cells).
        truth: (*cells,).
        seed: a seed or a generator, for the ties.

    Returns:
        (*cells,) integers 0..S.

    Raises:
        ValueError: no draws, or shapes that do not fit.
    """
    draws, truth = _fitting(draws, truth, 1)
    below = _by_cells(lambda x, y: (x < y).sum(0).astype(np.float64), draws, truth).astype(np.int64)
    equal = _by_cells(lambda x, y: (x == y).sum(0).astype(np.float64), draws, truth).astype(np.int64)
    return below + np.random.default_rng(seed).integers(0, equal, endpoint=True)


def pit(draws: np.ndarray, truth: np.ndarray, *, seed: int | np.random.Generator) -> np.ndarray:
    """The randomised probability integral transform (rank + V) / (S + 1), V uniform on [0, 1).

    Uniform on [0, 1) where truth and draws are exchangeable, for discrete data and for any number of draws (Czado,
    Gneiting and Held 2009, https://doi.org/10.1111/j.1541-0420.2009.01191.x).

    Args:
        draws: (S, *cells).
        truth: (*cells,).
        seed: a seed or a generator, for the ties and for V.

    Returns:
        (*cells,) numbers in [0, 1).

    Raises:
        ValueError: no draws, or shapes that do not fit.
    """
    rng = np.random.default_rng(seed)
    rank = ranks(draws, truth, seed=rng)
    return (rank + rng.random(rank.shape)) / (len(draws) + 1)


def _fitting(draws: np.ndarray, truth: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    draws, truth = np.asarray(draws), np.asarray(truth, dtype=np.float64)
    if draws.ndim < 1 or draws.shape[1:] != truth.shape or len(draws) < least:
        raise problem(
            "draws",
            got=f"shape {draws.shape} for a truth of shape {truth.shape}",
            expected=f"(S, {', '.join(map(str, truth.shape))}) with S >= {least}",
            fix="Put the draws on the first axis.",
        )
    return draws, truth


def _by_cells(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], draws: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """``function`` of (S, m) draws and (m,) truths, a bounded number of numbers at a time."""
    flat, cells = draws.reshape(len(draws), -1), truth.reshape(-1)
    step = max(_CHUNK // max(len(flat), 1), 1)
    parts = [function(flat[:, at : at + step], cells[at : at + step]) for at in range(0, max(cells.size, 1), step)]
    return np.concatenate(parts).reshape(truth.shape)
