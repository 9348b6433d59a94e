"""What the columns of a table hold, and the refusal of those that cannot be modelled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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


class Fault(NamedTuple):
    """Why a column cannot be modelled.

    Attributes:
        name: of the column.
        got: what it holds.
        expected: what is needed.
        advice: what else can be done about it than to leave it out, as a sentence.
    """

    name: str
    got: str
    expected: str
    advice: str = ""


def refuse(faults: Sequence[Fault]) -> None:
    """Refuse columns, all of them at once.

    Args:
        faults: of each column.

    Raises:
        ValueError: there are faults: what each column holds, and how to leave all of them out.
    """
    if not faults:
        return
    names = [fault.name for fault in faults]
    one = len(faults) == 1
    advice = [*dict.fromkeys(fault.advice for fault in faults if fault.advice)]
    raise problem(
        f"column {names[0]!r}" if one else f"columns {names}",
        got="; ".join(fault.got if one else f"{fault.name!r}: {fault.got}" for fault in faults),
        expected=", or ".join(dict.fromkeys(fault.expected for fault in faults)),
        fix=" ".join([*advice, f"{'Or leave' if advice else 'Leave'} {'it' if one else 'them'} out: drop={names}."]),
    )


def classified(
    frame: "pandas.DataFrame",
    categorical: Sequence[str] = (),
    ordinal: Mapping[str, Sequence[Any] | None] | None = None,
) -> tuple[Column, ...]:
    """What each column of a frame holds.

    Args:
        frame: the cells; NA is missing.
        categorical: columns of numbers that are codes of categories.
        ordinal: columns of categories that have an order, and their levels in it; None for the order found.

    Returns:
        The columns, in the frame's order.

    Raises:
        ValueError: columns without an observed cell, of a type that cannot be modelled (dates, mixed objects, text with
            more than 50 levels or different in nearly every row) or with infinite values, all of them named; levels
            that the order leaves out.
    """
    found: list[Column] = []
    faults: list[Fault] = []
    for name in frame.columns:
        one = _column(frame[name], name in categorical, ordinal or {})
        if isinstance(one, Column):
            found.append(one)
        else:
            faults.append(one)
    refuse(faults)
    return tuple(found)


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


def _column(values: "pandas.Series", categorical: bool, ordinal: Mapping[str, Sequence[Any] | None]) -> Column | Fault:
    from pandas.api import types

    name, dtype = str(values.name), values.dtype
    present = values.dropna()
    if not len(present):
        return Fault(name, "no observed cell", "at least two different values")
    if categorical or name in ordinal or isinstance(dtype, types.CategoricalDtype) or types.is_string_dtype(dtype):
        levels = _levels(name, values, present, name in ordinal)
        if isinstance(levels, Fault):
            return levels
        ordered = name in ordinal or (isinstance(dtype, types.CategoricalDtype) and bool(dtype.ordered))
        given = ordinal.get(name)
        return Column(
            name, "categorical", str(dtype), levels if given is None else _given(name, given, levels), ordered
        )
    if types.is_bool_dtype(dtype):
        return Column(name, "boolean", str(dtype))
    if not types.is_numeric_dtype(dtype) or types.is_complex_dtype(dtype):
        return Fault(
            name,
            f"the type {dtype}",
            "numbers, truth values, text or categories",
            "Convert it, e.g. dates to days since a first day.",
        )
    infinite = np.flatnonzero(np.isinf(values.to_numpy(dtype=np.float64, na_value=np.nan)))
    if infinite.size:
        return Fault(
            name,
            f"{infinite.size} infinite values, the first in row {infinite[0] + 1}",
            "finite values",
            "Replace them, or leave the cells blank where they stand for missing.",
        )
    return Column(name, "integer" if types.is_integer_dtype(dtype) else "real", str(dtype))


def _levels(name: str, values: "pandas.Series", present: "pandas.Series", ordinal: bool) -> tuple[Any, ...] | Fault:
    from pandas.api.types import CategoricalDtype

    kinds = {
        str if isinstance(value, str) else bool if isinstance(value, bool | np.bool_) else float for value in present
    }
    plain = all(isinstance(value, str | bool | int | float | np.generic) for value in present)
    if len(kinds) > 1 or not plain or (values.dtype == object and kinds != {str}):
        return Fault(
            name,
            f"Python objects, e.g. {present.tolist()[0]!r}",
            "text, or one pandas type of numbers or truth values",
            "Convert it, e.g. with frame.convert_dtypes().",
        )
    if isinstance(values.dtype, CategoricalDtype):
        used = set(present)
        levels = [level for level in values.dtype.categories if level in used]
    else:
        levels = list(present.unique())
        levels = levels if ordinal and kinds == {str} else sorted(levels)
    if len(levels) > MAX_LEVELS or (len(present) > 10 and len(levels) > 0.5 * len(present)):
        return Fault(
            name,
            f"{len(levels)} different values in {len(present)} cells, e.g. {levels[0]!r}",
            f"at most {MAX_LEVELS} categories that recur (or numbers; names, dates and free text cannot be modelled)",
        )
    return tuple(level.item() if isinstance(level, np.generic) else level for level in levels)


def _given(name: str, order: Sequence[Any], levels: tuple[Any, ...]) -> tuple[Any, ...]:
    """The levels of a column in the order given, in which numbers may be written as text."""
    written = {text: level for level in levels for text in (str(level), _short(level))}
    places = {written[str(level)]: place for place, level in enumerate(order) if str(level) in written}
    absent = [level for level in levels if level not in places]
    if absent:
        raise problem(
            f"ordinal: column {name!r}",
            got=f"the order {list(order)}",
            expected=f"also a place for {absent}, which the column holds",
            fix="Name every level, the lowest first.",
        )
    return tuple(sorted(levels, key=places.__getitem__))


def _short(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)
