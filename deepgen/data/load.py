"""One door to every data set: a name, or the path of a file."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepgen import checks
from deepgen.checks import problem
from deepgen.data import folder
from deepgen.data.builtin import LAWS, SHARES, TABLES, digits, drawn, sklearn_table, table_dataset
from deepgen.data.dataset import SPLITS, Dataset, Support, split_arrays
from deepgen.data.idx import read_idx
from deepgen.data.table import read_table

_FILES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq", ".npz", "-ubyte", "-ubyte.gz", ".idx", ".idx.gz")


def dataset_names() -> tuple[str, ...]:
    """The names that ``load`` understands: those always here first, then those of the folder in DEEPGEN_DATA."""
    return ("digits", *TABLES, *LAWS, *folder.names())


def load(
    source: str | os.PathLike[str],
    *,
    seed: int = 0,
    image: bool = False,
    binarize: str | None = None,
    shares: Sequence[float] = SHARES,
) -> Dataset:
    """A data set by name, or from a CSV, Parquet, npz or IDX file.

    A table is standardised by its training rows. An npz holds the arrays "train", "validation" (or "valid", "val") and
    "test", or one array "x" (or "images") that is split by seed; an IDX file is split likewise. Their bytes are
    taken for grey levels and divided by 255.

    Args:
        source: a name of ``dataset_names``, or a path.
        seed: of the split and of ``binarize="sample"``.
        image: for the named sets of images: whether a datum is an image (c, h, w) or its pixels in a row.
        binarize: for the named sets of grey images: None, "threshold" or "sample", as in ``digits``.
        shares: the shares of training, validation and test, where the source has no split of its own.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: a file that is not there, with what to fetch and set.
        ValueError: a name or a kind of file that is not known, an option that does not fit, or data that are refused.
    """
    text = os.fspath(source)
    if text.lower().endswith(_FILES):
        _no_image_options(text, image, binarize)
        path = Path(text)
        if not text.lower().endswith((".npz", "-ubyte", "-ubyte.gz", ".idx", ".idx.gz")):
            return table_dataset(
                path.name, read_table(path), seed=seed, shares=shares, description=f"the table {path.name}"
            )
        return _arrays(path, seed, shares)
    if text == "digits":
        return digits(seed=seed, image=image, binarize=binarize, shares=shares)
    if text in TABLES:
        _no_image_options(text, image, binarize)
        return sklearn_table(text, seed=seed, shares=shares)
    if text in LAWS:
        _no_image_options(text, image, binarize)
        return drawn(text, seed=seed, shares=shares)
    if text.split("/")[0] not in {name.split("/")[0] for name in folder.names()}:
        raise problem(
            "data set",
            got=repr(text),
            expected=f"one of {list(dataset_names())}, or a file ending in {list(_FILES)}",
            fix="Check the spelling or the path.",
        )
    return folder.from_folder(text, seed=seed, image=image, binarize=binarize, shares=shares)


def _no_image_options(source: str, image: bool, binarize: str | None) -> None:
    if image or binarize is not None:
        raise problem(
            "image and binarize",
            got=f"image={image}, binarize={binarize!r} for {source!r}",
            expected="neither: they are for the named sets of images",
            fix="Leave them out.",
        )


def _arrays(path: Path, seed: int, shares: Sequence[float]) -> Dataset:
    if path.suffix.lower() != ".npz":
        x, support = _ready(read_idx(path))
        return split_arrays(
            path.name, x, seed=seed, shares=shares, support=support, description=f"the file {path.name}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"npz file {str(path)!r}: there is no such file. Check the path.")
    with np.load(path, allow_pickle=False) as file:
        known = {"valid": "validation", "val": "validation", "images": "x"}
        arrays = {known.get(name, name): file[name] for name in file.files if known.get(name, name) in (*SPLITS, "x")}
    text = f"the file {path.name}"
    if set(arrays) >= set(SPLITS):
        whole, support = _ready(np.concatenate([arrays[part] for part in SPLITS]))
        train, validation, test = np.split(whole, np.cumsum([len(arrays[part]) for part in SPLITS])[:-1])
        return Dataset(path.name, train, validation, test, support, description=text)
    if "x" in arrays:
        x, support = _ready(arrays["x"])
        return split_arrays(path.name, x, seed=seed, shares=shares, support=support, description=text)
    raise problem(
        f"npz file {str(path)!r}",
        got=f"the arrays {file.files}",
        expected='"train", "validation" and "test", or "x"',
        fix="Save it again with np.savez(path, x=x).",
    )


def _ready(x: np.ndarray) -> tuple[np.ndarray, Support]:
    """Checked float32 rows, bytes as grey levels in [0, 1], and where the values lie."""
    if not x.ndim:
        raise problem("x", got="a number", expected="an array, batch first", fix="Save an array of rows.")
    grey = x.dtype == np.uint8 and x.size > 0 and x.max() > 1
    x = checks.data("x", x, x.shape[1:], missing=True)
    x = x.astype(np.float32) / np.float32(255 if grey else 1)
    present = x[~np.isnan(x)]
    if np.isin(present, (0, 1)).all():
        return x, "boolean"
    return x, "unit_interval" if ((present >= 0) & (present <= 1)).all() else "real"
