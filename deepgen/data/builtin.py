"""The data sets that are always here: scikit-learn's digits and small tables, and draws of laws in the plane."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen.checks import one_of
from deepgen.data.dataset import SPLITS, Dataset, Support, split, split_arrays
from deepgen.data.encoding import Encoding
from deepgen.data.planar import Planar, checkerboard, eight_gaussians, two_moons
from deepgen.data.table import Table

if TYPE_CHECKING:
    import pandas

TABLES = ("breast_cancer", "diabetes", "iris", "wine")
LAWS: dict[str, Callable[[], Planar]] = {
    "eight_gaussians": eight_gaussians,
    "two_moons": two_moons,
    "checkerboard": checkerboard,
}
SHARES = (0.7, 0.1, 0.2)
DRAWN = 10_000


def digits(
    *, seed: int = 0, image: bool = False, binarize: str | None = None, shares: Sequence[float] = SHARES
) -> Dataset:
    """The 1797 handwritten digits of 8 x 8 pixels that scikit-learn ships, scaled from 0..16 to [0, 1].

    Args:
        seed: of the split and of ``binarize="sample"``.
        image: whether a datum is an image (1, 8, 8); else its 64 pixels row by row.
        binarize: None keeps the grey levels; "threshold" gives pixel >= 1/2; "sample" draws each pixel once from
            Bernoulli(pixel).
        shares: the shares of training, validation and test.

    Returns:
        The data set; its labels are the digits 0..9.

    Raises:
        ValueError: another way to binarise, or shares that ``split`` refuses.

    >>> digits(seed=0).train.shape
    (1258, 64)
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return pixels_dataset(
        "digits",
        (bunch.images / 16.0).astype(np.float32)[:, None],
        seed=seed,
        image=image,
        binarize=binarize,
        shares=shares,
        labels=bunch.target,
        description="Optical recognition of handwritten digits (Alpaydin and Kaynak, UCI), test part, grey levels / 16",
    )


def sklearn_table(name: str, *, seed: int = 0, shares: Sequence[float] = SHARES) -> Dataset:
    """One of scikit-learn's tables, standardised by its training rows.

    Args:
        name: "breast_cancer" (569 x 30), "diabetes" (442 x 10), "iris" (150 x 4) or "wine" (178 x 13).
        seed: of the split.
        shares: the shares of training, validation and test.

    Returns:
        The data set; its labels are the table's target.

    Raises:
        ValueError: another name, or shares that ``split`` refuses.
    """
    from sklearn import datasets

    one_of("name", name, TABLES)
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    return table_dataset(
        name,
        Table.from_frame(bunch.data),
        seed=seed,
        shares=shares,
        labels=bunch.target.to_numpy(),
        description=f"{name.replace('_', ' ')} table of scikit-learn, standardised by its training rows",
    )


def drawn(name: str, *, seed: int = 0, shares: Sequence[float] = SHARES) -> Dataset:
    """10,000 draws of a law in the plane, the same whatever the seed.

    Args:
        name: "eight_gaussians", "two_moons" or "checkerboard".
        seed: of the split.
        shares: the shares of training, validation and test.

    Returns:
        The data set, in the law's own units; its labels are the modes.

    Raises:
        ValueError: another name, or shares that ``split`` refuses.

    >>> drawn("two_moons").train.shape
    (7000, 2)
    """
    one_of("name", name, tuple(LAWS))
    law = LAWS[name]()
    x = law.draw(np.random.default_rng(0), DRAWN)
    text = f"{DRAWN} draws of {name.replace('_', ' ')}, a law in the plane whose density is known"
    return split_arrays(name, x, seed=seed, shares=shares, support="real", labels=law.mode(x), description=text)


def pixels_dataset(
    name: str,
    images: np.ndarray | dict[str, np.ndarray],
    *,
    seed: int,
    image: bool,
    binarize: str | None,
    shares: Sequence[float],
    support: Support = "unit_interval",
    labels: Any = None,
    description: str,
) -> Dataset:
    """A data set of (n, c, h, w) images in [0, 1]: split by seed where it is one array, else as it is split."""
    one_of("binarize", binarize, (None, "threshold", "sample"))
    rng = np.random.default_rng([seed, 1])

    def prepared(x: np.ndarray) -> np.ndarray:
        if binarize == "threshold":
            x = (x >= 0.5).astype(np.float32)
        elif binarize == "sample":
            x = (rng.random(x.shape, dtype=np.float32) < x).astype(np.float32)
        return x if image else x.reshape(len(x), -1)

    support = support if binarize is None else "boolean"
    if isinstance(images, dict):
        train, validation, test = (prepared(images[part]) for part in SPLITS)
        return Dataset(name, train, validation, test, support, labels=labels, description=description)
    return split_arrays(
        name,
        prepared(images),
        seed=seed,
        shares=shares,
        support=support,
        labels=labels,
        description=description,
    )


def table_dataset(
    name: str,
    table: Table,
    *,
    seed: int,
    shares: Sequence[float] = SHARES,
    labels: np.ndarray | None = None,
    description: str = "",
) -> Dataset:
    """A table split by seed and encoded, the encoding fitted on its training rows only.

    Args:
        name: the data set's name.
        table: the table.
        seed: of the split.
        shares: the shares of training, validation and test.
        labels: (n,) labels, or None.
        description: the source and what was done to it.

    Returns:
        The data set with its encoding.

    Raises:
        ValueError: a column that is constant in the training rows, or shares that ``split`` refuses.
    """
    rows = split(len(table.frame), seed=seed, shares=shares)
    encoding = Encoding.fit(table, rows["train"])
    x = encoding.encode(table)
    return Dataset(
        name=name,
        **{part: x[rows[part]] for part in SPLITS},
        support="real",
        rows=rows,
        labels=None if labels is None else {part: labels[rows[part]] for part in SPLITS},
        columns=encoding.names,
        encoding=encoding,
        description=description,
    )


def without_constants(frame: "pandas.DataFrame", rows: np.ndarray) -> "pandas.DataFrame":
    """The frame without the columns that have fewer than two different values in these rows."""
    return frame.loc[:, frame.iloc[rows].nunique() > 1]
