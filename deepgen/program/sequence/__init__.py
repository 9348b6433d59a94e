"""Programs that decide a datum step by step, each step given those before it."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Sequential(Protocol):
    """What a program promises besides, where its p(x) is the product of the laws of each step given those before it.

    Its likelihood is exact, and it has no latents.
    """

    def sequential(self) -> Any:
        """The factors, as a ``Sequence`` of the program's engine."""
