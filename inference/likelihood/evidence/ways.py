"""Which rows with holes have an exact evidence, and what is put together of all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from deepgen.inference.imputation import automatic
from deepgen.inference.imputation.enumeration import completions

CLOUDS = 8
"""How many clouds estimate the evidence of a row that has no exact one: their spread is its standard error."""


class Evidence(NamedTuple):
    """log p(x_observed) of each row.

    Attributes:
        value: (n,) nats.
        stderr: (n,) zero where it is exact.
        exact: whether that is so of all rows.
    """

    value: np.ndarray
    stderr: np.ndarray
    exact: bool


class Ways(NamedTuple):
    """The rows of each way.

    Attributes:
        last: whose missing entries come last: what is observed needs no more than its own factors.
        few: whose completions are few, so that all are counted.
        estimated: all others.
    """

    last: np.ndarray
    few: np.ndarray
    estimated: np.ndarray


def ways(sequence: Any, observed: Bool[np.ndarray, "n ..."]) -> Ways:
    """The cheapest exact way of each row, where there is one.

    Args:
        sequence: the factors of the program, or its mixture of them.
        observed: what is observed of each row.

    Returns:
        Indices of rows.
    """
    last = automatic.missing_last(sequence, observed)
    values = sequence.values()
    few = np.zeros(len(observed), bool)
    if values is not None:
        few = ~last & (completions.count(observed, len(values)) <= completions.MOST)
    return Ways(*(np.flatnonzero(part) for part in (last, few, ~last & ~few)))


def gather(count: int, parts: list[tuple[np.ndarray, Callable[[np.ndarray], tuple[Any, Any]]]]) -> Evidence:
    """The evidence of all rows from that of each way.

    Args:
        count: of rows.
        parts: indices of rows, and from them to their values and standard errors; the last of them the estimates.

    Returns:
        The evidence.
    """
    value, stderr = np.zeros(count), np.zeros(count)
    for rows, of in parts:
        if len(rows):
            value[rows], stderr[rows] = of(rows)
    return Evidence(value, stderr, not len(parts[-1][0]))
