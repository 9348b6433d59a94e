"""What a masked perceptron is, apart from its engine: its arguments, its degrees, and what each step of it touches."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks
from deepgen.math import degrees
from deepgen.nn import arguments


class Sizes(NamedTuple):
    """The sizes of a masked perceptron, and how it sees a datum.

    Attributes:
        event_shape: of a datum, D entries.
        element_shape: of what one step decides, E entries.
        order: (T, E) indices into the flattened datum.
        num_params: P, how many outputs for each entry, or for each element where ``coupled``.
        hidden: the widths of the hidden layers.
        context_size: of the context; 0 for none.
        num_categories: F, of entries that are seen as one-hot codes; None for numbers.
        input_range: the numbers that are seen as -1 and 1; None for numbers as they are.
        coupled: whether outputs belong to whole elements.
        seed: of the hidden units' degrees; None where they ascend.
    """

    event_shape: tuple[int, ...]
    element_shape: tuple[int, ...]
    order: degrees.Order
    num_params: int
    hidden: tuple[int, ...]
    context_size: int
    num_categories: int | None
    input_range: tuple[float, float] | None
    coupled: bool
    seed: int | None

    @property
    def num_entries(self) -> int:
        """D."""
        return math.prod(self.event_shape)

    @property
    def num_features(self) -> int:
        """How many inputs there are for each entry."""
        return self.num_categories or 1

    @property
    def num_places(self) -> int:
        """How many entries or, where they are coupled, elements have outputs."""
        return len(self.order) if self.coupled else self.num_entries

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of the outputs for one datum."""
        return (self.num_params, *(self.event_shape[len(self.element_shape) :] if self.coupled else self.event_shape))

    @property
    def layers(self) -> tuple[int, ...]:
        """The widths of all layers, from the inputs to the outputs."""
        return (self.num_features * self.num_entries, *self.hidden, self.num_params * self.num_places)


class Plan(NamedTuple):
    """All that an order and the hidden units' degrees say, as arrays of integers, so that plans can be stacked.

    Attributes:
        degrees: of the inputs, the hidden layers and the outputs.
        order: (T, E) indices into the flattened datum.
        completed: of each hidden layer (T, B) the units that each step completes, the width where there are fewer.
        places: (T, E), or (T, 1) where coupled: where the outputs of each step are among the flattened places.
    """

    degrees: degrees.Degrees
    order: np.ndarray
    completed: tuple[np.ndarray, ...]
    places: np.ndarray


def sizes(
    event_shape: Sequence[int],
    num_params: int,
    hidden: Sequence[int],
    *,
    order: Any,
    element_shape: Sequence[int],
    context_size: int,
    num_categories: int | None,
    input_range: Sequence[float] | None,
    coupled: bool,
    seed: int | None,
) -> Sizes:
    """The arguments of a masked perceptron, checked.

    Raises:
        ValueError: naming the argument that is wrong, what came and what is expected.
    """
    shape, element = checks.event_shape(tuple(event_shape)), arguments.wholes("element_shape", element_shape)
    table = degrees.order_of(shape, element, order)
    if coupled:
        pixels = np.asarray(table) % len(table)
        if shape[: len(element)] != element or (pixels != pixels[:, :1]).any():
            raise checks.problem(
                "coupled",
                got=f"True for elements of shape {element} of a datum of shape {shape}",
                expected="elements that are all channels of one pixel each",
                fix="Pass element_shape=event_shape[:1], and an order of pixels.",
            )
    if num_categories is not None:
        num_categories = arguments.whole("num_categories", num_categories, least=2)
    if input_range is not None:
        low, high = (float(value) for value in input_range)
        if num_categories is not None or not low < high:
            raise checks.problem(
                "input_range",
                got=(low, high),
                expected="(low, high) with low < high, and no num_categories",
                fix="Leave it out where entries are seen as one-hot codes.",
            )
        input_range = (low, high)
    return Sizes(
        shape,
        element,
        table,
        arguments.whole("num_params", num_params),
        arguments.wholes("hidden", hidden),
        arguments.whole("context_size", context_size, least=0),
        num_categories,
        input_range,
        bool(coupled),
        None if seed is None else arguments.whole("seed", seed, least=0),
    )


def degrees_of(found: Sizes) -> degrees.Degrees:
    """The degrees of the inputs, of the hidden layers, and of the outputs of each place."""
    all_of = degrees.degrees(found.order, found.hidden, context=found.context_size > 0, seed=found.seed)
    return all_of._replace(outputs=_at_places(found, all_of.outputs))


def tiled(found: Sizes, of: degrees.Degrees) -> tuple[Any, ...]:
    """The degrees of every unit, layer by layer from the inputs to the outputs, features and parameters in front.

    Args:
        found: the sizes.
        of: degrees, NumPy's or of an engine that adds as NumPy does.

    Returns:
        (width,) integers of each layer.
    """
    inputs = (of.inputs[None, :] + np.zeros((found.num_features, 1), dtype=np.int32)).reshape(-1)
    outputs = (of.outputs[None, :] + np.zeros((found.num_params, 1), dtype=np.int32)).reshape(-1)
    return (inputs, *of.hidden, outputs)


def masks(found: Sizes) -> tuple[list[np.ndarray], np.ndarray]:
    """Of each layer (out, in) which weights there are, and of the direct connections."""
    own = degrees_of(found)
    return degrees.masks(own, num_features=found.num_features, num_params=found.num_params)


def schedule(found: Sizes) -> tuple[np.ndarray, ...]:
    """For each hidden layer (T, B) the units that each step completes, the width where there are fewer."""
    return degrees.schedule(found.order, found.hidden, context=found.context_size > 0, seed=found.seed)


def places(found: Sizes) -> np.ndarray:
    """(T, E), or (T, 1) where coupled: at which place of the flattened outputs those of each step are."""
    order = np.asarray(found.order)
    return order[:, :1] % len(order) if found.coupled else order


def plan(found: Sizes, order: Any = None, seed: int | None = None) -> Plan:
    """The plan of a network's own order and degrees, or of others.

    Args:
        found: the network's sizes.
        order: (D,) or (T, E) indices, or None for the network's own.
        seed: of the hidden units' degrees; None where they ascend.

    Returns:
        The plan.

    Raises:
        ValueError: an order that is no permutation of the entries.
    """
    return _plan(member(found, order, seed))


def member(found: Sizes, order: Any, seed: int | None) -> Sizes:
    """The sizes with another order and other degrees.

    Args:
        found: the network's sizes.
        order: (D,) or (T, E) indices, or None for the network's own.
        seed: of the hidden units' degrees; None where they ascend.

    Returns:
        The sizes.

    Raises:
        ValueError: an order that is no permutation of the entries.
    """
    own = found.order if order is None else degrees.order_of(found.event_shape, found.element_shape, order)
    return found._replace(order=own, seed=seed)


@lru_cache(maxsize=256)
def _plan(found: Sizes) -> Plan:
    return Plan(degrees_of(found), np.asarray(found.order), schedule(found), places(found))


Indices = slice | list[int]


@lru_cache(maxsize=64)
def read_at(found: Sizes) -> tuple[Indices, ...]:
    """For each step, at which of the flattened (num_params, places) outputs its own are."""
    rows = np.arange(found.num_params)[:, None] * found.num_places
    return tuple(_indices((rows + here).reshape(-1)) for here in places(found))


@lru_cache(maxsize=64)
def completed(found: Sizes) -> tuple[tuple[Indices | None, ...], ...]:
    """For each hidden layer and step the units that the step completes, None where there are none."""
    widths_and_tables = zip(found.hidden, schedule(found), strict=True)
    return tuple(
        tuple(_indices(row[row < width]) if (row < width).any() else None for row in table)
        for width, table in widths_and_tables
    )


def check_context(found: Sizes, context: Any, batch: tuple[int, ...]) -> None:
    """Refuse a context that is missing, not wanted, or of another shape.

    Raises:
        ValueError: naming what came and what is expected.
    """
    expected = (*batch, found.context_size) if found.context_size else None
    got = None if context is None else tuple(context.shape)
    if got != expected:
        raise checks.problem(
            "context",
            got="none" if got is None else f"shape {got}",
            expected="none" if expected is None else f"shape {expected}",
            fix="Pass a context of that shape." if expected else "Build the network with the context's context_size.",
        )


def spec(found: Sizes, activation: Any, direct: bool) -> dict[str, Any]:
    """The network's name and arguments, as JSON knows them.

    Raises:
        ValueError: where the activation is a function.
    """
    natural = found.order == degrees.order_of(found.event_shape, found.element_shape) if _prefixed(found) else False
    return arguments.spec(
        "MaskedMLP",
        {
            "event_shape": found.event_shape,
            "num_params": found.num_params,
            "hidden": found.hidden,
            "order": None if natural else [list(row) for row in found.order],
            "element_shape": found.element_shape,
            "activation": activation,
            "context_size": found.context_size,
            "direct": direct,
            "num_categories": found.num_categories,
            "input_range": found.input_range,
            "coupled": found.coupled,
            "seed": found.seed,
        },
    )


def _indices(numbers: np.ndarray) -> Indices:
    """Indices as a slice where they are evenly spaced, since that copies nothing."""
    step = int(numbers[1] - numbers[0]) if len(numbers) > 1 else 1
    if step > 0 and (np.diff(numbers) == step).all():
        return slice(int(numbers[0]), int(numbers[-1]) + 1, step)
    return [int(number) for number in numbers]


def _prefixed(found: Sizes) -> bool:
    return found.event_shape[: len(found.element_shape)] == found.element_shape


def _at_places(found: Sizes, of_entries: np.ndarray) -> np.ndarray:
    return of_entries[: found.num_places] if found.coupled else of_entries
