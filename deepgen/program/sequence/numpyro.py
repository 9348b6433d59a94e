"""The factors of a datum that is decided step by step, in NumPyro."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from numpyro.distributions import Distribution

from deepgen.handlers.sites.numpyro import block_axis, independent


class Sequence(eqx.Module):
    """A network that gives the outputs of one step after the other, and the law that an element has at them.

    Attributes:
        network: with ``event_shape``, ``element_shape``, ``order``, ``start`` and ``step``.
        element: the law of what one step decides.
        context: (rows, ...) what the network is told of each row, or None.
    """

    network: Any
    element: Any
    context: Any = None

    @property
    def order(self) -> np.ndarray:
        """(T, E) flat indices into the datum, which each step decides."""
        return np.asarray(self.network.order)

    def start(self, rows: Int[Array, " m"]) -> Any:
        """The cache before the first step.

        Args:
            rows: of which row each of the m copies is.

        Returns:
            Arrays (m, ...).
        """
        return self.network.start(len(rows), None if self.context is None else self.context[rows])

    def step(self, cache: Any, t: Any, previous: Array) -> tuple[Distribution, Any]:
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
        if not base.has_enumerate_support or base.event_dim:
            return None
        return np.asarray(base.enumerate_support(expand=False)).reshape(-1)

    def joint(self) -> bool:
        """Whether the entries of a step depend on each other given those before."""
        law = self._example()
        return not independent(law) or block_axis(law) is not None

    def _example(self) -> Distribution:
        return self.element(jnp.zeros((1, *self.element.outputs_shape)))
