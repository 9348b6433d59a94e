"""Checkpoints of a fit: one safetensors file each, arrays and JSON, replaced atomically. Nothing is pickled."""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save as encode

from deepgen import checks
from deepgen.program import files

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where `fit` leaves its state, and how often.

    Args:
        path: the file; its folder is made if need be.
        seconds: at least this long from one writing to the next (the last state is always written).

    Raises:
        ValueError: ``seconds`` is negative.
    """

    path: str | PathLike[str]
    seconds: float = 5.0

    def __post_init__(self) -> None:
        checks.positive("seconds", self.seconds, zero=True)

    @property
    def file(self) -> Path:
        """The file's path."""
        return Path(self.path)


def write(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write one file, so that a reader finds the old one or the new one, whole.

    Args:
        path: where to; its folder exists.
        arrays: by name.
        meta: what JSON can hold.
    """
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # A zero-dimensional array becomes one-dimensional above: the shape it had is what is written.
    contiguous = {name: array.reshape(np.shape(arrays[name])) for name, array in contiguous.items()}
    text = json.dumps({"format": FORMAT, **meta})
    files.write_atomically(path, encode(contiguous, metadata={"deepgen.fit": text}))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote.

    Args:
        path: the file.

    Returns:
        The arrays and the description.

    Raises:
        ValueError: the file is damaged, no checkpoint of a fit, or of a newer format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            meta = json.loads((file.metadata() or {})["deepgen.fit"])
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged or no checkpoint of a fit ({error}): "
            "pass another path, or resume=False to start afresh."
        ) from error
    if meta["format"] > FORMAT:
        raise ValueError(
            f"{path} was written in format {meta['format']}, and this deepgen reads formats up to {FORMAT}: "
            "upgrade deepgen, or pass resume=False to start afresh."
        )
    return arrays, meta


def check_same(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse to resume a fit that was started with other settings.

    Args:
        path: the checkpoint, for the message.
        found: the settings it was written under.
        expected: the settings of this call.

    Raises:
        ValueError: naming each setting that differs, with both values.
    """
    expected = json.loads(json.dumps(expected))
    names = sorted(
        name for name in found.keys() | expected.keys() if found.get(name, "nothing") != expected.get(name, "nothing")
    )
    if names:
        differences = "; ".join(f"{name}: {found.get(name)!r} there, {expected.get(name)!r} here" for name in names)
        raise ValueError(
            f"{path} is the checkpoint of another fit ({differences}): repeat the call it was written by to resume it, "
            "pass another path, or resume=False to start afresh and overwrite it."
        )


def prepare(checkpoint: Checkpoint) -> Path:
    """The checkpoint's path, its folder made and found writable, and what a killed process left half-written removed.

    Raises:
        OSError: the folder cannot be made or written to.
        ValueError: the path is a folder.
    """
    path = checkpoint.file
    if path.is_dir():
        raise checks.problem(
            "checkpoint",
            got=f"the folder {str(path)!r}",
            expected="a file",
            fix=f"Pass e.g. {str(path / 'fit.safetensors')!r}.",
        )
    files.writable_folder(path.parent)
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)
    return path


def digest(array: Any) -> str:
    """A short description of an array's dtype, shape and content."""
    array = np.ascontiguousarray(array)
    return f"{array.dtype}{list(array.shape)}:{zlib.crc32(array.view(np.uint8).reshape(-1) if array.size else b''):08x}"


def describe(value: Any) -> str:
    """A setting in words that are the same in the next process: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
