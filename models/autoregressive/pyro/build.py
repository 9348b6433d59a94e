"""The programs of this room by the names that their descriptions give."""

from collections.abc import Mapping
from typing import Any

from deepgen import checks
from deepgen.models.autoregressive.pyro import agnostic, program

BUILDERS = {"autoregressive": program.build, "order_agnostic": agnostic.build}


def build(config: Mapping[str, Any]) -> Any:
    """A program of the described class and shape, with initial weights.

    Args:
        config: what a program's ``spec`` gave; without a ``"program"`` in it, that of an `AutoregressiveModel`.

    Returns:
        The program.

    Raises:
        ValueError: a class that there is not.
    """
    name = config.get("program", "autoregressive")
    checks.one_of("program", name, BUILDERS)
    return BUILDERS[name](config)
