"""Programs that decide a datum step by step, each step given those before it."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Sequential(Protocol):
    """What a program promises besides, where its p(x) is the product of the laws of each step given those before it.

    Its likelihood is exact, it has no latents, and its ``densities`` name ``"steps"``. It may be a mixture of equal
    weights of several such products, as where an order of the entries is drawn first.
    """

    def sequential(self) -> Any:
        """The factors, as a ``Sequence`` of the program's engine, or its ``Mixture`` of them."""
