"""Data sets from the folder that the environment variable DEEPGEN_DATA names: IDX, npz and CSV files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepgen.checks import problem
from deepgen.data.builtin import SHARES, pixels_dataset, table_dataset, without_constants
from deepgen.data.dataset import SPLITS, Dataset, split
from deepgen.data.idx import read_idx
from deepgen.data.table import Table, read_table

VARIABLE = "DEEPGEN_DATA"
SOURCES = {
    "mnist": "four IDX files (*.gz) of http://yann.lecun.com/exdb/mnist/",
    "fashion_mnist": "four IDX files (*.gz) of https://github.com/zalandoresearch/fashion-mnist",
    "kmnist": "four IDX files (*.gz) of https://github.com/rois-codh/kmnist",
    "binarized_mnist": "an npz with train, valid, test: Larochelle's binarised MNIST, each row 98 bytes of packed bits",
    "omniglot": "an npz with images (n, 28, 28) of 0..255, character, and evaluation (True: evaluation alphabets)",
    "frey": "an npz with images (1965, 28, 20) of 0..255: https://cs.nyu.edu/~roweis/data.html",
    "debd": "an npz with train, valid, test of packed bits and n_vars: https://github.com/arranger1044/DEBD",
    "uci_imputation": "an npz with one (n, d) array a table",
    "uci_density": "an npz with one (n, d) array a table",
    "uci_regression": "one npz a table, with x (n, d) and y (n,): https://archive.ics.uci.edu",
    "missing": "one CSV a table, blank where missing",
}
# Names and free text, and numbers that only count the rows.
_IDENTIFIERS = {
    "msleep": ("name", "genus"),
    "horse_colic": ("hospital_number",),
    "pbc": ("id",),
    "breast_cancer_wisconsin": ("id",),
}


def names() -> tuple[str, ...]:
    """The names that ``load`` understands beside scikit-learn's; "/<table>" stands for the table's own name."""
    tables = ("debd", "uci_imputation", "uci_density", "uci_regression", "missing")
    return tuple(f"{name}/<table>" if name in tables else name for name in SOURCES)


def from_folder(
    name: str, *, seed: int, image: bool = False, binarize: str | None = None, shares: Sequence[float] = SHARES
) -> Dataset:
    """A data set of the folder in DEEPGEN_DATA, of which ``names`` gives the list.

    Args:
        name: "mnist", or "folder/table" as in "uci_imputation/banknote".
        seed: of the split, where the source has none of its own, and of ``binarize="sample"``.
        image: whether a datum is an image (c, h, w); else its pixels in a row.
        binarize: as in ``digits``; for grey images only.
        shares: the shares of training, validation and test, where the source has no split.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: the variable is not set or the file is not there; the message says what belongs where.
        ValueError: a name of none of these, a table that the file does not hold, or an option that does not fit.
    """
    family, _, table = name.partition("/")
    if family not in SOURCES or bool(table) != (f"{family}/<table>" in names()):
        raise problem("name", got=repr(name), expected=f"one of {list(names())}", fix="Choose one of these.")
    if table:
        if image or binarize is not None:
            raise problem(
                "image and binarize",
                got=f"image={image}, binarize={binarize!r} for the table {name!r}",
                expected="neither",
                fix="Leave them out.",
            )
        return _TABLES[family](table, seed, shares)
    options: dict[str, Any] = {"seed": seed, "image": image, "binarize": binarize, "shares": shares}
    if family == "binarized_mnist":
        if binarize is not None:
            raise problem("binarize", got=repr(binarize), expected="None: it is binary", fix="Leave it out.")
        return _binarized_mnist(options)
    return {"omniglot": _omniglot, "frey": _frey}.get(family, _idx_images)(family, options)


def _file(name: str, *parts: str) -> Path:
    return located(name, SOURCES[parts[0]], *parts)


def located(name: str, source: str, *parts: str) -> Path:
    """The path of a file of the folder in DEEPGEN_DATA.

    Args:
        name: of the data set, for the message.
        source: what to fetch where it is not there.
        parts: the path in the folder.

    Returns:
        The path.

    Raises:
        FileNotFoundError: the variable is not set or the file is not there; the message says what belongs where.
    """
    folder = os.environ.get(VARIABLE)
    path = Path(folder or ".", *parts)
    if not folder or not path.is_file():
        state = f"is {folder!r}, which has no such file" if folder else "is not set"
        raise FileNotFoundError(
            f"data set {name!r}: needs {'/'.join(parts)} in the folder that the environment variable {VARIABLE} names; "
            f"{VARIABLE} {state}. Fetch {source}, put it there, and set {VARIABLE}."
        )
    return path


def _unit(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float32) / np.float32(255))[:, None]


def _idx_images(name: str, options: dict[str, Any]) -> Dataset:
    read = {
        (part, kind): read_idx(_file(name, name, f"{part}-{kind}-ubyte.gz"))
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }
    held = len(read["train", "images-idx3"]) // 6
    parts = {
        "train": (read["train", "images-idx3"][:-held], read["train", "labels-idx1"][:-held]),
        "validation": (read["train", "images-idx3"][-held:], read["train", "labels-idx1"][-held:]),
        "test": (read["t10k", "images-idx3"], read["t10k", "labels-idx1"]),
    }
    return pixels_dataset(
        name,
        {part: _unit(images) for part, (images, _) in parts.items()},
        labels={part: labels for part, (_, labels) in parts.items()},
        description=f"{name}, grey levels / 255; validation is the last sixth of the training images",
        **options,
    )


def _binarized_mnist(options: dict[str, Any]) -> Dataset:
    with np.load(_file("binarized_mnist", "binarized_mnist", "binarized_mnist.npz")) as file:
        bits = {
            part: np.unpackbits(file[key], axis=1) for part, key in zip(SPLITS, ("train", "valid", "test"), strict=True)
        }
    return pixels_dataset(
        "binarized_mnist",
        {part: x.reshape(-1, 1, 28, 28).astype(np.float32) for part, x in bits.items()},
        support="boolean",
        description="statically binarised MNIST (Larochelle), its own 50000/10000/10000 split",
        **options,
    )


def _omniglot(name: str, options: dict[str, Any]) -> Dataset:
    with np.load(_file(name, name, "omniglot28.npz")) as file:
        images, labels, test = _unit(file["images"]), file["character"], file["evaluation"]
    background = np.flatnonzero(~test)
    share = options["shares"][1] / (options["shares"][0] + options["shares"][1])
    rows = split(len(background), seed=options["seed"], shares=(1 - share, share, 0.0))
    where = {part: background[rows[part]] for part in ("train", "validation")} | {"test": np.flatnonzero(test)}
    return pixels_dataset(
        name,
        {part: images[where[part]] for part in SPLITS},
        labels={part: labels[where[part]] for part in SPLITS},
        description="Omniglot at 28 x 28, grey levels / 255; test is the evaluation alphabets",
        **options,
    )


def _frey(name: str, options: dict[str, Any]) -> Dataset:
    with np.load(_file(name, name, "freyfaces.npz")) as file:
        images = ((file["images"].astype(np.float32) + np.float32(0.5)) / np.float32(256))[:, None]
    return pixels_dataset(name, images, description="Frey faces, (grey level + 1/2) / 256", **options)


def _debd(table: str, seed: int, shares: Sequence[float]) -> Dataset:
    with np.load(_file(f"debd/{table}", "debd", f"{table}.npz")) as file:
        width = int(file["n_vars"])
        train, validation, test = (
            np.unpackbits(file[part], axis=1)[:, :width].astype(np.float32) for part in ("train", "valid", "test")
        )
    text = f"{table} of the binary density-estimation benchmark (Lowd and Davis; Van Haaren and Davis), its own split"
    return Dataset(f"debd/{table}", train, validation, test, "boolean", description=text)


def _npz_table(family: str, file_name: str) -> Callable[[str, int, Sequence[float]], Dataset]:
    def read(table: str, seed: int, shares: Sequence[float]) -> Dataset:
        with np.load(_file(f"{family}/{table}", family, file_name)) as file:
            if table not in file.files:
                raise problem(
                    "name", got=f"the table {table!r}", expected=f"one of {file.files}", fix="Choose one of these."
                )
            x = file[table]
        return _numeric(f"{family}/{table}", x, [f"x{i}" for i in range(x.shape[1])], seed, shares)

    return read


def _uci_regression(table: str, seed: int, shares: Sequence[float]) -> Dataset:
    with np.load(_file(f"uci_regression/{table}", "uci_regression", f"{table}.npz")) as file:
        x = np.column_stack([file["x"], file["y"]])
    return _numeric(f"uci_regression/{table}", x, [*(f"x{i}" for i in range(x.shape[1] - 1)), "y"], seed, shares)


def _missing(table: str, seed: int, shares: Sequence[float]) -> Dataset:
    read = read_table(_file(f"missing/{table}", "missing", f"{table}.csv"), drop=_IDENTIFIERS.get(table, ()))
    return _tabular(f"missing/{table}", read.frame, seed, shares)


def _numeric(name: str, x: np.ndarray, columns: list[str], seed: int, shares: Sequence[float]) -> Dataset:
    import pandas as pd

    return _tabular(name, pd.DataFrame(x.astype(np.float64), columns=pd.Index(columns)), seed, shares)


def _tabular(name: str, frame: Any, seed: int, shares: Sequence[float]) -> Dataset:
    """The table, split and standardised, without the columns that are constant in the training rows."""
    kept = without_constants(frame, split(len(frame), seed=seed, shares=shares)["train"])
    left = frame.shape[1] - kept.shape[1]
    text = f"{name}, standardised by its training rows" + (f"; {left} constant columns left out" if left else "")
    return table_dataset(name, Table.from_frame(kept), seed=seed, shares=shares, description=text)


_TABLES: dict[str, Callable[[str, int, Sequence[float]], Dataset]] = {
    "debd": _debd,
    "uci_imputation": _npz_table("uci_imputation", "uci_small16.npz"),
    "uci_density": _npz_table("uci_density", "rnade_uci.npz"),
    "uci_regression": _uci_regression,
    "missing": _missing,
}
