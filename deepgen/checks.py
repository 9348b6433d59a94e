"""Refusals: what was wrong, what came, what is needed and what to do, before any compute."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

TO_NUMBERS = (
    "Convert it first, e.g. with np.asarray(x, dtype=np.float32), or a DataFrame with NA with "
    "x.to_numpy(dtype=np.float32, na_value=np.nan); encode categories as integers (deepgen.data.Encoding does)."
)
"""What to do with data that NumPy does not take for numbers."""


def problem(what: str, *, got: Any, expected: Any, fix: str) -> ValueError:
    """The error for a user's mistake, in the one form that every message of the package has.

    Args:
        what: the argument or the thing that is wrong.
        got: what came.
        expected: what is needed.
        fix: what to do about it.

    Returns:
        A ``ValueError`` to be raised.
    """
    return ValueError(f"{what}: got {got}; expected {expected}. {fix}")


def wrong_type(what: str, value: Any, *, expected: str, fix: str) -> TypeError:
    """The error for an argument of another type than is needed, in the form of `problem`.

    Args:
        what: the argument.
        value: what came.
        expected: what is needed.
        fix: what to do about it.

    Returns:
        A ``TypeError`` to be raised.
    """
    if isinstance(value, tuple):
        got = f"a tuple of {len(value)}"
    elif isinstance(value, str | type):
        got = repr(value)
    else:
        name = getattr(value, "__qualname__", None)
        got = f"a {type(value).__name__}" + (f", {name}" if name else "")
    return TypeError(f"{what}: got {got}; expected {expected}. {fix}")


def random_key(rng_key: Any) -> None:
    """Refuse what is no random key of JAX, such as the program in its place.

    Args:
        rng_key: what was passed as one.

    Raises:
        TypeError: naming the argument.
    """
    dtype = getattr(rng_key, "dtype", None)
    if not (str(dtype).startswith("key<") or str(dtype) == "uint32"):
        raise wrong_type(
            "rng_key", rng_key, expected="a random key", fix="The key comes first: pass jax.random.key(0), say."
        )


def observed_somewhere(what: str, missing: np.ndarray) -> None:
    """Refuse data of which an entry (a column of a table, a pixel) is missing in every row.

    Args:
        what: the argument's name, for the message.
        missing: (n, *event_shape) booleans.

    Raises:
        ValueError: naming the first such entry.
    """
    never = np.argwhere(missing.all(0))
    if len(never):
        first = tuple(int(i) for i in never[0])
        where = f"column {first[0]}" if len(first) == 1 else f"the entries {first}"
        raise problem(
            what,
            got=f"no observed entry in {where}" + (f" and {len(never) - 1} others" if len(never) > 1 else ""),
            expected="at least one in each",
            fix="There is nothing to learn from it; leave it out.",
        )


def tell_constant(what: str, x: np.ndarray) -> None:
    """Warn of columns of a table whose observed entries are all the same.

    Args:
        what: the argument's name, for the message.
        x: (n, d), NaN where missing, something observed in each column.

    Warns:
        UserWarning: naming the first such column.
    """
    found = np.asarray(x, dtype=float)
    constant = np.flatnonzero(np.nanmax(found, axis=0) == np.nanmin(found, axis=0))
    if len(constant):
        more = f", and so it is in {len(constant) - 1} others" if len(constant) > 1 else ""
        warnings.warn(
            f"{what}: column {constant[0]} has the same value in all observed entries{more}. There is nothing to learn "
            "from it (under a continuous law its density grows as the scale shrinks); leave it out.",
            stacklevel=4,
        )


def one_of(what: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ValueError: naming the argument, the value and the choices.
    """
    choices = list(choices)
    if value not in choices:
        raise problem(what, got=repr(value), expected=f"one of {choices}", fix="Choose one of these.")


def positive(what: str, value: float, *, zero: bool = False) -> None:
    """Refuse a number that is not finite and positive (or zero, where ``zero``).

    Raises:
        ValueError: naming the argument and the value.
    """
    if not (np.isfinite(value) and (value > 0 or (zero and value == 0))):
        kind = "a finite number >= 0" if zero else "a finite number > 0"
        raise problem(what, got=value, expected=kind, fix=f"Set {what} to such a number.")


def data(
    what: str, x: Any, event_shape: tuple[int, ...], *, missing: bool = False, observed: np.ndarray | None = None
) -> np.ndarray:
    """The data as a NumPy array, checked: numeric, batch first, of the event's shape, finite, not empty.

    Args:
        what: the argument's name, for the message.
        x: (n, *event_shape) numbers.
        event_shape: the shape of one datum.
        missing: whether NaN is allowed (it means missing).
        observed: (n, *event_shape) booleans that say what is observed, or None.

    Returns:
        ``x`` as a NumPy array of its own dtype.

    Raises:
        ValueError: wrong dtype, wrong shape, empty, infinite, NaN where none may be, or nothing observed at all.
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise problem(
            what,
            got=f"dtype {array.dtype}",
            expected="a numeric array",
            fix=TO_NUMBERS,
        )
    if array.ndim != len(event_shape) + 1 or array.shape[1:] != tuple(event_shape):
        raise problem(
            what,
            got=f"shape {array.shape}",
            expected=f"(n, {', '.join(map(str, event_shape))}): batch first, then the event shape",
            fix=_shape_advice(array.shape, tuple(event_shape)),
        )
    if array.shape[0] == 0:
        raise problem(what, got="no rows", expected="at least one row", fix="Pass data that is not empty.")
    if observed is not None and (observed.dtype != np.bool_ or observed.shape != array.shape):
        raise problem(
            "observed",
            got=f"dtype {observed.dtype}, shape {observed.shape}",
            expected=f"booleans of the data's shape {array.shape}",
            fix="Pass True where a value is observed and False where it is missing.",
        )
    if array.dtype.kind == "f":
        if np.isinf(array).any():
            where = tuple(int(i) for i in np.argwhere(np.isinf(array))[0])
            raise problem(
                what,
                got=f"{int(np.isinf(array).sum())} infinite values, the first at {where}",
                expected="finite values",
                fix="Replace them, or set them to NaN where they stand for missing.",
            )
        nan = np.isnan(array)
        if not missing and nan.any():
            where = tuple(int(i) for i in np.argwhere(nan)[0])
            raise problem(
                what,
                got=f"{int(nan.sum())} NaN values, the first at {where}",
                expected="complete data",
                fix="Drop or fill these rows, or complete them with impute.",
            )
        if observed is not None and (nan & observed).any():
            where = tuple(int(i) for i in np.argwhere(nan & observed)[0])
            raise problem(
                what,
                got=f"NaN at {where}, which observed says is observed",
                expected="a number wherever observed is True",
                fix="Set observed to False there.",
            )
    return array


def with_mask(x: Any, observed: Any | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The data and what is observed of it, where something other than NaN says so.

    Args:
        x: numbers, perhaps a NumPy masked array, whose mask says what is missing.
        observed: booleans of x's shape, or None.

    Returns:
        ``x`` as a plain array, and which entries are observed, or None where only NaN can say it.
    """
    seen = None if observed is None else np.asarray(observed)
    if np.ma.isMaskedArray(x):
        unmasked = ~np.ma.getmaskarray(x)
        seen = unmasked if seen is None or seen.shape != unmasked.shape else unmasked & seen
    return np.asarray(x), seen


def columns_of(x: Any, columns: Sequence[str] | None) -> Sequence[str] | None:
    """The names of a table's columns: those that were passed, else a data frame's own, else None."""
    own = getattr(x, "columns", None)
    return columns if columns is not None or own is None else [str(name) for name in own]


def _shape_advice(shape: tuple[int, ...], event_shape: tuple[int, ...]) -> str:
    if shape == event_shape:
        return "Add the batch axis: x[None]."
    if len(shape) > 1 and np.prod(shape[1:]) == np.prod(event_shape):
        return f"Reshape it: x.reshape(len(x), {', '.join(map(str, event_shape))})."
    return "Reshape the data, or build the program with the data's event_shape."


def at_least(what: str, value: float, least: float) -> None:
    """Refuse a number below ``least``.

    Raises:
        ValueError: naming the argument and the value.
    """
    if not value >= least:
        raise problem(what, got=value, expected=f"a number >= {least}", fix=f"Set {what} to such a number.")


def event_shape(value: Any) -> tuple[int, ...]:
    """The shape of one datum as a tuple.

    Raises:
        ValueError: not a sequence of one or more positive integers.
    """
    shape = tuple(value) if isinstance(value, tuple | list) else ()
    if not shape or not all(isinstance(size, int | np.integer) and size > 0 for size in shape):
        raise problem(
            "event_shape",
            got=repr(value),
            expected="a tuple of one or more positive integers",
            fix="Pass the shape of one datum, without the batch: x.shape[1:].",
        )
    return tuple(int(size) for size in shape)


def image_shape(value: Any) -> None:
    """Refuse the shape of a datum that is no image.

    Raises:
        ValueError: not (channels, height, width).
    """
    if len(event_shape(value)) != 3:
        raise problem(
            "event_shape",
            got=tuple(value),
            expected="(channels, height, width)",
            fix="Give grey images one channel, as in (1, 28, 28), or take a program that is not for images.",
        )


def equal_shapes(what: str, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Refuse two arrays of different shapes.

    Raises:
        ValueError: naming both shapes.
    """
    if first != second:
        raise problem(what, got=f"shapes {first} and {second}", expected="equal shapes", fix="Pass as many of each.")


def elementwise(site: str, independent: bool, law: Any) -> None:
    """Refuse a law whose missing elements cannot simply be left out of the density.

    Raises:
        ValueError: naming the site and the law.
    """
    if not independent:
        raise problem(
            f"site {site!r}",
            got=f"a joint law, {type(law).__name__}",
            expected="a law whose elements are independent given the latents",
            fix="Take a method that treats the missing entries as latents, such as method='nuts' on the plain model.",
        )


def declared(name: str, names: Iterable[str]) -> None:
    """Refuse a name under which no parameters were declared.

    Raises:
        ValueError: naming the name and those there are.
    """
    names = sorted(set(names))
    if name not in names:
        raise problem("name", got=repr(name), expected=f"one of {names}", fix="Pass the name that the model declares.")


def one_a_row(what: str, values: tuple[int, ...], rows: int, fix: str) -> None:
    """Refuse a function of the user's own that does not give one number a row.

    Args:
        what: the function.
        values: the shape of what it gave.
        rows: how many rows it was shown.
        fix: what to do.

    Raises:
        ValueError: another shape.
    """
    if values != (rows,):
        raise problem(
            what,
            got=f"a result of shape {values} for {rows} rows",
            expected=f"one number a row, ({rows},)",
            fix=fix,
        )


def numbers(what: str, lost: np.ndarray) -> None:
    """Refuse a result that is NaN: parameters, a network or an energy gave it.

    Args:
        what: of which it is the result.
        lost: (n,) whether a row has NaN.

    Raises:
        ValueError: with the number of such rows, and the first of them.
    """
    if lost.any():
        raise problem(
            what,
            got=f"NaN in {int(lost.sum())} of {lost.size} rows, the first of them row {int(lost.argmax())}",
            expected="numbers",
            fix="Look for NaN in the program's parameters and in what its network or energy gives; where training led "
            "there, fit it anew with a lower learning_rate or clip_norm=1.0.",
        )
