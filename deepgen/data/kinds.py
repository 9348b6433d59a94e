"""Which law suits each column of a table, from its type and its observed values."""

import numpy as np

from deepgen.data.columns import Column, Fault, refuse
from deepgen.data.table import Table
from deepgen.likelihoods.table.columns import ColumnLaw

LARGEST_COUNT = 50
LEAST_DISPERSION = 0.8


def column_kinds(table: Table, rows: np.ndarray | None = None) -> tuple[ColumnLaw, ...]:
    """The laws of a table's columns, as the likelihood `Table` takes them for data in the encoding's style "codes".

    - boolean: categorical with two levels. Categorical: ordinal where the column says that its levels are ordered.
    - integer: a count where all observed values are from 0 to 50 and vary as counts do, with a variance of at least 0.8
      times the mean (a negative binomial cannot have less than the mean's). Otherwise as a real column.
    - real: positive (log-normal) where all observed values are above zero and the skewness of their logarithms is
      smaller in absolute value than their own. Otherwise real.

    Args:
        table: the table.
        rows: the training rows, None for all.

    Returns:
        For each column its kind and its number of levels.

    Raises:
        ValueError: a column with a single level.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"name": ["a", "b", "a", "c"], "size": [1.0, 2.5, 9.0, 100.0], "visits": [0, 3, 0, 1]})
    >>> [kind for kind, _ in column_kinds(Table.from_frame(frame))]
    ['categorical', 'positive', 'count']
    """
    frame = table.frame if rows is None else table.frame.iloc[rows]
    found = []
    for column in table.columns:
        if column.kind == "categorical":
            found.append(_levelled(column))
        elif column.kind == "boolean":
            found.append(ColumnLaw("categorical", 2))
        else:
            values = frame[column.name].to_numpy(dtype=np.float64, na_value=np.nan)
            found.append(ColumnLaw(_numeric(values[~np.isnan(values)], column.kind == "integer")))
    return tuple(found)


def _levelled(column: Column) -> ColumnLaw:
    if len(column.levels) < 2:
        got = f"the same value, {column.levels[0]!r}, in all observed cells"
        refuse([Fault(column.name, got, "at least two different values")])
    return ColumnLaw("ordinal" if column.ordered else "categorical", len(column.levels))


def _numeric(values: np.ndarray, whole: bool) -> str:
    if not len(values):
        return "real"
    small = values.min() >= 0 and values.max() <= LARGEST_COUNT
    if whole and small and values.var() >= LEAST_DISPERSION * values.mean() > 0:
        return "count"
    positive = values.min() > 0 and abs(_skewness(np.log(values))) < abs(_skewness(values))
    return "positive" if positive else "real"


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    variance = float((centred**2).mean())
    return float((centred**3).mean()) / variance**1.5 if variance > 0 else 0.0
