"""How the benchmarks keep what they found."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepgen.program import files


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write a result whole or not at all."""
    files.write_atomically(path, json.dumps(found, indent=1).encode())
