"""Which entries a unit of a network may see: orders, degrees and masks, as NumPy arrays.

An order decides the D entries of a datum in T steps of E entries each. What was decided in step s is known from degree
s + 1 on, a unit of degree m sees what was decided in steps before m, and the outputs of step t are units of degree t.
One rule then holds between all layers: a unit sees those of the layer before whose degree is not above its own.

Germain, Gregor, Murray & Larochelle 2015, MADE: masked autoencoder for distribution estimation.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks

Order = tuple[tuple[int, ...], ...]


class Degrees(NamedTuple):
    """The degrees of a masked network's units.

    Attributes:
        inputs: (D,) of the entries that go in.
        hidden: of each hidden layer (width,).
        outputs: (D,) of the outputs of each entry.
    """

    inputs: np.ndarray
    hidden: tuple[np.ndarray, ...]
    outputs: np.ndarray


def order_of(event_shape: Sequence[int], element_shape: Sequence[int] = (), order: Any = None) -> Order:
    """In which order the entries of a datum are decided.

    Args:
        event_shape: the shape of one datum.
        element_shape: the shape of what one step decides, ``()`` for a single entry; without an order it has to be how
            ``event_shape`` begins, as channels do.
        order: (D,) or (T, E) indices into the flattened datum; None for row-major.

    Returns:
        (T, E) indices, as tuples.

    Raises:
        ValueError: an order that does not name every entry once, or an element that does not fit the datum.
    """
    shape = checks.event_shape(tuple(event_shape))
    size, element = math.prod(shape), tuple(element_shape)
    width = math.prod(element)
    if order is None:
        if shape[: len(element)] != element:
            raise checks.problem(
                "element_shape",
                got=element,
                expected=f"how the event's shape {shape} begins",
                fix="Pass an order (T, E) that says which entries each step decides.",
            )
        table = np.arange(size).reshape(width, -1).T
    else:
        table = np.asarray(order)
        if table.size != size or table.dtype.kind not in "iu" or (np.sort(table, axis=None) != np.arange(size)).any():
            raise checks.problem(
                "order",
                got=f"{table.size} indices of dtype {table.dtype}",
                expected=f"each of 0 … {size - 1} once",
                fix="Pass a permutation of the flattened datum's entries, such as rng.permutation(size).",
            )
        table = table.reshape(-1, width) if size % width == 0 else table
        if table.shape != (size // width, width):
            raise checks.problem(
                "element_shape",
                got=element,
                expected=f"a shape whose size divides {size}",
                fix="Decide in each step as many entries as in any other.",
            )
    return tuple(tuple(int(i) for i in row) for row in table)


def steps(order: Any) -> np.ndarray:
    """(D,) the step in which each entry is decided, of an order (T, E)."""
    table = np.asarray(order)
    found = np.empty(table.size, dtype=np.int64)
    found[table] = np.arange(len(table))[:, None]
    return found


def hidden_degrees(width: int, num_steps: int, *, context: bool = False, seed: Any = None) -> np.ndarray:
    """The degrees of a hidden layer: every one as often as any other, or evenly spread where there are fewer units.

    Degree 0 sees nothing of the datum, and is there where a context is seen, or where there is but one step.

    Args:
        width: the number of units.
        num_steps: T.
        context: whether the network sees a context.
        seed: of a random permutation of the units, as NumPy takes it; None to have them ascend.

    Returns:
        (width,) integers below T.
    """
    low = 0 if context or num_steps == 1 else 1
    ascending = low + np.arange(width) * (num_steps - low) // width
    return ascending if seed is None else np.random.default_rng(seed).permutation(ascending)


@lru_cache(maxsize=256)
def degrees(order: Order, hidden: tuple[int, ...] = (), *, context: bool = False, seed: int | None = None) -> Degrees:
    """The degrees of all units of a masked network.

    Args:
        order: (T, E), as `order_of` gives it.
        hidden: the widths of the hidden layers.
        context: whether the network sees a context.
        seed: of random permutations of each hidden layer's units; None to have their degrees ascend.

    Returns:
        The degrees.
    """
    when = steps(order)
    seeds = [None if seed is None else (seed, i) for i in range(len(hidden))]
    layers = [hidden_degrees(n, len(order), context=context, seed=s) for n, s in zip(hidden, seeds, strict=True)]
    return Degrees(when + 1, tuple(layers), when)


def mask(outer: Any, inner: Any) -> Any:
    """(outer, inner) which units of the layer before each unit sees, for degrees of any array library."""
    return outer[:, None] >= inner[None, :]


def masks(found: Degrees, *, num_features: int = 1, num_params: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """The masks of a masked network's weights.

    Args:
        found: the degrees.
        num_features: how many inputs there are for each entry, (num_features, D) flattened.
        num_params: how many outputs, (num_params, D) flattened.

    Returns:
        For each layer (out, in) booleans, and the mask of direct connections from the inputs to the outputs.
    """
    inputs, outputs = np.tile(found.inputs, num_features), np.tile(found.outputs, num_params)
    units = [inputs, *found.hidden, outputs]
    return [mask(units[i + 1], units[i]) for i in range(len(units) - 1)], mask(outputs, inputs)


@lru_cache(maxsize=256)
def schedule(
    order: Order, hidden: tuple[int, ...] = (), *, context: bool = False, seed: int | None = None
) -> tuple[np.ndarray, ...]:
    """The units that are complete once a step begins, and were not before: those whose degree is that step.

    Args:
        order: as in `degrees`.
        hidden: as in `degrees`.
        context: as in `degrees`.
        seed: as in `degrees`.

    Returns:
        For each hidden layer (T, B) unit numbers, with the layer's width where a step completes fewer than B.
    """
    found = degrees(order, hidden, context=context, seed=seed).hidden
    return tuple(_table([np.flatnonzero(layer == t) for t in range(len(order))], len(layer)) for layer in found)


def _table(rows: Iterable[np.ndarray], fill: int) -> np.ndarray:
    rows = list(rows)
    found = np.full((len(rows), max(1, *(len(row) for row in rows))), fill)
    for line, row in zip(found, rows, strict=True):
        line[: len(row)] = row
    return found
