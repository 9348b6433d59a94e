"""What the commands read: data sets by name or path, and what a run's folder remembers of its own."""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deepgen import checks, data
from deepgen.capabilities import families
from deepgen.cli.engine import Engine
from deepgen.cli.recipes import RECIPES, Grey, recipe
from deepgen.cli.refusals import closest, known
from deepgen.data import Dataset, Encoding, Table
from deepgen.data.builtin import LAWS, TABLES
from deepgen.data.cells import separated_by_tabs
from deepgen.data.table import names_of, read_table
from deepgen.program import files

NOTES = "run.json"
PIXELS = "discretized_logistic"
"""The law of integer pixels, 0 to 255."""
LEVELS = (16, 255)
"""The white of data sets with few grey levels, and of bytes."""
TABLE_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq")
_ENDINGS = sorted((*TABLE_ENDINGS, ".npz", ".idx", ".idx.gz", ".gz"), key=len, reverse=True)
Network = Literal["mlp", "conv", "table"]


@dataclass(frozen=True)
class Settings:
    """What decides a fit.

    Attributes:
        family: the name of a recipe, such as ``"vae"`` or ``"made"``.
        source: the data set's name, or the path of a file.
        engine: ``"numpyro"`` or ``"pyro"``.
        seed: of the split and of every draw.
        network: ``"mlp"``, ``"conv"`` for images, or ``"table"``: from the multivariate normal on; None for a recipe
            that has but one network.
        latent_dim: how many latents; None takes the recipe's, with ``"table"`` as many as features (at most 32).
        hidden: widths of the dense layers; None takes the recipe's, with ``"table"`` (64, 64).
        likelihood: the observation law; None takes the recipe's for such data, with ``"table"`` that of each column's
            kind.
        steps: at most so many.
        learning_rate: of Adam.
        patience: stop after so many evaluations (one every 100 steps) without improvement; None takes 5, with
            ``"table"`` never.
        reading: how to read a table, as `read_table` takes it; None for its defaults.
    """

    family: str
    source: str
    engine: str = "numpyro"
    seed: int = 0
    network: Network | None = "mlp"
    latent_dim: int | None = None
    hidden: tuple[int, ...] | None = None
    likelihood: str | None = None
    steps: int = 3000
    learning_rate: float = 1e-3
    patience: int | None = None
    reading: dict[str, Any] | None = None


@dataclass(frozen=True)
class Source:
    """A data set, and the shape of its images where it has any.

    Attributes:
        data: the three splits, a datum as the program takes it.
        image_shape: (channels, height, width), or None.
        white: the value of a white pixel.
        grey: how grey levels became data.
    """

    data: Dataset
    image_shape: tuple[int, ...] | None
    white: float = 1.0
    grey: Grey = "fractions"


def open_for(settings: Settings) -> Source:
    """The data set of a fit's settings, as its recipe takes it."""
    made = recipe(settings.family)
    network: Network | None = "conv" if made.images else settings.network
    return open_source(
        settings.source,
        seed=settings.seed,
        network=network,
        likelihood=settings.likelihood,
        grey=made.grey,
        reading=settings.reading,
    )


def open_source(
    name: str,
    *,
    seed: int,
    network: Network | None = "mlp",
    likelihood: str | None = None,
    grey: Grey = "fractions",
    reading: dict[str, Any] | None = None,
) -> Source:
    """A data set by name or path, its images flattened for multilayer perceptrons.

    For the law of integer pixels, values within [0, 1] become the integers 0 to 255. Of 17 or 256 grey levels, scaled
    to [0, 1], ``grey="levels"`` makes integers again (zeros and ones, cut at a half, for a Bernoulli law), and
    ``"dequantised"`` spreads level k of K evenly over [k / K, (k + 1) / K], and ``"binary"`` cuts at a half.

    Args:
        name: of ``deepgen.data.dataset_names``, or a path.
        seed: of the split.
        network: ``"conv"`` keeps images as they are.
        likelihood: the observation law.
        grey: what grey levels become.
        reading: how to read a table.

    Returns:
        The data set.

    Raises:
        ValueError: an unknown name, with the closest one that is known; no images for a convolutional network.
        FileNotFoundError: a file that is not there.
    """
    refuse_reading(name, reading)
    names = data.dataset_names()
    pictures = name in names and name not in (*TABLES, *LAWS) and "/" not in name
    if pictures:
        found = data.load(name, seed=seed, image=True)
    elif "." not in Path(name).name and name.partition("/")[0] not in {known.partition("/")[0] for known in names}:
        fix = closest(name, names)
        raise checks.problem(
            "data set", got=repr(name), expected=f"one of {list(names)}, or the path of a file", fix=fix
        )
    elif reading:
        path = Path(name)
        table = data.read_table(path, **reading)
        found = data.table_dataset(path.name, table, seed=seed, description=f"the table {path.name}")
    else:
        found = data.load(name, seed=seed)
    if likelihood == PIXELS and found.support in ("unit_interval", "boolean"):
        levels = {part: np.rint(white(likelihood) * getattr(found, part)) for part in data.dataset.SPLITS}
        found = replace(found, **levels, support="real", description=f"{found.description}; as integers 0 to 255")
    shape = found.event_shape if len(found.event_shape) == 3 else None
    brightest = white(likelihood)
    top = _brightest(found) if grey != "fractions" else None
    if top is not None and grey in ("levels", "binary"):
        found, brightest = _levels(found, top, "bernoulli" if grey == "binary" else likelihood)
    elif top is not None:
        found = _dequantised(found, top, seed)
    elif grey == "levels" and likelihood == "categorical":
        top = _whole(found)
        brightest = 1.0 if top is None else float(top)
    grey = grey if top is not None else "fractions"
    if network == "conv":
        checks.image_shape(found.event_shape)
        return Source(found, shape, brightest, grey)
    flat = {part: getattr(found, part).reshape(len(getattr(found, part)), -1) for part in data.dataset.SPLITS}
    return Source(replace(found, **flat), shape, brightest, grey)


def is_table(path: str) -> bool:
    """Whether a path is that of a table."""
    return path.lower().endswith(TABLE_ENDINGS)


def refuse_reading(path: str, reading: Mapping[str, Any] | None) -> None:
    """Refuse options that say how to read a table, where there is none.

    Raises:
        ValueError: naming the options.
    """
    if reading and not is_table(path):
        raise checks.problem(
            "options",
            got=f"{['--' + name for name in reading]} for {path!r}",
            expected="none of them: they say how to read a table",
            fix="Leave them out.",
        )


def stem_of(path: str | Path) -> str:
    """A file's name without the ending that says what it is, whatever other points are in it."""
    name = Path(path).name
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def called(path: str | Path) -> str:
    """What the results of a file are called: its name, of whose endings ``.csv`` alone goes without saying."""
    return Path(path).name.removesuffix(".csv")


def read_again(
    path: str, encoding: Encoding, run: Settings, reading: Mapping[str, Any] | None = None
) -> tuple[Table, list[str]]:
    """A table to which a run's program is to be applied, without the columns that the run does not model.

    Args:
        path: of the table.
        encoding: of the run's table.
        run: its settings; a table of the same kind of file is taken to be written as its table was.
        reading: what else is said of how to read this one.

    Returns:
        The table, and the columns of it that were left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what `read_table` refuses.
    """
    alike = separated_by_tabs(Path(path)) == separated_by_tabs(Path(run.source))
    written = ("separator", "decimal") if alike else ("decimal",)
    given = {key: value for key, value in (run.reading or {}).items() if key in written} | dict(reading or {})
    modelled = {column.name for column in encoding.columns}
    said = given.pop("drop", [])
    names = names_of(path, separator=given.get("separator"))
    left = [name for name in names if name not in modelled]
    texts = {column.name for column in encoding.columns if column.levels and isinstance(column.levels[0], str)}
    given["as_text"] = [name for name in names if name in texts]
    return read_table(path, **given, drop=[*left, *(name for name in said if name not in left)]), left


def left_out(names: list[str]) -> list[str]:
    """A line about columns that a run does not model, if there are any."""
    return [f"left out, as the run does not model them: {', '.join(names)}"] if names else []


def white(likelihood: str | None) -> float:
    """The value of a white pixel under an observation law."""
    return 255.0 if likelihood == PIXELS else 1.0


def write_notes(
    folder: Path,
    settings: Settings,
    x: Dataset,
    fitted: Mapping[str, Any],
    *,
    image_shape: tuple[int, ...] | None,
    white: float = 1.0,
    held_out: bool = True,
) -> None:
    """Write what later commands need to know of a run: its settings, and how its data became numbers.

    Args:
        folder: the run's.
        settings: of the fit.
        x: the data.
        fitted: what the fit says of itself.
        image_shape: of a datum that is an image.
        white: the value of a white pixel.
        held_out: whether the data's test rows were kept from the fit.
    """
    notes = {
        "format": 1,
        "settings": asdict(settings),
        "held_out": held_out,
        "image_shape": image_shape,
        "white": white,
        "support": x.support,
        "data": x.description,
        "encoding": None if x.encoding is None else x.encoding.to_dict(),
        "fit": dict(fitted),
    }
    files.write_atomically(folder / NOTES, json.dumps(notes, indent=2).encode())


def read_notes(folder: Path) -> dict[str, Any]:
    """Read what `write_notes` wrote; ``settings`` are `Settings` again.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: the file is damaged.
    """
    path = folder / NOTES
    if not path.is_file():
        raise FileNotFoundError(
            f"no run in {str(folder)!r}: {NOTES} is missing. Pass a folder that deepgen run or deepgen fit wrote."
        )
    try:
        notes = json.loads(path.read_text())
        settings = notes["settings"]
        notes["settings"] = Settings(**{**settings, "hidden": settings["hidden"] and tuple(settings["hidden"])})
        return {
            key: notes[key]
            for key in ("settings", "held_out", "image_shape", "white", "support", "data", "encoding", "fit")
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is cut short or no description of a run ({error}): run or fit again.") from error


def read_arrays(path: str) -> np.ndarray:
    """The rows of an npz's array "x".

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ending, or no such array.
    """
    if not path.lower().endswith(".npz"):
        raise checks.problem(
            "data",
            got=repr(path),
            expected=f"a file with blanks ending in one of {[*TABLE_ENDINGS, '.npz']}",
            fix="Missing means a blank cell or NaN; deepgen run hides entries of a complete data set by itself.",
        )
    if not Path(path).is_file():
        raise FileNotFoundError(f"npz file {path!r}: there is no such file. Check the path.")
    with np.load(path, allow_pickle=False) as file:
        known(f"{path}: array", "x", file.files)
        return np.asarray(file["x"])


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an npz in one step: the file is there whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    files.write_atomically(path, buffer.getvalue())


def notes_of(folder: Path) -> dict[str, Any] | None:
    """What a run's folder remembers, or None where a program alone was saved there.

    Raises:
        FileNotFoundError: neither is there.
    """
    if not (folder / files.DESCRIPTION).is_file():
        raise FileNotFoundError(
            f"no program in {str(folder)!r}: {files.DESCRIPTION} is missing. "
            "Pass a folder that deepgen run or deepgen fit wrote."
        )
    return read_notes(folder) if (folder / NOTES).is_file() else None


def open_program(engine: Engine, folder: Path, notes: dict[str, Any] | None) -> Any:
    """The program of a folder, of the family that its run was of.

    Raises:
        ValueError: of another family, of one that this deepgen lacks, or damaged.
    """
    if notes:
        known(f"family of {folder}", notes["settings"].family, RECIPES)
        return engine.load(folder, family=recipe(notes["settings"].family).family)
    family = files.read(folder)[0]["family"]
    known(f"family of {folder}", family, families())
    return engine.load(folder, family=family)


def _brightest(x: Dataset) -> int | None:
    """K - 1 where the values are 0, 1, ... K - 1 of K = 17 or 256 grey levels, scaled to [0, 1]; else None."""
    if x.support != "unit_interval":
        return None
    values = [getattr(x, part) for part in data.dataset.SPLITS]
    for top in LEVELS:
        if all(np.allclose(top * part, np.rint(top * part), atol=1e-3) for part in values):
            return top
    return None


def _whole(x: Dataset) -> int | None:
    """The largest value where all are whole numbers from 0 to at most 255, else None."""
    values = np.concatenate([getattr(x, part).reshape(-1) for part in data.dataset.SPLITS])
    whole = values.min() >= 0 and values.max() <= LEVELS[-1] and (values == np.rint(values)).all()
    return max(int(values.max()), 1) if whole else None


def _levels(x: Dataset, top: int, likelihood: str | None) -> tuple[Dataset, float]:
    if likelihood == "bernoulli":
        cut = {part: (getattr(x, part) >= 0.5).astype(np.float32) for part in data.dataset.SPLITS}
        return replace(x, **cut, support="boolean", description=f"{x.description}; 1 from half of white on"), 1.0
    if likelihood not in (None, "categorical"):
        return x, 1.0
    levels = {part: np.rint(top * getattr(x, part)) for part in data.dataset.SPLITS}
    return replace(x, **levels, description=f"{x.description}; as integers 0 to {top}"), float(top)


def _dequantised(x: Dataset, top: int, seed: int) -> Dataset:
    rng = np.random.default_rng([seed, 2])
    spread = {}
    for part in data.dataset.SPLITS:
        value = getattr(x, part)
        noise = rng.random(value.shape, dtype=np.float32)
        spread[part] = ((np.rint(top * value) + noise) / (top + 1)).astype(np.float32)
    return replace(x, **spread, description=f"{x.description}; {top + 1} levels, each spread evenly over its interval")
