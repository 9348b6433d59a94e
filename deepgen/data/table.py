"""Tables with names and types: read from CSV or Parquet, checked, and written back, observed cells as they were."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen.checks import problem
from deepgen.data.cells import compressed, kind_of_table, read_cells, refuse_dialect, separated_by_tabs
from deepgen.data.columns import MAX_LEVELS, Column, classified, known_columns

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Table:
    """A data frame whose columns can be modelled, with at least one cell observed in every row and column.

    Attributes:
        frame: the cells with their own types; NA is missing.
        columns: what each column holds, in the frame's order.
        text: the cells as they stood in the CSV file, those left out among them, or None.
        names: of all columns in the order of the file; those of the frame where it is empty.
        aside: the columns that were left out, or None.
        separator: what stood between the cells of the CSV file, where its ending does not say so.
        decimal: what stands before the fraction of a number in it.
    """

    frame: "pandas.DataFrame"
    columns: tuple[Column, ...]
    text: "pandas.DataFrame | None" = None
    names: tuple[str, ...] = ()
    aside: "pandas.DataFrame | None" = None
    separator: str | None = None
    decimal: str = "."

    @classmethod
    def from_frame(
        cls,
        frame: "pandas.DataFrame",
        *,
        drop: Sequence[str] = (),
        categorical: Sequence[str] = (),
        ordinal: Mapping[str, Sequence[Any] | None] | Sequence[str] = (),
        empty_rows: bool = False,
    ) -> "Table":
        """The table of a data frame, its columns classified and checked.

        Whole numbers are "integer", other numbers "real", truth values "boolean", text and pandas categories
        "categorical".

        Args:
            frame: the cells; NA, NaN and None are missing.
            drop: columns to leave out; `write` puts them back where they stood.
            categorical: columns of numbers that are codes of categories.
            ordinal: columns of categories that have an order: their names, or for each name its levels, the lowest
                first. The order of other levels is that of numbers, of a pandas category's own, or of the text's first
                appearance.
            empty_rows: whether rows without any observed cell are let through.

        Returns:
            The table.

        Raises:
            ValueError: no rows or columns; duplicate or unknown column names; columns of a type that cannot be
                modelled (dates, mixed objects, text with more than 50 levels or different in nearly every row),
                all missing or with infinite values, all of them named; a row that is all missing; an order of levels
                that leaves some out.
        """
        names = [str(name) for name in frame.columns]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise problem(
                "table", got=f"the column names {double} twice", expected="distinct names", fix="Rename them."
            )
        known_columns("ordinal", ordinal if isinstance(ordinal, str) else list(ordinal), names)
        orders = dict(ordinal) if isinstance(ordinal, Mapping) else dict.fromkeys(ordinal)
        for argument, chosen in (("drop", drop), ("categorical", categorical)):
            known_columns(argument, chosen, names)
            _refuse_shared(argument, chosen, orders)
        frame = frame.set_axis(names, axis=1)
        aside, frame = frame[[name for name in names if name in drop]], frame.drop(columns=list(drop))
        if frame.empty:
            raise problem(
                "table",
                got=f"{len(frame)} rows and {frame.shape[1]} columns",
                expected="at least one of each",
                fix="Check the file and the columns dropped.",
            )
        # before the rows: a column that is refused may be all that a row has
        columns = classified(frame, categorical, orders)
        missing = frame.isna()
        empty = np.flatnonzero(missing.all(axis=1))
        if empty.size and not empty_rows:
            raise problem(
                "table",
                got=f"{empty.size} rows without any observed cell, the first is row {empty[0] + 1}",
                expected="at least one observed cell a row",
                fix="Remove these rows.",
            )
        return cls(frame, columns, names=tuple(names), aside=aside if len(drop) else None)

    @property
    def observed(self) -> np.ndarray:
        """(n, number of columns) booleans, True where a cell is observed."""
        return self.frame.notna().to_numpy()

    def write(self, path: str | os.PathLike[str], completed: "pandas.DataFrame | None" = None) -> None:
        """Write the table, or its completed form, as CSV or Parquet by the path's ending.

        Observed cells of a table read from CSV are written as the text they were, and columns that were left out stand
        where they stood, as they were.

        Args:
            path: where to; an existing file is replaced in one step.
            completed: a frame of the same columns and rows whose cells fill the missing ones; None leaves blanks.

        Raises:
            ValueError: another ending, or a frame of other columns or length.
            OSError: a folder that cannot be written.
        """
        path = Path(path)
        as_csv = kind_of_table(path) == ".csv"
        frame = self.frame if completed is None else completed
        if list(frame.columns) != list(self.frame.columns) or len(frame) != len(self.frame):
            raise problem(
                "completed",
                got=f"{len(frame)} rows of {list(frame.columns)}",
                expected=f"{len(self.frame)} rows of {list(self.frame.columns)}",
                fix="Pass the frame that Encoding.decode or Encoding.complete returned.",
            )
        frame = self._whole(frame, as_csv and self.text is not None)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            if as_csv:
                between = "\t" if separated_by_tabs(path) else self.separator or ","
                frame.to_csv(partial, index=False, sep=between, compression="gzip" if compressed(path) else None)
            else:
                frame.to_parquet(partial, index=False)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _whole(self, frame: "pandas.DataFrame", as_text: bool) -> "pandas.DataFrame":
        """The frame with the columns that were left out; of a CSV's cells, the observed ones, the text."""
        import pandas as pd

        aside = self.aside
        if as_text and self.text is not None:
            written = frame.astype("string")
            for column in self.columns:
                if column.kind == "real" and self.decimal != ".":
                    written[column.name] = written[column.name].str.replace(".", self.decimal, regex=False)
            aside = None if aside is None else self.text[list(aside.columns)]
            frame = self.text[list(frame.columns)].where(self.observed, written)
        return frame if aside is None else pd.concat([frame, aside], axis=1)[list(self.names)]


def read_table(
    path: str | os.PathLike[str],
    *,
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    ordinal: Mapping[str, Sequence[Any] | None] | Sequence[str] = (),
    as_text: Sequence[str] = (),
    na_values: Sequence[str] = ("?",),
    separator: str | None = None,
    decimal: str = ".",
) -> Table:
    """Read a CSV (``.csv``, ``.csv.gz``, ``.tsv``) or Parquet (``.parquet``, ``.pq``) file.

    Blank cells and what pandas reads as NA ("NA", "NaN", "null", …) are missing. Whole numbers stay whole numbers and
    truth values truth values beside missing cells (pandas' nullable types).

    Args:
        path: the file.
        drop: columns to leave out; `Table.write` puts them back where they stood.
        categorical: columns of numbers that are codes of categories.
        ordinal: columns of categories that have an order, as of ``Table.from_frame``.
        as_text: columns of a CSV that are categories as they are written, also where all cells look like numbers.
        na_values: further texts that mean missing.
        separator: what stands between two cells of a CSV; None for a tab in a ``.tsv``, else a comma.
        decimal: what stands before the fraction of a number in a CSV, "." or ",".

    Returns:
        The table.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, an empty file, another separator, a row with more or fewer cells than the header
            (its line is named), text that is not UTF-8, and what ``Table.from_frame`` refuses.
    """
    import pandas as pd

    path = Path(path)
    kind = kind_of_table(path)
    refuse_dialect(separator, decimal)
    _refuse_absent(path)
    chosen: dict[str, Any] = {"drop": drop, "categorical": categorical, "ordinal": ordinal}
    if kind == ".parquet":
        return Table.from_frame(pd.read_parquet(path, dtype_backend="numpy_nullable"), **chosen)
    header, rows = read_cells(path, separator)
    known_columns("drop", drop, header)
    known_columns("as_text", as_text, header)
    # Rewritten, so that pandas sees exactly these cells; left alone it pads short rows and skips blank lines.
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t").writerows([header, *rows])
    buffer.seek(0)
    frame = pd.read_csv(
        buffer,
        sep="\t",
        decimal=decimal,
        dtype_backend="numpy_nullable",
        na_values=list(na_values),
        skip_blank_lines=False,
    )
    text = pd.DataFrame(rows, columns=pd.Index(header), dtype="string")
    for name in header:
        if name in as_text or (name not in ordinal and _are_codes(frame[name], text[name])):
            frame[name] = text[name].where(frame[name].notna())
    return replace(Table.from_frame(frame, **chosen), text=text, separator=separator, decimal=decimal)


def _are_codes(values: "pandas.Series", text: "pandas.Series") -> bool:
    """Whether a column holds whole numbers that are written as codes are."""
    from pandas.api.types import is_integer_dtype

    if not is_integer_dtype(values.dtype):
        return False
    seen = text[values.notna()]
    recur = seen.nunique() <= min(MAX_LEVELS, len(seen) // 2)
    return bool(recur and seen.str.fullmatch(r"\s*0\d{2,}\s*").any())


def names_of(path: str | os.PathLike[str], *, separator: str | None = None) -> list[str]:
    """The names of the columns of a file that `read_table` takes, whatever they hold.

    Args:
        path: the file.
        separator: as there.

    Returns:
        The names, in the file's order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what `read_table` refuses of a file before it looks at the columns.
    """
    import pandas as pd

    path = Path(path)
    kind = kind_of_table(path)
    refuse_dialect(separator, ".")
    _refuse_absent(path)
    if kind == ".parquet":
        return [str(name) for name in pd.read_parquet(path).columns]
    return read_cells(path, separator)[0]


def _refuse_absent(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"table {str(path)!r}: there is no such file. Check the path.")


def _refuse_shared(argument: str, names: Sequence[str], ordinal: Mapping[str, Any]) -> None:
    shared = [name for name in names if name in ordinal]
    if shared:
        raise problem(
            argument,
            got=f"{shared}, which ordinal names too",
            expected="each column once",
            fix="Name it in one of them.",
        )
