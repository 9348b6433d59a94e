"""What an autoregressive law is, apart from its engine: what fits together, and where what is decided goes."""

import math
from typing import Any, Protocol, runtime_checkable

import array_api_compat
import numpy as np

from deepgen import checks


@runtime_checkable
class Randomised(Protocol):
    """A law that has a cheaper one to be trained by, taken at random anew at every step."""

    def at_random(self, *args: Any) -> Any:
        """That law: (key of NumPyro)."""


@runtime_checkable
class Alternating(Protocol):
    """A law of several parts by which it can be trained in turn."""

    def in_turn(self, step: Any) -> Any:
        """That of a step."""


@runtime_checkable
class Dropping(Protocol):
    """A network that drops units at random where its call is given ``noise=``."""

    dropout: float

    def noise(self, *args: Any) -> Any:
        """The noise that says which: (key of NumPyro, number of rows)."""


def drops(network: Any) -> bool:
    """Whether a network is to drop units while it is fitted."""
    return isinstance(network, Dropping) and network.dropout > 0


def check(network: Any, observation: Any) -> None:
    """Refuse a network and an observation law that do not fit together.

    Raises:
        ValueError: another event's shape, another number of parameters, or a law that differs from entry to entry.
    """
    checks.equal_shapes(
        "event_shape of network and observation", tuple(network.event_shape), tuple(observation.event_shape)
    )
    element = observation.element(network.element_shape)
    if network.num_params != element.num_params:
        raise checks.problem(
            "network",
            got=f"{network.num_params} numbers for each entry",
            expected=f"{element.num_params}, as the law {observation.name!r} wants",
            fix=f"Build it with num_params={element.num_params}.",
        )


def rows(shape: tuple[int, ...], event_shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The leading axes of a value, and how many rows they are.

    Raises:
        ValueError: a value that does not end in the event's shape.
    """
    lead = tuple(shape[: len(shape) - len(event_shape)])
    if tuple(shape[len(lead) :]) != tuple(event_shape):
        raise checks.problem(
            "value",
            got=f"shape {tuple(shape)}",
            expected=f"(..., {', '.join(map(str, event_shape))})",
            fix="Pass values of the event's shape.",
        )
    return lead, math.prod(lead)


def observed(x: Any, mask: Any | None) -> Any:
    """What is observed of some values.

    Args:
        x: an array, NaN (negative integers) where missing and ``mask`` is None.
        mask: booleans of x's shape, or None.

    Returns:
        ``mask``, or the booleans that x itself says.

    Raises:
        ValueError: a mask of another shape.
    """
    if mask is None:
        xp = array_api_compat.array_namespace(x)
        return ~xp.isnan(x) if xp.isdtype(x.dtype, "real floating") else x >= 0
    checks.equal_shapes("x and observed", tuple(x.shape), tuple(np.shape(mask)))
    return mask


def check_known(x: Any, observed: Any, event_shape: tuple[int, ...]) -> None:
    """Refuse entries that are to be clamped and are no numbers.

    Args:
        x: (n, *event_shape) an array.
        observed: an array of x's shape.
        event_shape: of a datum.

    Raises:
        ValueError: another shape, something else than booleans, or values that are said to be observed and are NaN,
            infinite or (of integers) negative.
    """
    rows(tuple(x.shape), event_shape)
    xp = array_api_compat.array_namespace(x)
    if not xp.isdtype(observed.dtype, "bool"):
        raise checks.problem(
            "observed",
            got=f"dtype {observed.dtype}",
            expected="booleans",
            fix="Pass True where a value is observed and False where it is missing.",
        )
    if xp.isdtype(x.dtype, "bool"):
        return
    number = xp.isfinite(x) if xp.isdtype(x.dtype, "real floating") else x >= 0
    lost = int(xp.sum(xp.astype(observed & ~number, xp.int32)))
    if lost:
        raise checks.problem(
            "x",
            got=f"{lost} NaN, infinite or negative values that are said to be observed",
            expected="a number wherever an entry is observed",
            fix="Set observed to False there; without it NaN (of integers, a negative one) says what is missing.",
        )


def context_dim(network: Any) -> int:
    """The length of the context that a network takes; 0 where it takes none.

    Args:
        network: which says so by ``context_shapes``, the shapes that the context of one row may have.
    """
    shapes = context_shapes(network)
    return shapes[0][0] if shapes else 0


def context_shapes(network: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes that the context of one row may have, a vector's first; none where the network takes no context."""
    return tuple(getattr(network, "context_shapes", ()))


def check_context(network: Any, shape: tuple[int, ...] | None) -> None:
    """Refuse to go without a context that the network takes, or one that it does not take.

    Args:
        network: what has, where it takes a context, its ``context_shapes``.
        shape: of the context, (n, ...), or None.

    Raises:
        ValueError: naming what came and what is wanted.
    """
    shapes = context_shapes(network)
    if (shape is None) if shapes else (shape is not None):
        raise checks.problem(
            "context",
            got="none" if shape is None else f"shape {tuple(shape)}",
            expected=" or ".join(f"(n, {', '.join(map(str, own))})" for own in shapes) or "none",
            fix="Pass what the law is conditional on; to the verbs as y."
            if shapes
            else "Make the program with context_dim.",
        )


def contexts(context: Any, lead: tuple[int, ...]) -> Any:
    """The context of each of several draws of the rows, flattened.

    Args:
        context: (n, ...), or None.
        lead: the leading axes of the draws, the last of them n.

    Returns:
        (product of lead, ...), or None.
    """
    if context is None:
        return None
    xp = array_api_compat.array_namespace(context)
    return xp.reshape(xp.broadcast_to(context, (*lead[:-1], *context.shape)), (-1, *context.shape[1:]))
