"""Completing tables with blanks: the completed table, an interval for each filled cell, and the draws."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen import checks, evaluation
from deepgen.cli.engine import Engine
from deepgen.cli.run import enough_draws, thin
from deepgen.cli.sources import called, stem_of
from deepgen.data import Encoding, Table, column_kinds
from deepgen.program import files

if TYPE_CHECKING:
    import arviz
    import pandas

CHUNK = 2**25
DRAWS_BYTES = 50_000_000
PROB = 0.9
NUMBERS = ("real", "integer")
COMPLETED = ".completed"


@dataclass(frozen=True, eq=False)
class Completed:
    """A completed table.

    Attributes:
        frame: the cells, the observed ones as they were.
        intervals: a row for each filled cell: ``row`` (counted from 1 below the header), ``column``, ``value`` (the
            mean of a number's draws, or their median where its column is positive with a long tail; the most frequent
            category); of numbers ``mean``, ``sd``, ``lower`` and ``upper`` (the ends of the central 90 % interval), NA
            for categories; and of categories ``probability`` (the share of draws with this value), NA for numbers.
        draws: in the columns' own units, of the rows that had blanks.
    """

    frame: "pandas.DataFrame"
    intervals: "pandas.DataFrame"
    draws: "arviz.InferenceData"


def complete_table(
    engine: Engine,
    program: Any,
    table: Table,
    encoding: Encoding,
    options: dict[str, Any],
    *,
    how: str,
    progress: bool | None,
) -> Completed:
    """Fill the blanks of a table with draws from p(missing | observed) of each row.

    Args:
        engine: the engine.
        program: fitted to rows encoded by ``encoding``.
        table: the table.
        encoding: of its columns.
        options: of `impute`.
        how: how the program was fitted, for the draws' attributes.
        progress: whether to show a bar; None: on a terminal.

    Returns:
        The completed table.

    Raises:
        ValueError: nothing is missing, too few draws for the intervals, or what the encoding refuses.
    """
    import pandas as pd

    draws_of_cell = enough_draws(options, PROB)
    # A run's encoding may know fewer columns than the table has: the others stay as they are.
    names = [column.name for column in encoding.columns]
    x = encoding.encode(table)
    rows = np.flatnonzero(np.isnan(x).any(1))
    if not len(rows):
        raise checks.problem(
            "table",
            got="no blank cell",
            expected="at least one",
            fix="There is nothing to complete; blanks are missing.",
        )
    medians = _with_a_tail(table, encoding)
    size = max(1, CHUNK // (draws_of_cell * x.shape[1]))
    frames, listed, kept = [], [], []
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        # As many rows in the last chunk as in the others: one compilation serves all.
        padded = some if len(rows) <= size else np.resize(some, size)
        found = engine.impute(program, x[padded], columns=encoding.names, progress=progress, **options)
        found = found.isel(row=slice(0, len(some))).assign_coords(row=some + 1)
        part = Table(table.frame[names].iloc[some], encoding.columns)
        draws = found["posterior"]["x"].values
        frame, cells = encoding.complete(draws, part, prob=PROB, medians=medians)
        cells = cells.assign(row=np.repeat(some + 1, (~part.observed).sum(1)))
        moments = _moments(draws.reshape(-1, *draws.shape[2:]), part, encoding)
        cells.insert(3, "mean", pd.array(moments[0], dtype="Float64"))
        cells.insert(4, "sd", pd.array(moments[1], dtype="Float64"))
        frames.append(frame)
        listed.append(cells)
        kept.append(_in_units(found, part, encoding, len(rows)))
    whole = table.frame.copy()
    filled = pd.concat(frames)
    for name in names:
        whole[name] = pd.concat([whole[name].drop(filled.index), filled[name]]).reindex(whole.index)
    posterior = kept[0] if len(kept) == 1 else _concatenated(kept)
    posterior.attrs |= {"fitted": how, "rows_without_blanks": int(len(x) - len(rows))}
    return Completed(whole, pd.concat(listed, ignore_index=True), posterior)


def tell_far(completed: Completed, table: Table) -> None:
    """Warn of numbers put farther from all observed ones of their column than those are from each other.

    Args:
        completed: the table.
        table: as it was, and as a program was fitted to it.

    Warns:
        UserWarning: with how many there are, and the first.
    """
    cells, far = completed.intervals, []
    for column in table.columns:
        if column.kind in NUMBERS:
            seen = table.frame[column.name].dropna().astype(float)
            low, high = seen.min(), seen.max()
            own = cells[cells["column"] == column.name]
            value = own["value"].astype(float)
            # a constant column is told of by the fit
            out = own[(high > low) & ((value < 2 * low - high) | (value > 2 * high - low))]
            far += [(row, column.name, float(v), low, high) for row, v in zip(out["row"], out["value"], strict=True)]
    if far:
        row, name, worst, least, most = min(far)
        warnings.warn(
            f"of the completed values {len(far)} lie farther from all observed ones of their column than those lie "
            f"from each other, the first in row {row}: {name} {worst:.4g}, observed {least:.4g} to {most:.4g}. Often "
            "another column of that row holds a value far from all others: leave it out (--drop), or name its codes "
            "(--categorical).",
            stacklevel=2,
        )


def _with_a_tail(table: Table, encoding: Encoding) -> list[str]:
    """The columns that the likelihood of tables takes for log-normal."""
    if encoding.style != "codes":
        return []
    part = Table(table.frame[[column.name for column in encoding.columns]], encoding.columns)
    return [c.name for c, law in zip(encoding.columns, column_kinds(part), strict=True) if law.kind == "positive"]


def write(completed: Completed, table: Table, output: Path) -> list[Path]:
    """Write a completed table, its intervals and its draws side by side.

    Args:
        completed: the table.
        table: as it was; observed cells keep the text they had.
        output: of the completed table; ``<name>.intervals.csv`` and ``<name>.nc`` stand next to it, see `beside`.

    Returns:
        The three paths.

    Raises:
        ValueError: another ending than that of a table.
        OSError: a folder that cannot be written to.
    """
    files.writable_folder(output.parent)
    name = beside(output)
    intervals, draws = output.with_name(f"{name}.intervals.csv"), output.with_name(f"{name}.nc")
    table.write(output, completed.frame)
    files.write_atomically(intervals, completed.intervals.to_csv(index=False).encode())
    evaluation.write_posterior(completed.draws, draws)
    return [output, intervals, draws]


def beside(output: Path) -> str:
    """What is written next to a completed file is called after this, and ends in its own way."""
    stem = stem_of(output)
    return called(stem.removesuffix(COMPLETED) + output.name[len(stem) :])


def _moments(draws: np.ndarray, table: Table, encoding: Encoding) -> np.ndarray:
    """(2, cells): mean and standard deviation of each blank numeric cell in its units, NaN of others; row by row."""
    out = np.full((2, *table.frame.shape), np.nan)
    for index, (column, where) in enumerate(zip(encoding.columns, encoding.slices.values(), strict=True)):
        if column.kind in NUMBERS:
            values = draws[:, :, where.start].astype(np.float64) * encoding.scale[where] + encoding.mean[where]
            out[:, :, index] = values.mean(0), values.std(0, ddof=1)
    return out[:, ~table.observed]


def _in_units(found: "arviz.InferenceData", table: Table, encoding: Encoding, rows: int) -> "arviz.InferenceData":
    """The draws in the columns' units, numbers that were observed exactly as they were; thinned to fit into a file."""
    step = math.ceil(found["posterior"]["x"].size // table.frame.shape[0] * rows * 8 / DRAWS_BYTES)
    if step > 1:
        found = thin(found, step)
    known = np.full((len(table.frame), len(encoding.names)), np.nan)
    for column, where in zip(encoding.columns, encoding.slices.values(), strict=True):
        if column.kind in NUMBERS:
            known[:, where.start] = table.frame[column.name].to_numpy(dtype=np.float64, na_value=np.nan)
    x = found["posterior"]["x"]
    values = x.values.astype(np.float64) * encoding.scale + encoding.mean
    found["posterior"]["x"] = (x.dims, np.where(np.isnan(known), values, known), {"units": "those of the columns"})
    data = found["observed_data"]["x"]
    given = data.values.astype(np.float64) * encoding.scale + encoding.mean
    found["observed_data"]["x"] = (data.dims, np.where(np.isnan(known), given, known))
    return found


def _concatenated(parts: "list[arviz.InferenceData]") -> "arviz.InferenceData":
    import arviz as az
    import xarray as xr

    found = az.InferenceData(attrs=parts[0].attrs)
    for group in parts[0].groups():
        pieces = [part[group] for part in parts]
        joined = xr.concat(pieces, dim="row", combine_attrs="drop_conflicts", data_vars="minimal")
        found.add_groups({group: joined})
    return found
