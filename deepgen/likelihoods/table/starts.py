"""What a table's law starts from: its own numbers from data, and the decoder's biases at its marginals."""

import math
from collections.abc import Mapping

import numpy as np
from scipy.special import logit

from deepgen import checks
from deepgen.likelihoods.table.columns import ColumnLaw, Layout, features, layout
from deepgen.likelihoods.table.ordinal import LOG_GAP, MAX_GAP, MIN_GAP, cutpoints
from deepgen.nn.bounded import bounded, unbounded

MIN_CONCENTRATION, MAX_CONCENTRATION = 1e-2, 1e3
LOG_CONCENTRATION = (math.log(MIN_CONCENTRATION), math.log(MAX_CONCENTRATION))
RARE = 0.5
"""What is added to the count of each level, so that none has probability zero."""

Numbers = Mapping[str, np.ndarray]


def initial(columns: tuple[ColumnLaw, ...]) -> dict[str, np.ndarray]:
    """The law's own numbers before it has seen data: units as they are, scales and concentrations of one, even levels.

    Args:
        columns: of the table.

    Returns:
        By name, without those of kinds that there are not.
    """
    where = layout(columns)
    even = [np.arange(1, columns[i].num_levels) / columns[i].num_levels for i in where.of("ordinal")]
    found = {
        "centre": np.zeros(where.size),
        "spread": np.ones(where.size),
        "log_rate": np.zeros(len(where.of("count"))),
        "raw_scale": np.zeros(len(where.of("real", "positive"))),
        "raw_concentration": raw_concentration(np.ones(len(where.of("count")))),
        "raw_cutpoints": np.concatenate([raw_cutpoints(share) for share in even]) if even else np.zeros(0),
    }
    return {name: value for name, value in found.items() if value.size}


def fitted(columns: tuple[ColumnLaw, ...], data: np.ndarray) -> dict[str, np.ndarray]:
    """The law's own numbers at which p(x | z) has the data's marginals where the decoder gives its `biases`.

    Centre and spread are each feature's mean and standard deviation (the root of the mean variance of a categorical
    column's indicators), the scales are one in these units, a concentration is that of a negative binomial with the
    column's mean and variance, and cutpoints are the logits of the levels' cumulative frequencies.

    Args:
        columns: of the table.
        data: (n, D), NaN where missing.

    Returns:
        By name, as `initial`.

    Raises:
        ValueError: a column without an observed entry.
    """
    where, data = layout(columns), np.asarray(data, dtype=float)
    checks.observed_somewhere("data", np.isnan(data))
    seen = features(data, where.codes, where)
    seen[np.isnan(data[:, where.column_of])] = np.nan
    centre = np.nanmean(seen, axis=0)
    variance = np.nanmean((seen - centre) ** 2, axis=0)
    variance = (np.add.reduceat(variance, where.starts) / where.widths)[where.column_of]
    counts, levels = data[:, where.of("count")], [data[:, i] for i in where.of("ordinal")]
    numbers = [columns[i].num_levels for i in where.of("ordinal")]
    cuts = [raw_cutpoints(cumulative(x, k)) for x, k in zip(levels, numbers, strict=True)]
    return {
        **initial(columns),
        "centre": centre,
        "spread": np.where(variance > 0, np.sqrt(variance), 1.0),
        **({"log_rate": log_mean(counts), "raw_concentration": _of_moments(counts)} if counts.size else {}),
        **({"raw_cutpoints": np.concatenate(cuts)} if cuts else {}),
    }


def biases(columns: tuple[ColumnLaw, ...], own: Numbers, data: np.ndarray) -> np.ndarray:
    """The decoder's output biases at which the law has the data's marginals, as far as a location alone can give them.

    Args:
        columns: of the table.
        own: the law's own numbers.
        data: (n, D), NaN where missing.

    Returns:
        (F,): the standardised mean of a real or positive column; the log mean of a count, relative to ``log_rate``; the
        log frequencies of a categorical column's levels; for an ordinal one, the mean distance of its cutpoints from
        the logits of the cumulative frequencies.
    """
    where, data = layout(columns), np.asarray(data, dtype=float)
    fresh = fitted(columns, data)
    found = (fresh["centre"] - own["centre"]) / own["spread"]
    for place, i in zip(where.starts[where.of("categorical")], where.of("categorical"), strict=True):
        found[place : place + columns[i].num_levels] = np.log(frequencies(data[:, i], columns[i].num_levels))
    if "count" in where.present:
        found[where.outputs["count"]] = fresh["log_rate"] - own["log_rate"]
    if "ordinal" in where.present:
        there = where.ordinals.there
        shift = cut_values(where, own) - cut_values(where, fresh)
        found[where.outputs["ordinal"]] = np.where(there, shift, 0).sum(1) / there.sum(1)
    return found


def frequencies(x: np.ndarray, num_levels: int) -> np.ndarray:
    """(num_levels,) shares of each code among the observed, none of them zero."""
    count = np.array([(x == level).sum() for level in range(num_levels)], dtype=float)
    count = np.where(count > 0, count, RARE)
    return count / count.sum()


def cumulative(x: np.ndarray, num_levels: int) -> np.ndarray:
    """(num_levels - 1,) shares of codes up to each but the last."""
    return np.cumsum(frequencies(x, num_levels))[:-1]


def log_mean(counts: np.ndarray) -> np.ndarray:
    """The log of each column's mean; where all are zero, of half a count in all."""
    number = (~np.isnan(counts)).sum(0)
    return np.log(np.maximum(np.nansum(counts, axis=0), RARE) / number)


def raw_concentration(concentration: np.ndarray) -> np.ndarray:
    """The unbounded number that the bounded concentration takes to ``concentration``."""
    inside = np.clip(concentration, 2 * MIN_CONCENTRATION, MAX_CONCENTRATION / 2)
    return unbounded(np.log(inside), *LOG_CONCENTRATION)


def concentration_of(raw: np.ndarray) -> np.ndarray:
    """The concentration of an unbounded number."""
    return np.exp(bounded(raw, *LOG_CONCENTRATION))


def raw_cutpoints(share: np.ndarray) -> np.ndarray:
    """The unbounded numbers of the cutpoints at which the codes have these cumulative probabilities at location 0."""
    return raw_cuts(logit(share))


def raw_cuts(cuts: np.ndarray) -> np.ndarray:
    """The unbounded numbers of increasing cutpoints."""
    gaps = np.clip(np.diff(cuts), 2 * MIN_GAP, MAX_GAP / 2)
    return np.concatenate([cuts[:1], unbounded(np.log(gaps), *LOG_GAP)])


def cut_values(where: Layout, own: Numbers) -> np.ndarray:
    """(O, W) the cutpoints of the ordinal columns."""
    return cutpoints(np.asarray(own["raw_cutpoints"], dtype=float), where.ordinals)[0]


def _of_moments(counts: np.ndarray) -> np.ndarray:
    """variance = mean + mean^2 / concentration; without more variance than a Poisson's, the largest there is."""
    mean = np.exp(log_mean(counts))
    excess = np.nanvar(counts, axis=0) - mean
    return raw_concentration(mean**2 / np.maximum(excess, mean**2 / MAX_CONCENTRATION))
