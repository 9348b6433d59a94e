"""From a table's cells to numbers, standardised or in their own units, and back."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen.checks import one_of, problem
from deepgen.data.columns import Column, Fault, refuse
from deepgen.data.table import Table
from deepgen.math.intervals import fewest_draws

if TYPE_CHECKING:
    import pandas


STYLES = ("indicators", "codes")


@dataclass(frozen=True, eq=False)
class Encoding:
    """How the cells of a table are written as numbers, fitted on the training rows only.

    In the style "indicators" they have mean 0 and variance 1. A real or integer column becomes (value - mean) / sd. A
    boolean column and a categorical one of two levels become one such column of zeros and ones. A categorical column of
    K > 2 levels becomes a block of K indicator columns, each centred by its own mean and all scaled by one sd (the root
    of the mean of p(1 - p)), so that the largest entry of a decoded block names the level.

    In the style "codes", which the likelihood `Table` takes, each column stays one column in its own units: a boolean
    one is 0 or 1, a categorical one holds the number of the level, from 0 on.

    A missing cell is NaN, a whole block where the cell is a block.

    Attributes:
        columns: the table's columns.
        mean: (width,) what is subtracted from each encoded column.
        scale: (width,) what each encoded column is divided by.
        style: "indicators" or "codes".
    """

    columns: tuple[Column, ...]
    mean: np.ndarray
    scale: np.ndarray
    style: str = "indicators"

    @classmethod
    def fit(cls, table: Table, rows: np.ndarray | None = None, style: str = "indicators") -> "Encoding":
        """The encoding of a table by the observed cells of some of its rows.

        Args:
            table: the table.
            rows: the training rows, None for all.
            style: "indicators" for standardised numbers and blocks of indicators, "codes" for one number a column in
                its own units.

        Returns:
            The encoding.

        Raises:
            ValueError: columns that are all missing or constant in these rows, all of them named; an unknown style.
        """
        one_of("style", style, STYLES)
        frame = table.frame if rows is None else table.frame.iloc[rows]
        mean, scale = [], []
        faults = []
        for column in table.columns:
            block = _numbers(frame[column.name], column, style)
            present = block[~np.isnan(block[:, 0])]
            if not len(present) or (present == present[0]).all():
                faults.append(_constant(column.name, frame[column.name].dropna().tolist()))
                continue
            if style == "codes":
                mean.append(np.zeros(1))
                scale.append(np.ones(1))
                continue
            centre = present.mean(0)
            # The variance around the rounded mean, as one number for a block.
            sd = np.sqrt(((present - centre) ** 2).mean())
            mean.append(centre)
            scale.append(np.full(len(centre), sd))
        refuse(faults)
        return cls(table.columns, np.concatenate(mean), np.concatenate(scale), style)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each encoded column: the column's own, or "column=level" in a block."""
        return tuple(
            name
            for column in self.columns
            for name in (
                [f"{column.name}={level}" for level in column.levels] if self._width(column) > 1 else [column.name]
            )
        )

    @property
    def slices(self) -> dict[str, slice]:
        """Where in the encoded columns each column of the table stands."""
        stops = np.cumsum([self._width(column) for column in self.columns]).tolist()
        return {c.name: slice(stop - self._width(c), stop) for c, stop in zip(self.columns, stops, strict=True)}

    def encode(self, table: "Table | pandas.DataFrame") -> np.ndarray:
        """The cells as numbers.

        Args:
            table: a table or data frame that has the encoding's columns, in any order.

        Returns:
            (n, width) float32, NaN where missing.

        Raises:
            ValueError: a column that is not there or holds another kind of values, or a level not seen before.
        """
        frame = table.frame if isinstance(table, Table) else table
        absent = [column.name for column in self.columns if column.name not in frame.columns]
        if absent:
            raise problem(
                "table",
                got=f"the columns {[str(name) for name in frame.columns]}",
                expected=f"also {absent}",
                fix="Add these columns; leave their cells blank where they are unknown.",
            )
        blocks = [_numbers(frame[column.name], column, self.style) for column in self.columns]
        return ((np.concatenate(blocks, axis=1) - self.mean) / self.scale).astype(np.float32)

    def decode(self, x: np.ndarray, table: Table | None = None) -> "pandas.DataFrame":
        """The numbers as cells of their columns' types.

        Integers are rounded to the nearest, a boolean or two-level cell is the nearer of its two values, a block its
        largest entry, a code the nearest level.

        Args:
            x: (n, width) complete numbers.
            table: the table that was encoded; its observed cells are returned as they stand there, bit for bit.

        Returns:
            A data frame; with ``table``, of the table's index and types.

        Raises:
            ValueError: a wrong shape or NaN.
        """
        import pandas as pd
        from pandas.api.types import pandas_dtype

        x = self._checked(np.asarray(x)[None], None if table is None else len(table.frame))[0]
        filled = {}
        for column, where in zip(self.columns, self.slices.values(), strict=True):
            values = _values(x[:, where] * self.scale[where] + self.mean[where], column)
            if table is None:
                filled[column.name] = pd.Series(values).astype(pandas_dtype(column.dtype))
            else:
                filled[column.name] = _filled(table.frame[column.name], values)
        return pd.DataFrame(filled)

    def complete(
        self, draws: np.ndarray, table: Table, *, prob: float = 0.9, medians: Collection[str] = ()
    ) -> "tuple[pandas.DataFrame, pandas.DataFrame]":
        """The table with its missing cells filled from draws, and how sure each filled cell is.

        A real cell is filled with the mean of its draws, an integer one with the rounded mean, a boolean or categorical
        one with the most frequent value among the decoded draws.

        Args:
            draws: (..., n, width) encoded draws of the completed rows, for instance (chain, draw, row, column).
            table: the table that was encoded.
            prob: the probability of the central interval.
            medians: the columns of numbers that are filled with the median of the draws instead, such as those with a
                long tail, where a few draws carry the mean away.

        Returns:
            The completed frame; and a frame with one row for each filled cell: ``row`` (the table's index),
            ``column``, ``value``, ``lower`` and ``upper`` (the ends of the interval; NA for categories) and
            ``probability`` (the share of draws that have this value; NA for numbers).

        Raises:
            ValueError: a wrong shape, NaN, a probability outside (0, 1), or too few draws for the interval.
        """
        import pandas as pd

        draws = np.asarray(draws)
        draws = self._checked(draws.reshape(-1, *draws.shape[-2:]), len(table.frame))
        need = fewest_draws(prob) if 0 < prob < 1 else 0
        if not need or len(draws) < need:
            raise problem(
                "draws",
                got=f"{len(draws)} for an interval of probability {prob}",
                expected=f"at least {need}" if need else "a probability in (0, 1)",
                fix="Take more draws, or a smaller probability.",
            )
        frame, cells = {}, []
        for column, where in zip(self.columns, self.slices.values(), strict=True):
            series = table.frame[column.name]
            rows = np.flatnonzero(series.isna())
            numbers = draws[:, rows, where] * self.scale[where] + self.mean[where]
            best, extra = _summary(numbers, column, prob, column.name in medians)
            values = np.zeros(len(series), dtype=best.dtype)
            values[rows] = best
            frame[column.name] = _filled(series, values)
            filled = frame[column.name].iloc[rows]
            cells += [
                {"position": row, "row": label, "column": column.name, "value": value, **more}
                for row, label, value, more in zip(rows, filled.index, filled.tolist(), extra, strict=True)
            ]
        names = ["position", "row", "column", "value", "lower", "upper", "probability"]
        listed = pd.DataFrame(cells, columns=pd.Index(names)).sort_values("position", kind="stable", ignore_index=True)
        listed = listed.astype({name: "Float64" for name in names[4:]}).drop(columns="position")
        return pd.DataFrame(frame), listed

    def to_dict(self) -> dict[str, Any]:
        """The encoding as what JSON can hold."""
        return {
            "columns": [asdict(c) for c in self.columns],
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "style": self.style,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Encoding":
        """The encoding that ``to_dict`` wrote, exactly.

        Raises:
            ValueError: fields that are missing or do not belong together.
        """
        try:
            columns = tuple(Column(**{**column, "levels": tuple(column["levels"])}) for column in fields["columns"])
            mean, scale = (np.asarray(fields[name], dtype=np.float64) for name in ("mean", "scale"))
        except (KeyError, TypeError, ValueError) as error:
            raise problem(
                "encoding",
                got=f"fields that cannot be read ({error})",
                expected="what to_dict wrote",
                fix="Write it again.",
            ) from error
        style = fields.get("style", "indicators")
        one_of("encoding: style", style, STYLES)
        width = sum(_width(column, style) for column in columns)
        if not columns or mean.shape != (width,) or scale.shape != (width,):
            raise problem(
                "encoding",
                got=f"{mean.shape} means and {scale.shape} scales",
                expected=f"{width} of each",
                fix="Write it again with to_dict.",
            )
        return cls(columns, mean, scale, style)

    def _width(self, column: Column) -> int:
        return _width(column, self.style)

    def _checked(self, x: np.ndarray, n: int | None) -> np.ndarray:
        if x.ndim != 3 or x.shape[2] != len(self.mean) or (n is not None and x.shape[1] != n):
            raise problem(
                "x",
                got=f"shape {x.shape[1:]}",
                expected=f"({'n' if n is None else n}, {len(self.mean)})",
                fix="Pass numbers that Encoding.encode made, completed.",
            )
        if not np.isfinite(x).all():
            raise problem(
                "x",
                got=f"{int((~np.isfinite(x)).sum())} values that are NaN or infinite",
                expected="complete data",
                fix="Complete it with impute first.",
            )
        return x.astype(np.float64)


def _constant(name: str, present: list[Any]) -> Fault:
    got = f"the same value, {present[0]!r}, in all {len(present)} observed cells" if present else "no observed cell"
    return Fault(name, got, "at least two different values in the rows that the encoding is fitted on")


def _width(column: Column, style: str) -> int:
    block = style == "indicators" and column.kind == "categorical" and len(column.levels) > 2
    return len(column.levels) if block else 1


def _numbers(values: "pandas.Series", column: Column, style: str) -> np.ndarray:
    """(n, width) float64 before standardising, NaN where missing."""
    from pandas.api import types

    if column.kind == "categorical":
        codes = {level: code for code, level in enumerate(column.levels)}
        code = np.array([codes.get(v, -1) if seen else -2 for v, seen in zip(values, values.notna(), strict=True)])
        if (code == -1).any():
            raise problem(
                f"column {column.name!r}",
                got=f"the unknown level {values.iloc[int(np.argmax(code == -1))]!r}",
                expected=f"one of {list(column.levels)}",
                fix="Fit the encoding on a table that has this level, or leave the cell blank.",
            )
        numbers = np.eye(len(column.levels))[code] if _width(column, style) > 1 else code[:, None].astype(np.float64)
        return np.where(code[:, None] < 0, np.nan, numbers)
    # A column that is all missing carries no type.
    if not (types.is_numeric_dtype(values.dtype) or types.is_bool_dtype(values.dtype) or values.isna().all()):
        raise problem(
            f"column {column.name!r}",
            got=f"the type {values.dtype}",
            expected=f"{column.kind} values, as when the encoding was fitted",
            fix="Convert the column.",
        )
    return values.to_numpy(dtype=np.float64, na_value=np.nan)[:, None]


def _values(numbers: np.ndarray, column: Column) -> np.ndarray:
    """The cells that (..., width) numbers before standardising stand for."""
    if column.kind == "real":
        return numbers[..., 0]
    if column.kind == "integer":
        low, high = _integer_range(column.dtype)
        return np.clip(np.rint(numbers[..., 0]), low, high).astype(np.int64 if low < 0 else np.uint64)
    if column.kind == "boolean":
        return numbers[..., 0] >= 0.5
    return _levels_of(column)[_codes(numbers, column)]


def _codes(numbers: np.ndarray, column: Column) -> np.ndarray:
    if numbers.shape[-1] > 1:
        return numbers.argmax(-1)
    return np.clip(np.floor(numbers[..., 0] + 0.5), 0, max(len(column.levels), 2) - 1).astype(int)


def _levels_of(column: Column) -> np.ndarray:
    levels = np.empty(len(column.levels), dtype=object)
    levels[:] = column.levels
    return levels


def _integer_range(dtype: str) -> tuple[float, float]:
    """The largest range of whole float64 numbers inside the type's."""
    info = np.iinfo(dtype.split("[")[0].lower())
    low, high = float(info.min), float(info.max)
    return low, high if high <= info.max else float(np.nextafter(high, 0))


def _filled(series: "pandas.Series", values: np.ndarray) -> "pandas.Series":
    """The series with its missing cells replaced by ``values``, of the same type."""
    import pandas as pd

    missing = series.isna().to_numpy()
    cells = series.array.copy()
    if missing.any():
        cells[missing] = pd.array(values[missing].tolist(), dtype=series.dtype)
    return pd.Series(cells, index=series.index, name=series.name)


def _summary(
    numbers: np.ndarray, column: Column, prob: float, median: bool
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """For (S, m, width) draws the value of each cell and its interval or probability."""
    if column.kind in ("real", "integer"):
        best = _values(np.median(numbers, 0) if median else numbers.mean(0), column)
        cells = _values(numbers, column).astype(np.float64)
        tails = [(1 - prob) / 2, (1 + prob) / 2]
        lower, upper = np.quantile(cells, tails, axis=0, method="weibull") if cells.size else np.empty((2, 0))
        if column.kind == "integer":
            lower, upper = np.floor(lower), np.ceil(upper)
        return best, [{"lower": low, "upper": high} for low, high in zip(lower, upper, strict=True)]
    codes = _codes(numbers, column)
    counts = np.stack([(codes == level).mean(0) for level in range(max(len(column.levels), 2))])
    best = counts.argmax(0)
    values = best.astype(bool) if column.kind == "boolean" else _levels_of(column)[best]
    return values, [{"probability": float(share)} for share in counts.max(0)]
