"""The programs of this room by the name in their description, in Pyro."""

from collections.abc import Callable, Mapping
from typing import Any

from deepgen import checks
from deepgen.models.flow.pyro import dequantized, program

BUILDERS: dict[str, Callable[..., Any]] = {"flow": program.build, "dequantized": dequantized.build}


def build(config: Mapping[str, Any]) -> Any:
    """A program of the described class and shape, with initial weights.

    Args:
        config: what a program's ``spec`` gave; without a ``"program"`` in it, that of a `Flow`.

    Returns:
        The program.

    Raises:
        ValueError: a class that there is not.
    """
    name = config.get("program", "flow")
    checks.one_of("program", name, BUILDERS)
    return BUILDERS[name](config)
