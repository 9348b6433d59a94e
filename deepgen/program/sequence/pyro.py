"""The factors of a datum that is decided step by step, in Pyro."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch.distributions import Distribution

from deepgen.handlers.sites.pyro import block_axis, independent


class Sequence(torch.nn.Module):
    """A network that gives the outputs of one step after the other, and the law that an element has at them.

    Attributes:
        network: with ``event_shape``, ``element_shape``, ``order``, ``start`` and ``step``.
        element: the law of what one step decides.
        context: (rows, ...) what the network is told of each row, or None.
    """

    def __init__(self, network: Any, element: Any, context: Any = None):
        super().__init__()
        self.network, self.element, self.context = network, element, context

    @property
    def order(self) -> np.ndarray:
        """(T, E) flat indices into the datum, which each step decides."""
        return np.asarray(self.network.order)

    def start(self, rows: Int[torch.Tensor, " m"]) -> Any:
        """The cache before the first step.

        Args:
            rows: of which row each of the m copies is.

        Returns:
            Arrays (m, ...).
        """
        return self.network.start(len(rows), None if self.context is None else self.context[rows])

    def step(self, cache: Any, t: Any, previous: torch.Tensor) -> tuple[Distribution, Any]:
        """The law of what step t decides.

        Args:
            cache: of `start`, or of the step before.
            t: the number of the step, from 0.
            previous: (m, E) what the step before decided.

        Returns:
            The law, of m elements, and the cache for the next step.
        """
        outputs, cache = self.network.step(cache, t, previous)
        return self.element(outputs.reshape(len(outputs), *self.element.outputs_shape)), cache

    def values(self) -> np.ndarray | None:
        """The values that an entry can take, or None where they are not finitely many."""
        base: Any = self._example()
        while hasattr(base, "base_dist"):
            base = base.base_dist
        if not base.has_enumerate_support or len(base.event_shape):
            return None
        return base.enumerate_support(expand=False).reshape(-1).cpu().numpy()

    def joint(self) -> bool:
        """Whether the entries of a step depend on each other given those before."""
        law = self._example()
        return not independent(law) or block_axis(law) is not None

    def _example(self) -> Distribution:
        device = next((leaf.device for leaf in self.parameters()), torch.device("cpu"))
        return self.element(torch.zeros(1, *self.element.outputs_shape, device=device))
