"""The prior of a network's weights, and which weights there are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deepgen import checks
from deepgen.program import files


def prior_scale(shape: Sequence[int]) -> float:
    r"""The standard deviation of a weight that leaves what it is applied to at its size.

    .. math:: w \sim N(0, 1 / \mathrm{fan\ in}), \quad b \sim N(0, 1)

    Args:
        shape: of the parameter, outputs first; a vector is a bias.

    Returns:
        1 / sqrt(fan in), and one for a vector or a single number.

    References:
        Neal 1996, "Bayesian learning for neural networks".
    """
    return 1.0 if len(shape) < 2 else 1 / math.sqrt(math.prod(shape[1:]))


def paths(program: Any, networks: Any) -> dict[str, str]:
    """Where the networks are.

    Args:
        program: the program.
        networks: the names of its fields.

    Returns:
        From each name to its path, dotted where a program holds another.

    Raises:
        ValueError: no names, or a field that the program does not have.
    """
    if isinstance(networks, str) or not networks:
        raise checks.problem(
            "networks", got=repr(networks), expected="names of the program's fields", fix='Write ("decoder",).'
        )
    found = {name: files.path_of(program, name) for name in networks}
    if absent := [name for name, path in found.items() if not path]:
        raise checks.problem(
            "networks",
            got=absent,
            expected=f"fields of the program, a {type(program).__name__}",
            fix="Name the fields that hold the networks.",
        )
    return found


def check_weights(name: str, weights: Mapping[str, Any]) -> None:
    """Refuse a network without weights.

    Raises:
        ValueError: it has none.
    """
    if not weights:
        raise checks.problem(
            "networks", got=f"{name!r}, which has no weights", expected="a network with weights", fix="Name another."
        )


def check_prior(site: str, found: Sequence[int], wanted: Sequence[int]) -> None:
    """Refuse a prior that is not of its weight's shape.

    Raises:
        ValueError: another shape.
    """
    if tuple(found) != tuple(wanted):
        raise checks.problem(
            f"prior of {site!r}",
            got=f"a law of shape {tuple(found)}",
            expected=f"one of the weight's shape {tuple(wanted)}",
            fix="Return a law that has this shape, or a single number's.",
        )


def check_rows(num_rows: int | None) -> None:
    """Refuse a number of rows that is not positive.

    Raises:
        ValueError: below 1.
    """
    if num_rows is not None:
        checks.at_least("num_rows", num_rows, 1)
