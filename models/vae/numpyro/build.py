"""Programs of the room made again from their descriptions, in NumPyro."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from deepgen import checks
from deepgen.models.vae.numpyro import classes, program

BUILDERS: dict[str | None, Callable[..., Any]] = {None: program.build, "class_conditional": classes.build}
"""By what the description says under ``"program"``; a `VAE` says nothing."""


def build(config: Mapping[str, Any], *, key: jax.Array) -> Any:
    """A program of the described class and shape, with initial weights from ``key``.

    Args:
        config: what the program's ``spec`` gave.
        key: for the weights.

    Returns:
        The program.

    Raises:
        ValueError: a class of program that there is not.
    """
    checks.one_of("program", config.get("program"), BUILDERS)
    return BUILDERS[config.get("program")](config, key=key)
