"""What a transform moves and what it looks at: masks, permutations, contexts, checked once for both engines."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks
from deepgen.nn import arguments
from deepgen.program import context as given

DIRECTIONS = ("inverse", "forward")
Takes = tuple[int | None, ...] | None
"""The shape that a transform takes: None for an axis of any size, or for any shape."""


class Split(NamedTuple):
    """How a vector is split into what a coupling looks at and what it moves.

    Attributes:
        kept: the indices that it looks at.
        moved: the indices that it moves.
        back: where in (kept, moved) each entry stands.
        first: how many entries are kept where those come first, moved where those come first; 0 where they are mixed.
        kept_first: whether the kept ones come first.
    """

    kept: tuple[int, ...]
    moved: tuple[int, ...]
    back: tuple[int, ...]
    first: int
    kept_first: bool


def half(size: int, flip: bool = False) -> tuple[bool, ...]:
    """The mask that moves the second half of a vector, or the first where ``flip``."""
    arguments.whole("size", size, least=2)
    return tuple((i < size // 2) == flip for i in range(size))


def check_mask(mask: Sequence[Any]) -> tuple[bool, ...]:
    """Which entries of a vector are moved, as a tuple.

    Raises:
        ValueError: not a row of booleans with at least one of each.
    """
    found = np.asarray(mask)
    if found.ndim != 1 or found.dtype != np.bool_ or found.all() or not found.any():
        raise checks.problem(
            "mask",
            got=f"dtype {found.dtype}, shape {found.shape}, {int(np.sum(found != 0))} entries that are not zero",
            expected="a row of booleans, True where an entry is moved, with at least one True and one False",
            fix="Pass e.g. [False, False, True, True].",
        )
    return tuple(bool(value) for value in found)


@lru_cache(maxsize=256)
def split(mask: tuple[bool, ...]) -> Split:
    """The indices of both parts of a vector."""
    moved, kept = np.flatnonzero(mask), np.flatnonzero(~np.asarray(mask))
    back = np.argsort(np.concatenate([kept, moved]))
    kept_first = bool((np.diff(np.asarray(mask, int)) >= 0).all())
    moved_first = bool((np.diff(np.asarray(mask, int)) <= 0).all())
    first = len(kept) if kept_first else len(moved) if moved_first else 0
    indices = [tuple(int(i) for i in part) for part in (kept, moved, back)]
    return Split(indices[0], indices[1], indices[2], first, kept_first)


def check_permutation(permutation: Sequence[Any]) -> tuple[int, ...]:
    """A permutation as a tuple.

    Raises:
        ValueError: not each of 0 … D - 1 once.
    """
    found = np.asarray(permutation)
    if found.ndim != 1 or found.dtype.kind not in "iu" or (np.sort(found) != np.arange(found.size)).any():
        raise checks.problem(
            "permutation",
            got=f"dtype {found.dtype}, shape {found.shape}",
            expected="each of 0 … D - 1 once",
            fix="Pass e.g. rng.permutation(D), or range(D)[::-1].",
        )
    return tuple(int(i) for i in found)


def channel_order(channels: int, permutation: Sequence[Any] | None) -> tuple[int, ...]:
    """A permutation of channels; None: as they are.

    Raises:
        ValueError: not each of 0 … channels - 1 once.
    """
    order = check_permutation(range(channels) if permutation is None else permutation)
    if len(order) != channels:
        raise checks.problem(
            "permutation", got=f"{len(order)} numbers", expected=f"{channels}, one a channel", fix="Pass as many."
        )
    return order


def shuffled(size: int, number: int) -> tuple[int, ...]:
    """The permutation that a constructor puts at a place: the same in both engines."""
    return tuple(int(i) for i in np.random.default_rng([size, number]).permutation(size))


def check_context(context_dim: int, shape: tuple[int, ...] | None) -> None:
    """Refuse a context that is missing, not wanted, or of another size.

    Args:
        context_dim: what is wanted; 0 for none.
        shape: of the context that came, or None.

    Raises:
        ValueError: naming what came and what is wanted.
    """
    if context_dim and (shape is None or shape[-1:] != (context_dim,)):
        raise checks.problem(
            "context",
            got="none" if shape is None else f"shape {tuple(shape)}",
            expected=f"(..., {context_dim})",
            fix="Pass the context that the density is conditional on; to the verbs as y.",
        )
    if not context_dim and shape is not None:
        raise checks.problem(
            "context", got=f"shape {tuple(shape)}", expected="none", fix="Make the flow with context_dim."
        )


def context_rows(context: Any, rows: int, context_dim: int) -> np.ndarray:
    """A context for each of the rows, checked.

    Args:
        context: (rows, context_dim), or (context_dim,) for all.
        rows: how many.
        context_dim: C.

    Returns:
        (rows, context_dim) floats.

    Raises:
        ValueError: another shape, another number of rows, or values that are not finite.
    """
    check_context(context_dim, np.shape(context))
    return given.rows(context, rows, [(context_dim,)])


def carried(
    size: int, transforms: Iterable[Any], shape_type: Callable[[tuple[int, ...]], Any] = tuple
) -> tuple[int, ...]:
    """The shape to which transforms carry a vector, each checked against what comes to it.

    Args:
        size: of the vector.
        transforms: in order; those of this room say what they ``takes``.
        shape_type: of the engine's shapes.

    Returns:
        The shape of the last image.

    Raises:
        ValueError: naming the transform to which another shape comes than it takes.
    """
    shape: tuple[int, ...] = (size,)
    for i, transform in enumerate(transforms):
        takes: Takes = getattr(transform, "takes", None)
        if takes is not None and not _fits(shape, takes):
            wanted = ", ".join("any" if n is None else str(n) for n in takes)
            raise checks.problem(
                f"transforms[{i}], {type(transform).__name__}",
                got=f"shape {shape} from what stands before it",
                expected=f"({wanted},)" if len(takes) == 1 else f"({wanted})",
                fix="Make it for that shape, or begin with another size.",
            )
        shape = tuple(transform.forward_shape(shape_type(shape)))
    return shape


def _fits(shape: tuple[int, ...], takes: tuple[int | None, ...]) -> bool:
    return len(shape) == len(takes) and all(n is None or n == size for size, n in zip(shape, takes, strict=True))


def check_network(wanted: int, shape: tuple[int, ...], rows: int) -> None:
    """Refuse a conditioner that gives another number of numbers than the transform takes.

    Raises:
        ValueError: naming both.
    """
    if math.prod(shape) != wanted * rows:
        raise checks.problem(
            "network",
            got=f"outputs of shape {shape} for {rows} rows",
            expected=f"{wanted} numbers a row",
            fix="Give the network's last layer that many outputs.",
        )


def check_base(size: Any, base: str, laws: Any) -> int:
    """The size of a base's draw, checked with its law.

    Raises:
        ValueError: naming the argument.
    """
    checks.one_of("base", base, laws)
    return arguments.whole("size", size)
