"""IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist/), plain or gzipped."""

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from deepgen.checks import problem

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file: two zero bytes, a type, the number of axes, their big-endian sizes, the entries.

    Args:
        path: the file; gzipped where it ends in ``.gz``.

    Returns:
        The array, of the file's type in the machine's byte order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not IDX or is cut short or too long.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"IDX file {str(path)!r}: there is no such file. Check the path.")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise problem(
            f"IDX file {str(path)!r}", got=f"broken gzip ({error})", expected="gzip", fix="Fetch it again."
        ) from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES or len(raw) < 4 + 4 * raw[3]:
        raise problem(
            f"IDX file {str(path)!r}",
            got=f"the first bytes {raw[:4]!r}",
            expected="two zero bytes, a type and the number of axes",
            fix="Check that this is an IDX file.",
        )
    dtype, axes = np.dtype(_TYPES[raw[2]]), raw[3]
    shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    need = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    body = raw[4 + 4 * axes :]
    if len(body) != need:
        raise problem(
            f"IDX file {str(path)!r}",
            got=f"{len(body)} bytes of data",
            expected=f"{need} for the shape {shape}",
            fix="Fetch the file again.",
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
