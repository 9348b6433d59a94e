"""The factors of a datum that is decided step by step, in NumPyro."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from numpyro.distributions import Distribution

from deepgen.handlers.sites.numpyro import block_axis, independent


class Sequence(eqx.Module):
    """A network that gives the outputs of one step after the other, and the law that a datum has at them.

    Attributes:
        network: with ``event_shape``, ``element_shape``, ``order``, ``start`` and ``step``.
        observation: the law of a datum, the same for each entry.
        context: (rows, ...) what the network is told of each row, or None.
    """

    network: Any
    observation: Any
    context: Any = None

    @property
    def members(self) -> tuple["Sequence", ...]:
        """The products of which p(x) is a mixture: this one alone."""
        return (self,)

    @property
    def element(self) -> Any:
        """The law of what one step decides."""
        return self.observation.element(self.network.element_shape)

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
        return self.network.start(len(rows), self._told(rows))

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
        element = self.element
        return element(outputs.reshape(len(outputs), *element.outputs_shape)), cache

    def log_prob(self, x: Shaped[Array, "m ..."], rows: Int[Array, " m"]) -> Float[Array, " m"]:
        """The log density of complete data, in one pass.

        Args:
            x: (m, *event_shape).
            rows: of which row each of the m copies is.

        Returns:
            (m,) nats.
        """
        outputs = self.network(x, self._told(rows)).reshape(len(x), *self.observation.outputs_shape)
        return self.observation(outputs).log_prob(x)

    def taken(self, rows: Int[Array, " m"]) -> "Sequence":
        """The factors of some of the rows."""
        return Sequence(self.network, self.observation, self._told(rows))

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

    def _told(self, rows: Array) -> Any:
        return None if self.context is None else self.context[rows]

    def _example(self) -> Distribution:
        element = self.element
        return element(jnp.zeros((1, *element.outputs_shape)))


class Mixture(eqx.Module):
    """Several products of factors, of which each datum follows one, all equally probable.

    Attributes:
        members: the products.
    """

    members: tuple[Sequence, ...]

    def log_prob(self, x: Shaped[Array, "m ..."], rows: Int[Array, " m"]) -> Float[Array, " m"]:
        """The log density of complete data: the members' densities are averaged.

        Args:
            x: (m, *event_shape).
            rows: of which row each of the m copies is.

        Returns:
            (m,) nats.
        """
        found = jnp.stack([member.log_prob(x, rows) for member in self.members])
        return jax.nn.logsumexp(found, axis=0) - np.log(len(self.members))

    def taken(self, rows: Int[Array, " m"]) -> "Mixture":
        """The factors of some of the rows."""
        return Mixture(tuple(member.taken(rows) for member in self.members))

    def values(self) -> np.ndarray | None:
        """The values that an entry can take, or None where they are not finitely many."""
        return self.members[0].values()
