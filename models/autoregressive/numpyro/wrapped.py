"""What networks are that go by another network, in NumPyro: its shapes and how it starts."""

from typing import Any

import equinox as eqx

from deepgen.models.autoregressive import sequence


class Wrapped(eqx.Module):
    """A network that another one goes by.

    Args:
        network: the network.
    """

    network: Any

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.network.event_shape

    @property
    def element_shape(self) -> tuple[int, ...]:
        """The shape of what one step decides."""
        return self.network.element_shape

    @property
    def num_params(self) -> int:
        """How many numbers are given for each entry."""
        return self.network.num_params

    @property
    def context_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that the context of one row may have; none where there is no context."""
        return sequence.context_shapes(self.network)

    def start(self, n: int, context: Any = None) -> Any:
        """What `step` keeps, before anything is decided."""
        return self.network.start(n, context)
