"""Programs of the room made again from their descriptions, in Pyro."""

from collections.abc import Callable, Mapping
from typing import Any

from deepgen import checks
from deepgen.models.vae.pyro import classes, program

BUILDERS: dict[str | None, Callable[..., Any]] = {None: program.build, "class_conditional": classes.build}
"""By what the description says under ``"program"``; a `VAE` says nothing."""


def build(config: Mapping[str, Any]) -> Any:
    """A program of the described class and shape, with initial weights.

    Args:
        config: what the program's ``spec`` gave.

    Returns:
        The program.

    Raises:
        ValueError: a class of program that there is not.
    """
    checks.one_of("program", config.get("program"), BUILDERS)
    return BUILDERS[config.get("program")](config)
