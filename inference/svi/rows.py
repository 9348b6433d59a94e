"""The data of a fit: how it is passed to model and guide, how many rows it has, and which are held out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Conditional, check_given, takes_labels
from deepgen.program.invertible import Rounded


class Call(NamedTuple):
    """The arguments of ``model(*args, **kwargs)``; arrays are batch first."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def map(self, function: Callable[[Any], Any]) -> "Call":
        """The call with ``function`` applied to each array."""
        return Call(
            tuple(function(value) if is_array(value) else value for value in self.args),
            {name: function(value) if is_array(value) else value for name, value in self.kwargs.items()},
        )

    def with_data(self, function: Callable[[Any], Any]) -> "Call":
        """The call with ``function`` applied to the data, its first argument."""
        return Call((function(self.args[0]), *self.args[1:]), self.kwargs)

    def arrays(self) -> dict[str, Any]:
        """The arrays by name, or by position."""
        named = {**{str(i): value for i, value in enumerate(self.args)}, **self.kwargs}
        return {name: value for name, value in named.items() if is_array(value)}


def is_array(value: Any) -> bool:
    """Whether something has rows: an array of either engine or of NumPy, with at least one axis."""
    return len(getattr(value, "shape", ())) > 0


def as_call(data: Any) -> Call:
    """A tuple is the positional arguments, a dictionary the keyword arguments, anything else the one argument."""
    if isinstance(data, tuple):
        return Call(data, {})
    if isinstance(data, Mapping):
        return Call((), dict(data))
    return Call((data,), {})


def count(call: Call, what: str) -> int:
    """The number of rows, the same in every array.

    Raises:
        ValueError: there is no array, or they disagree.
    """
    rows = {name: int(value.shape[0]) for name, value in call.arrays().items()}
    if len(set(rows.values())) != 1:
        raise checks.problem(
            what,
            got=f"arrays of {rows} rows" if rows else "no array",
            expected="arrays of one number of rows, to draw minibatches or held-out rows from",
            fix="Make the first axes equal, or pass batch_size=None and no validation share.",
        )
    return next(iter(rows.values()))


def of_program(program: Any, data: Any, y: Any = None) -> Call:
    """The arguments of a program's model, checked.

    Args:
        program: the program.
        data: (n, *event_shape), missing entries allowed.
        y: (n,) labels or (n, context_dim) a context, or None.

    Returns:
        The data, and the labels or the context where there are some.

    Raises:
        ValueError: data or labels that the program does not take, or labels for what takes none.
    """
    if y is None:
        return Call((program.check_data(data, missing=not isinstance(program, Rounded)),), {})
    if not isinstance(program, Conditional):
        takes_labels(program)
    x = program.check_data(data, missing=not isinstance(program, Rounded))
    return Call((x, check_given(program, y, len(x))), {})


def training(program: Any, data: Any, y: Any = None) -> Call:
    """The arguments of a program's model for the rows that it is fitted to, of which each entry is observed somewhere.

    Args:
        program: the program.
        data: (n, *event_shape), missing entries allowed.
        y: (n,) labels or (n, context_dim) a context, or None.

    Returns:
        As `of_program`.

    Raises:
        ValueError: as `of_program`, or an entry that is missing in every row.
    """
    call = of_program(program, data, y)
    checks.observed_somewhere("data", is_missing(np.asarray(call.args[0])))
    return call


def held_out(program: Any, validation: Any, y: Any = None, show: Callable[[Any], Any] = lambda x: x) -> Call:
    """The arguments of a program's model for held-out data.

    Args:
        program: the program.
        validation: data, or a pair of data and labels (or their context).
        y: the labels of the training data, or None; with labels there, data alone stand for rows without one.
        show: what is done to the data first.

    Returns:
        As `of_program`.

    Raises:
        ValueError: as `of_program`.
    """
    data, *labels = validation if isinstance(validation, tuple) else (validation,)
    if not labels and y is not None and not isinstance(program, Conditional):
        labels = [np.full(len(data), -1)]
    return of_program(program, show(data), *labels)


def check_augment(augment: Any, pair: bool) -> None:
    """Refuse an augmentation that is no function, or of data that are not a program's.

    Raises:
        TypeError: not callable.
        ValueError: for a pair (model, guide).
    """
    if not callable(augment):
        raise TypeError(f"augment: got {type(augment).__name__}; expected a function of the rows. Pass one, or None.")
    if pair:
        raise checks.problem(
            "augment",
            got="a pair (model, guide)",
            expected="a program, whose data are known to be its first argument",
            fix="Change the data where they are passed, or make a program of the pair.",
        )


def augmented(data: Any, shown: Any) -> np.ndarray:
    """What an augmentation made of the data, where it has kept the rows.

    Args:
        data: (n, ...).
        shown: what came back.

    Raises:
        ValueError: another number of rows.
    """
    shown = np.asarray(shown)
    if shown.shape[:1] != np.shape(data)[:1]:
        raise checks.problem(
            "augment",
            got=f"an array of shape {shown.shape} from {np.shape(data)}",
            expected="as many rows as went in",
            fix="Change rows one by one: none may be added or left out.",
        )
    return shown


def have_holes(*calls: Call | None) -> bool:
    """Whether an entry of the data (the first argument) is missing in any of the calls: NaN, or a negative integer."""
    return any(bool(is_missing(np.asarray(call.args[0])).any()) for call in calls if call is not None)


def not_elementwise(law: Any) -> ValueError:
    """The error for a law of x whose missing elements cannot simply be left out of the density."""
    return checks.problem(
        "site 'x' of data with holes",
        got=f"a joint law, {type(law).__name__}",
        expected="a law whose elements are independent given the latents",
        fix="Fit a program that has one, or fit to the complete rows alone.",
    )


def hold_out(call: Call, share: float, seed: int) -> tuple[Call, Call]:
    """Split at random into the rows to train on and the rows held out.

    Args:
        call: the data.
        share: of the rows held out, in (0, 1).
        seed: of the permutation.

    Returns:
        Training data and validation data, each with its rows in the order they had.

    Raises:
        ValueError: no row would be left on one side.
    """
    rows = count(call, "data")
    held = round(share * rows)
    if held == 0 or held == rows:
        raise checks.problem(
            "validation",
            got=f"{share} of {rows} rows",
            expected="a share that leaves rows on both sides",
            fix="Pass another share, or held-out data.",
        )
    order = np.random.default_rng(seed).permutation(rows)
    kept, out = np.sort(order[held:]), np.sort(order[:held])
    return call.map(lambda array: array[kept]), call.map(lambda array: array[out])
