"""Tables with names and types: read from CSV or Parquet, checked, and written back, observed cells as they were."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepgen.checks import problem

if TYPE_CHECKING:
    import pandas

Kind = Literal["real", "integer", "boolean", "categorical"]
MAX_LEVELS = 50


@dataclass(frozen=True)
class Column:
    """A column's name, what it holds, its pandas type, and the levels of a categorical one.

    Attributes:
        name: as in the table.
        kind: "real", "integer", "boolean" or "categorical".
        dtype: the name of its pandas type.
        levels: the values of a categorical column, sorted (in the column's own order where it has one).
        ordered: whether the column says that its levels have an order, as an ordered pandas category does.
    """

    name: str
    kind: Kind
    dtype: str
    levels: tuple[Any, ...] = ()
    ordered: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """A data frame whose columns can be modelled, with at least one cell observed in every row and column.

    Attributes:
        frame: the cells with their own types; NA is missing.
        columns: what each column holds, in the frame's order.
        text: the cells as they stood in the CSV file, or None.
    """

    frame: "pandas.DataFrame"
    columns: tuple[Column, ...]
    text: "pandas.DataFrame | None" = None

    @classmethod
    def from_frame(
        cls,
        frame: "pandas.DataFrame",
        *,
        drop: Sequence[str] = (),
        categorical: Sequence[str] = (),
        empty_rows: bool = False,
    ) -> "Table":
        """The table of a data frame, its columns classified and checked.

        Whole numbers are "integer", other numbers "real", truth values "boolean", text and pandas categories
        "categorical".

        Args:
            frame: the cells; NA, NaN and None are missing.
            drop: columns to leave out.
            categorical: columns of numbers that are codes of categories.
            empty_rows: whether rows without any observed cell are let through.

        Returns:
            The table.

        Raises:
            ValueError: no rows or columns; duplicate or unknown column names; a column of a type that cannot be
                modelled (dates, mixed objects, text with more than 50 levels or different in nearly every row),
                all missing or with infinite values; a row that is all missing.
        """
        names = [str(name) for name in frame.columns]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise problem(
                "table", got=f"the column names {double} twice", expected="distinct names", fix="Rename them."
            )
        for argument, chosen in (("drop", drop), ("categorical", categorical)):
            known_columns(argument, chosen, names)
        frame = frame.set_axis(names, axis=1).drop(columns=list(drop))
        if frame.empty:
            raise problem(
                "table",
                got=f"{len(frame)} rows and {frame.shape[1]} columns",
                expected="at least one of each",
                fix="Check the file and the columns dropped.",
            )
        missing = frame.isna()
        for name in frame.columns[missing.all()]:
            raise problem(
                f"column {name!r}",
                got="no observed cell",
                expected="at least two different values",
                fix=f"Leave it out: drop=[{name!r}].",
            )
        empty = np.flatnonzero(missing.all(axis=1))
        if empty.size and not empty_rows:
            raise problem(
                "table",
                got=f"{empty.size} rows without any observed cell, the first is row {empty[0] + 1}",
                expected="at least one observed cell a row",
                fix="Remove these rows.",
            )
        return cls(frame, tuple(_column(frame[name], name in categorical) for name in frame.columns))

    @property
    def observed(self) -> np.ndarray:
        """(n, number of columns) booleans, True where a cell is observed."""
        return self.frame.notna().to_numpy()

    def write(self, path: str | os.PathLike[str], completed: "pandas.DataFrame | None" = None) -> None:
        """Write the table, or its completed form, as CSV or Parquet by the path's ending.

        Observed cells of a table read from CSV are written as the text they were.

        Args:
            path: where to; an existing file is replaced in one step.
            completed: a frame of the same columns and rows whose cells fill the missing ones; None leaves blanks.

        Raises:
            ValueError: another ending, or a frame of other columns or length.
            OSError: a folder that cannot be written.
        """
        path = Path(path)
        ending = _ending(path)
        frame = self.frame if completed is None else completed
        if list(frame.columns) != list(self.frame.columns) or len(frame) != len(self.frame):
            raise problem(
                "completed",
                got=f"{len(frame)} rows of {list(frame.columns)}",
                expected=f"{len(self.frame)} rows of {list(self.frame.columns)}",
                fix="Pass the frame that Encoding.decode or Encoding.complete returned.",
            )
        if ending == ".csv" and self.text is not None:
            frame = self.text.where(self.observed, frame.astype("string"))
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            if ending == ".csv":
                tabs, packed = ".tsv" in path.suffixes, path.suffix == ".gz"
                frame.to_csv(partial, index=False, sep="\t" if tabs else ",", compression="gzip" if packed else None)
            else:
                frame.to_parquet(partial, index=False)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read_table(
    path: str | os.PathLike[str],
    *,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    na_values: Sequence[str] = ("?",),
    separator: str = ",",
) -> Table:
    """Read a CSV (``.csv``, ``.csv.gz``, ``.tsv``) or Parquet (``.parquet``, ``.pq``) file.

    Blank cells and what pandas reads as NA ("NA", "NaN", "null", …) are missing. Whole numbers stay whole numbers and
    truth values truth values beside missing cells (pandas' nullable types).

    Args:
        path: the file.
        drop: columns to leave out.
        categorical: columns of numbers that are codes of categories.
        na_values: further texts that mean missing.
        separator: what stands between two cells of a CSV; a ``.tsv`` is separated by tabs.

    Returns:
        The table.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, an empty file, a row with more or fewer cells than the header (its line is named),
            text that is not UTF-8, and what ``Table.from_frame`` refuses.
    """
    import pandas as pd

    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise FileNotFoundError(f"table {str(path)!r}: there is no such file. Check the path.")
    if ending == ".parquet":
        frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
        return Table.from_frame(frame, drop=drop, categorical=categorical)
    separator = "\t" if ".tsv" in path.suffixes else separator
    header, rows = _cells(path, separator)
    known_columns("drop", drop, header)
    # Rewritten, so that pandas sees exactly these cells; left alone it pads short rows and skips blank lines.
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header, *rows])
    buffer.seek(0)
    frame = pd.read_csv(
        buffer,
        dtype_backend="numpy_nullable",
        na_values=list(na_values),
        skip_blank_lines=False,
    )
    table = Table.from_frame(frame, drop=drop, categorical=categorical)
    text = pd.DataFrame(rows, columns=pd.Index(header), dtype="string")[list(table.frame.columns)]
    return replace(table, text=text)


def known_columns(argument: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse names that are no columns.

    Raises:
        ValueError: naming the argument, the unknown names and the columns there are.
    """
    if isinstance(names, str):
        raise problem(argument, got=repr(names), expected="a list of column names", fix=f"Write [{names!r}].")
    unknown = [name for name in names if name not in columns]
    if unknown:
        raise problem(
            argument,
            got=f"the unknown columns {unknown}",
            expected=f"some of {list(columns)}",
            fix="Check the spelling.",
        )


def _ending(path: Path) -> str:
    suffixes = "".join(path.suffixes).lower()
    for endings, kind in (((".csv", ".csv.gz", ".tsv", ".tsv.gz"), ".csv"), ((".parquet", ".pq"), ".parquet")):
        if suffixes.endswith(endings):
            return kind
    raise problem(
        "table",
        got=f"the path {str(path)!r}",
        expected="an ending .csv, .csv.gz, .tsv or .parquet",
        fix="Convert the file to CSV or Parquet with these endings.",
    )


def _cells(path: Path, separator: str) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of a CSV as text, blanks as '', every row as long as the header."""
    import gzip

    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            lines = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise problem(
            f"table {str(path)!r}",
            got=f"bytes that are not UTF-8 ({error.reason})",
            expected="UTF-8 text",
            fix="Convert it.",
        ) from error
    filled = [(number, row) for number, row in lines if row]
    if not filled or not any(cell.strip() for cell in filled[0][1]):
        raise problem(f"table {str(path)!r}", got="an empty file", expected="a header and rows", fix="Check the file.")
    header = [cell.strip() for cell in filled[0][1]]
    # In a table of one column an empty line is a missing cell.
    body = [(number, row or [""]) for number, row in lines[lines.index(filled[0]) + 1 :] if row or len(header) == 1]
    if not body:
        raise problem(
            f"table {str(path)!r}", got="a header and no rows", expected="at least one row", fix="Check the file."
        )
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise problem(
            f"table {str(path)!r}",
            got=f"the column names {double} twice",
            expected="distinct names",
            fix="Rename them.",
        )
    for number, row in body:
        if len(row) != len(header):
            raise problem(
                f"table {str(path)!r}, line {number}",
                got=f"{len(row)} cells",
                expected=f"{len(header)}, as in the header",
                fix=f"Mend this line: a cell that holds {separator!r} needs quotes. Or set separator.",
            )
    return header, [[cell if cell.strip() else "" for cell in row] for _, row in body]


def _column(values: "pandas.Series", as_categories: bool) -> Column:
    from pandas.api import types

    name, dtype = str(values.name), values.dtype
    present = values.dropna()
    if as_categories or isinstance(dtype, types.CategoricalDtype) or types.is_string_dtype(dtype):
        ordered = isinstance(dtype, types.CategoricalDtype) and bool(dtype.ordered)
        return Column(name, "categorical", str(dtype), _levels(name, values, present), ordered)
    if types.is_bool_dtype(dtype):
        return Column(name, "boolean", str(dtype))
    if not types.is_numeric_dtype(dtype) or types.is_complex_dtype(dtype):
        raise problem(
            f"column {name!r}",
            got=f"the type {dtype}",
            expected="numbers, truth values, text or categories",
            fix=f"Convert it, e.g. dates to days since a first day, or leave it out: drop=[{name!r}].",
        )
    infinite = np.flatnonzero(np.isinf(values.to_numpy(dtype=np.float64, na_value=np.nan)))
    if infinite.size:
        raise problem(
            f"column {name!r}",
            got=f"{infinite.size} infinite values, the first in row {infinite[0] + 1}",
            expected="finite values",
            fix="Replace them, or leave the cells blank where they stand for missing.",
        )
    return Column(name, "integer" if types.is_integer_dtype(dtype) else "real", str(dtype))


def _levels(name: str, values: "pandas.Series", present: "pandas.Series") -> tuple[Any, ...]:
    from pandas.api.types import CategoricalDtype

    kinds = {
        str if isinstance(value, str) else bool if isinstance(value, bool | np.bool_) else float for value in present
    }
    plain = all(isinstance(value, str | bool | int | float | np.generic) for value in present)
    if len(kinds) > 1 or not plain or (values.dtype == object and kinds != {str}):
        raise problem(
            f"column {name!r}",
            got=f"Python objects, e.g. {present.tolist()[0]!r}",
            expected="text, or one pandas type of numbers or truth values",
            fix=f"Convert it, e.g. with frame.convert_dtypes(), or leave it out: drop=[{name!r}].",
        )
    if isinstance(values.dtype, CategoricalDtype):
        used = set(present)
        levels = [level for level in values.dtype.categories if level in used]
    else:
        levels = sorted(present.unique())
    if len(levels) > MAX_LEVELS or (len(present) > 10 and len(levels) > 0.5 * len(present)):
        raise problem(
            f"column {name!r}",
            got=f"{len(levels)} different values in {len(present)} cells, e.g. {levels[0]!r}",
            expected=f"at most {MAX_LEVELS} categories that recur (or numbers)",
            fix=f"Names, dates and free text cannot be modelled; leave it out: drop=[{name!r}].",
        )
    return tuple(level.item() if isinstance(level, np.generic) else level for level in levels)
