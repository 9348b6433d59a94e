"""A program on disk: ``program.json`` for people and ``params.safetensors`` for both engines. Nothing is pickled."""

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save as encode

from deepgen import capabilities, checks

FORMAT = 1
DESCRIPTION, PARAMS = "program.json", "params.safetensors"
_FIELDS = {"format": int, "family": str, "config": dict, "tensors": dict, "versions": dict}
_PACKAGES = ("deepgen", "numpy", "jax", "numpyro", "equinox", "torch", "pyro-ppl")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, at any moment, finds the old content or the new, whole.

    Args:
        path: where to; its folder exists.
        content: the bytes.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made if need be.

    Raises:
        OSError: it cannot be made or written to; the message says what to do.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"cannot write to the folder {str(folder)!r} ({error.strerror or error}): "
            "choose a folder that you may write to, or change its permissions."
        ) from error
    return folder


def write(path: str | os.PathLike[str], program: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a program's description and its tensors.

    The parameters carry the description too, so that an interruption between the two files leaves a program that `read`
    can still have.

    Args:
        path: the folder; made if need be.
        program: what has ``family``, ``event_shape`` and ``spec``.
        tensors: name, as torch's ``state_dict`` has it, to array.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = writable_folder(path)
    description = {
        "format": FORMAT,
        "family": program.family,
        "config": program.spec(),
        "tensors": {name: list(array.shape) for name, array in tensors.items()},
        "versions": _versions(),
    }
    # ascontiguousarray would give a single number an axis
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps(description, indent=2)
    write_atomically(folder / PARAMS, encode(arrays, metadata={"deepgen": json.dumps(description)}))
    write_atomically(folder / DESCRIPTION, text.encode())


def read(path: str | os.PathLike[str], *, family: str | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write` wrote.

    Args:
        path: the folder.
        family: the family that is asked for, or None for any.

    Returns:
        The description and the tensors by name.

    Raises:
        FileNotFoundError: no program is there.
        ValueError: a file is cut short or damaged, of another family, or of a newer format; or the two files are not of
            one program, and the parameters do not say of which they are.

    Warns:
        UserWarning: the two files are of two programs, as after a save over another program that was cut off between
            them. The description is then that of the parameters, the newer of the two.
    """
    folder = Path(path)
    for name in (DESCRIPTION, PARAMS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no program in {str(folder)!r}: {name} is missing. Pass a folder that deepgen's save or run wrote."
            )
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        stated = _stated(description)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / DESCRIPTION} is cut short or no description of a program ({error}): "
            "save the program again, or restore the file."
        ) from error
    _refuse_newer(folder, stated)
    try:
        with safetensors.safe_open(folder / PARAMS, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = json.loads((file.metadata() or {}).get("deepgen", "{}"))
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(
            f"{folder / PARAMS} is cut short or damaged ({error}): save the program again, or restore the file."
        ) from error
    written = said if isinstance(said, dict) else {}
    shapes = {name: list(array.shape) for name, array in tensors.items()}
    if shapes != stated["tensors"] or any(written.get(key) != stated[key] for key in ("family", "config")):
        description = _of_the_parameters(folder, written, shapes)
    if family is not None and description["family"] != family:
        raise ValueError(
            f"{folder} holds a program of the family {description['family']!r}, and {family!r} was asked for: "
            f"load it as {description['family']!r}, or pass another folder."
        )
    return description, tensors


def _stated(description: Any) -> dict[str, Any]:
    """The fields of a description.

    Raises:
        KeyError: one is missing.
        TypeError: one is of another type.
    """
    return {key: _typed(description, key, kind) for key, kind in _FIELDS.items()}


def _refuse_newer(folder: Path, stated: Mapping[str, Any]) -> None:
    if stated["format"] > FORMAT:
        raise ValueError(
            f"{folder} was written in format {stated['format']} (deepgen {stated['versions'].get('deepgen')}), "
            f"and this deepgen reads formats up to {FORMAT}: upgrade deepgen."
        )


def _of_the_parameters(folder: Path, written: dict[str, Any], shapes: Mapping[str, list[int]]) -> dict[str, Any]:
    """The description that the parameters carry, where the other file is of another program."""
    try:
        stated = _stated(written)
        whole = stated["tensors"] == shapes
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(
            f"{DESCRIPTION} and {PARAMS} in {folder} are not of one program (they differ in their family, "
            "configuration or tensors): restore the pair, or save the program again."
        )
    _refuse_newer(folder, stated)
    warnings.warn(
        f"{DESCRIPTION} and {PARAMS} in {folder} are of two programs, as after a save that was cut off between them: "
        f"the program of {PARAMS}, a {stated['family']}, is taken. Save it again to mend the pair.",
        UserWarning,
        stacklevel=4,
    )
    return written


def rebuild(
    description: Mapping[str, Any], like: Any | None, build: Callable[[str, Mapping[str, Any]], Any], path: Any
) -> Any:
    """A program of the described shape: the one that the user passed, checked, or one that the family builds.

    Args:
        description: what `read` returned.
        like: a program of the same shape, needed where a network is the user's own; or None.
        build: from (family, configuration) to a program.
        path: the folder, for the message.

    Raises:
        ValueError: ``like`` is of another family, or is needed and was not passed, or this deepgen lacks the family.
    """
    if like is not None:
        if like.family != description["family"]:
            raise ValueError(
                f"{path} holds a program of the family {description['family']!r}, but like= is of {like.family!r}: "
                f"pass a {description['family']} program."
            )
        return like
    if _has_own_network(description["config"]):
        raise ValueError(
            f"{path} holds a network that is not deepgen's own, which a description cannot rebuild: "
            "build a program of the same shape and pass it as like=."
        )
    checks.one_of(f"{path}: family", description["family"], (*capabilities.families(), *capabilities.WRAPPERS))
    return build(description["family"], description["config"])


def describe(network: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """A network's `spec`, or that it is the user's own.

    Args:
        network: any network.
        known: deepgen's own networks by name.

    Returns:
        The description, JSON-able.
    """
    own = isinstance(network, tuple(known.values()))
    return dict(network.spec()) if own else {"network": "custom"}


def path_of(program: Any, field: str) -> str:
    """Where a field is: of the program, or of the program that it holds as its field ``program``; "" for nowhere."""
    path = []
    while not hasattr(program, field):
        if not hasattr(program, "program"):
            return ""
        path.append("program")
        program = program.program
    return ".".join([*path, field])


def _typed(description: Any, key: str, kind: type) -> Any:
    value = description[key]
    if not isinstance(value, kind):
        raise TypeError(f"{key} is {value!r}")
    return value


def _has_own_network(config: Any) -> bool:
    if isinstance(config, dict):
        return config.get("network") == "custom" or any(_has_own_network(value) for value in config.values())
    return isinstance(config, list) and any(_has_own_network(value) for value in config)


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
