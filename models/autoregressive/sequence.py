"""What an autoregressive law is, apart from its engine: what fits together, and where what is decided goes."""

import math
from typing import Any

from deepgen import checks


def check(network: Any, observation: Any) -> None:
    """Refuse a network and an observation law that do not fit together.

    Raises:
        ValueError: another event's shape, another number of parameters, or a law that differs from entry to entry.
    """
    checks.equal_shapes(
        "event_shape of network and observation", tuple(network.event_shape), tuple(observation.event_shape)
    )
    element = observation.element(network.element_shape)
    if network.num_params != element.num_params:
        raise checks.problem(
            "network",
            got=f"{network.num_params} numbers for each entry",
            expected=f"{element.num_params}, as the law {observation.name!r} wants",
            fix=f"Build it with num_params={element.num_params}.",
        )


def rows(shape: tuple[int, ...], event_shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The leading axes of a value, and how many rows they are.

    Raises:
        ValueError: a value that does not end in the event's shape.
    """
    lead = tuple(shape[: len(shape) - len(event_shape)])
    if tuple(shape[len(lead) :]) != tuple(event_shape):
        raise checks.problem(
            "value",
            got=f"shape {tuple(shape)}",
            expected=f"(..., {', '.join(map(str, event_shape))})",
            fix="Pass values of the event's shape.",
        )
    return lead, math.prod(lead)
