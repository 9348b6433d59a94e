"""What the columns of a table are, where each stands among a decoder's outputs, and which values it takes."""

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float

from deepgen import checks
from deepgen.likelihoods.table.ordinal import Ordinals

KINDS = ("real", "positive", "count", "categorical", "ordinal")
LEVELLED = ("categorical", "ordinal")


class ColumnLaw(NamedTuple):
    """The law of one column.

    Attributes:
        kind: ``"real"`` (normal), ``"positive"`` (log-normal), ``"count"`` (negative binomial), ``"categorical"``, or
            ``"ordinal"`` (cumulative logit).
        num_levels: how many levels a categorical or ordinal column has, else 0.
    """

    kind: str
    num_levels: int = 0


def columns_of(columns: Iterable[str | Sequence[Any]]) -> tuple[ColumnLaw, ...]:
    """The columns' laws from what a user writes.

    Args:
        columns: for each a kind, such as ``"real"``, or a pair, such as ``("categorical", 3)``.

    Returns:
        The laws.

    Raises:
        ValueError: no columns, an unknown kind, or a number of levels that is missing or not wanted.

    >>> columns_of(["real", ("ordinal", 4)])
    (ColumnLaw(kind='real', num_levels=0), ColumnLaw(kind='ordinal', num_levels=4))
    """
    found = []
    for index, given in enumerate(columns):
        parts = (given,) if isinstance(given, str) else tuple(given)
        what = f"columns[{index}]"
        if len(parts) not in (1, 2):
            raise checks.problem(what, got=repr(given), expected="a kind, or (kind, num_levels)", fix="Write it so.")
        checks.one_of(f"{what}: kind", parts[0], KINDS)
        levels = parts[1] if len(parts) == 2 else 0
        if (not isinstance(levels, int)) or (levels < 2 if parts[0] in LEVELLED else levels != 0):
            raise checks.problem(
                what,
                got=f"{parts[0]!r} with num_levels={levels!r}",
                expected="2 levels or more" if parts[0] in LEVELLED else "no number of levels",
                fix=f"Write ({parts[0]!r}, 3), say." if parts[0] in LEVELLED else f"Write {parts[0]!r}.",
            )
        found.append(ColumnLaw(parts[0], levels))
    if not found:
        raise checks.problem("columns", got="none", expected="one or more", fix="Name the kind of each column.")
    return tuple(found)


@lru_cache(maxsize=64)
def layout(columns: tuple[ColumnLaw, ...]) -> "Layout":
    """Where each column of a table stands, worked out once a table."""
    return Layout(columns)


class Layout:
    """Where the columns stand among the D entries of a row and among its F outputs, which its F features are laid like.

    A categorical column of K levels has K outputs and K features, any other column has one. All arrays are NumPy's;
    those that index are slices where they can be.

    Attributes:
        columns: the columns.
        widths: (D,) outputs of each column.
        starts: (D,) where they begin.
        size: F.
    """

    def __init__(self, columns: tuple[ColumnLaw, ...]):
        self.columns = columns
        self.widths = np.array([c.num_levels if c.kind == "categorical" else 1 for c in columns])
        self.starts = np.cumsum(self.widths) - self.widths
        self.size = int(self.widths.sum())

    def of(self, *kinds: str) -> np.ndarray:
        """The numbers of the columns of these kinds."""
        return np.array([i for i, column in enumerate(self.columns) if column.kind in kinds], dtype=int)

    @cached_property
    def present(self) -> tuple[str, ...]:
        """The kinds there are, in the order of ``KINDS``."""
        return tuple(kind for kind in KINDS if len(self.of(kind)))

    @cached_property
    def entries(self) -> dict[str, Any]:
        """For each kind there is, an index into the entries of a row."""
        return {kind: _index(self.of(kind)) for kind in self.present}

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """For each kind there is, an index into the outputs (features), all levels of its categorical columns."""
        return {
            kind: _index(np.concatenate([np.arange(self.widths[i]) + self.starts[i] for i in self.of(kind)]))
            for kind in self.present
        }

    @cached_property
    def entry_order(self) -> Any:
        """What brings entries that are concatenated by kind into the order of the row."""
        return _index(np.argsort(np.concatenate([self.of(kind) for kind in self.present])))

    @cached_property
    def feature_order(self) -> Any:
        """What brings features that are concatenated by kind into their order."""
        places = np.arange(self.size)
        return _index(np.argsort(np.concatenate([places[self.outputs[kind]] for kind in self.present])))

    @cached_property
    def column_of(self) -> np.ndarray:
        """(F,) the column of each output."""
        return np.repeat(np.arange(len(self.columns)), self.widths)

    @cached_property
    def codes(self) -> np.ndarray:
        """For each indicator among the features the level that it stands for."""
        levels = [np.arange(self.widths[i]) for i in self.of("categorical")]
        return np.concatenate(levels).astype(float) if levels else np.zeros(0)

    @cached_property
    def scaled(self) -> dict[str, Any]:
        """For "real" and "positive", an index into the scales, one for each column of these two kinds."""
        both = self.of("real", "positive")
        return {kind: _index(np.searchsorted(both, self.of(kind))) for kind in ("real", "positive")}

    @cached_property
    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """(C, largest K) the outputs of the categorical columns' levels, padded, and which of them there are."""
        return _padded([(int(self.starts[i]), int(self.widths[i])) for i in self.of("categorical")])

    @cached_property
    def ordinals(self) -> Ordinals:
        """Where the ordinal columns' cutpoints stand."""
        levels = np.array([self.columns[i].num_levels for i in self.of("ordinal")], dtype=int)
        starts = np.cumsum(levels - 1) - (levels - 1)
        places, there = _padded(list(zip(starts.tolist(), (levels - 1).tolist(), strict=True)))
        return Ordinals(places, there, np.arange(len(places)) * places.shape[1], levels.astype(float))

    @cached_property
    def bounds(self) -> "Bounds":
        """What each column's values have to be."""
        rows = [_BOUNDS[column.kind] for column in self.columns]
        lower, upper, whole, inside = (np.array(part) for part in zip(*rows, strict=True))
        upper = np.where([c.kind in LEVELLED for c in self.columns], [c.num_levels - 1.0 for c in self.columns], upper)
        return Bounds(lower, upper, whole, inside)


class Bounds(NamedTuple):
    """What the values of D columns have to be: above ``lower``, at most ``upper``, and whole numbers where ``whole``.

    Attributes:
        lower: (D,).
        upper: (D,).
        whole: (D,) booleans.
        inside: (D,) an admissible value of each.
    """

    lower: Any
    upper: Any
    whole: Any
    inside: Any


# whole numbers are bounded half a step below the least
_BOUNDS = {
    "real": (-np.inf, np.inf, False, 0.0),
    "positive": (0.0, np.inf, False, 1.0),
    "count": (-0.5, np.inf, True, 0.0),
    "categorical": (-0.5, np.inf, True, 0.0),
    "ordinal": (-0.5, np.inf, True, 0.0),
}


def admissible(x: Float[Any, "*batch d"], bounds: Bounds) -> Bool[Any, "*batch d"]:
    """Which values their columns can take; NaN and the infinities none can.

    Args:
        x: values in the columns' own units.
        bounds: of these columns, arrays of x's library.

    Returns:
        Booleans of its shape.
    """
    xp = array_api_compat.array_namespace(x)
    return (x > bounds.lower) & (x <= bounds.upper) & xp.isfinite(x) & (~bounds.whole | (xp.floor(x) == x))


def features(x: Float[Any, "*batch d"], codes: Any, where: Layout) -> Float[Any, "*batch f"]:
    """What an encoder sees, before it is standardised.

    The value of a real and of an ordinal column, log x of a positive one, log(1 + x) of a count, and the indicators of
    a categorical one's levels. Where x is missing they mean nothing.

    Args:
        x: values in the columns' own units.
        codes: the layout's ``codes`` as an array of x's library.
        where: the layout.

    Returns:
        The features.
    """
    xp = array_api_compat.array_namespace(x)
    parts = []
    for kind in where.present:
        value = x[..., where.entries[kind]]
        if kind == "positive":
            value = xp.log(xp.where(value > 0, value, xp.ones_like(value)))
        elif kind == "count":
            value = xp.log1p(xp.where(value > 0, value, xp.zeros_like(value)))
        elif kind == "categorical":
            value = xp.astype(x[..., where.column_of[where.outputs[kind]]] == codes, x.dtype)
        parts.append(value)
    return xp.concat(parts, axis=-1)[..., where.feature_order]


def _index(places: np.ndarray) -> Any:
    """The places as a slice where they follow each other, as slices are views in both engines."""
    start = int(places[0]) if len(places) else 0
    return slice(start, start + len(places)) if (places == np.arange(len(places)) + start).all() else places


def _padded(blocks: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(rows, widest) the places of blocks (start, width), the last repeated, and which are there."""
    steps = np.arange(max((width for _, width in blocks), default=0))
    starts, widths = (np.array([block[i] for block in blocks], dtype=int)[:, None] for i in (0, 1))
    return starts + np.minimum(steps, widths - 1), steps < widths
