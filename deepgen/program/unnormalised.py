"""Laws whose density is known up to a constant, and programs of them."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Unnormalised(Protocol):
    """A law p(x) = base(x) exp(-energy(x)) / Z, as a distribution of its engine whose ``log_prob`` leaves log Z out."""

    base: Any
    """A normalised distribution that can be drawn from."""
    energy: Any
    """From (n, *event_shape) to (n,) nats."""
    kernel: Any
    """The Markov kernel that keeps the law, of ``deepgen.inference.chains``."""

    def log_prob(self, value: Any) -> Any:
        """log base(x) - energy(x), nats."""


@runtime_checkable
class HasUnnormalisedLaw(Protocol):
    """A program of one site ``"x"`` whose law is `Unnormalised`; its ``densities`` name ``"partition"``."""

    def distribution(self) -> Any:
        """The law."""

    def draw(self, *args: Any, **kwargs: Any) -> Any:
        """Draws of x by Markov chains: (key of NumPyro, how many)."""


def law_of(fn: Any) -> Any:
    """The unnormalised law within a site's distribution, which plates expand and masks wrap; or None.

    Args:
        fn: a distribution of either engine.
    """
    while not isinstance(fn, Unnormalised):
        if not hasattr(fn, "base_dist"):
            return None
        fn = fn.base_dist
    return fn
