"""A data set: three splits, what the numbers may be, and where they came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepgen.checks import problem

if TYPE_CHECKING:
    from deepgen.data.encoding import Encoding

Support = Literal["real", "unit_interval", "boolean"]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training, validation and test rows of one source, batch first.

    Attributes:
        name: what ``load`` calls it.
        train: (n, \\*event_shape) float32, NaN where a value is missing.
        validation: (m, \\*event_shape), the same kind of rows.
        test: (k, \\*event_shape), the same kind of rows.
        support: where the values lie: "real", "unit_interval" ([0, 1]) or "boolean" (0 or 1).
        rows: for each split the rows of the source that it holds, or None.
        labels: for each split its labels, or None.
        columns: the name of each column of a table, or None.
        encoding: how a table's cells became these numbers (and the way back), or None.
        description: the source and what was done to it, in a sentence.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    support: Support
    rows: Mapping[str, np.ndarray] | None = None
    labels: Mapping[str, np.ndarray] | None = None
    columns: tuple[str, ...] | None = None
    encoding: "Encoding | None" = None
    description: str = ""

    def __post_init__(self) -> None:
        shapes = {split: getattr(self, split).shape[1:] for split in SPLITS}
        if len(set(shapes.values())) > 1:
            raise problem(
                f"data set {self.name!r}",
                got=f"event shapes {shapes}",
                expected="one event shape in all three splits",
                fix="Split one array along its first axis.",
            )
        if not len(self.train):
            raise problem(
                f"data set {self.name!r}",
                got="no training rows",
                expected="at least one",
                fix="Give the training split a larger share.",
            )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return tuple(int(size) for size in self.train.shape[1:])


def split(
    n: int, *, seed: int | np.random.Generator, shares: Sequence[float] = (0.7, 0.1, 0.2)
) -> dict[str, np.ndarray]:
    """The rows of the training, validation and test split, drawn without replacement.

    Args:
        n: how many rows there are.
        seed: a seed or a generator; the same seed and ``n`` give the same split.
        shares: the shares of training, validation and test; they sum to one. A share above zero gets at least one row.

    Returns:
        For each split its row numbers, sorted.

    Raises:
        ValueError: shares that are not three non-negative numbers summing to one, or too few rows for them.

    >>> {name: len(rows) for name, rows in split(100, seed=0).items()}
    {'train': 70, 'validation': 10, 'test': 20}
    """
    share = np.asarray(shares, dtype=float)
    if share.shape != (3,) or not np.isfinite(share).all() or (share < 0).any() or abs(share.sum() - 1) > 1e-9:
        raise problem(
            "shares",
            got=tuple(shares),
            expected="three numbers >= 0 that sum to 1: training, validation, test",
            fix="Pass for instance shares=(0.7, 0.1, 0.2).",
        )
    validation, test = (max(round(n * s), 1) if s else 0 for s in share[1:])
    train = n - validation - test
    if train < 1:
        raise problem(
            "rows",
            got=f"{n}, of which the shares {tuple(shares)} leave {train} for training",
            expected="at least one training row",
            fix="Pass more rows, or set the shares of validation and test to 0.",
        )
    order = np.random.default_rng(seed).permutation(n)
    parts = np.split(order, [train, train + validation])
    return {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}


def split_arrays(
    name: str,
    x: np.ndarray,
    *,
    seed: int,
    shares: Sequence[float],
    support: Support,
    labels: np.ndarray | None = None,
    **fields: Any,
) -> Dataset:
    """A data set from one array (and its labels) by ``split``; ``fields`` are the data set's other attributes."""
    rows = split(len(x), seed=seed, shares=shares)
    return Dataset(
        name=name,
        **{part: x[rows[part]] for part in SPLITS},
        support=support,
        rows=rows,
        labels=None if labels is None else {part: labels[rows[part]] for part in SPLITS},
        **fields,
    )
