"""The factors of a datum that is decided step by step, in Pyro."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch.distributions import Distribution

from deepgen.handlers.sites.pyro import block_axis, independent


class Sequence(torch.nn.Module):
    """A network that gives the outputs of one step after the other, and the law that a datum has at them.

    Attributes:
        network: with ``event_shape``, ``element_shape``, ``order``, ``start`` and ``step``.
        observation: the law of a datum, the same for each entry.
        context: (rows, ...) what the network is told of each row, or None.
    """

    def __init__(self, network: Any, observation: Any, context: Any = None):
        super().__init__()
        self.network, self.observation, self.context = network, observation, context

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

    def start(self, rows: Int[torch.Tensor, " m"]) -> Any:
        """The cache before the first step.

        Args:
            rows: of which row each of the m copies is.

        Returns:
            Arrays (m, ...).
        """
        return self.network.start(len(rows), self._told(rows))

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
        element = self.element
        return element(outputs.reshape(len(outputs), *element.outputs_shape)), cache

    def log_prob(self, x: Shaped[torch.Tensor, "m ..."], rows: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, " m"]:
        """The log density of complete data, in one pass.

        Args:
            x: (m, *event_shape).
            rows: of which row each of the m copies is.

        Returns:
            (m,) nats.
        """
        outputs = self.network(x, self._told(rows)).reshape(len(x), *self.observation.outputs_shape)
        return self.observation(outputs).log_prob(x)

    def taken(self, rows: Int[torch.Tensor, " m"]) -> "Sequence":
        """The factors of some of the rows."""
        return Sequence(self.network, self.observation, self._told(rows))

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

    def _told(self, rows: torch.Tensor) -> Any:
        return None if self.context is None else self.context[rows]

    def _example(self) -> Distribution:
        element = self.element
        device = next((leaf.device for leaf in self.network.parameters()), torch.device("cpu"))
        return element(torch.zeros(1, *element.outputs_shape, device=device))


class Mixture(torch.nn.Module):
    """Several products of factors, of which each datum follows one, all equally probable.

    Attributes:
        members: the products.
    """

    def __init__(self, members: tuple[Sequence, ...]):
        super().__init__()
        self.members = members

    def log_prob(self, x: Shaped[torch.Tensor, "m ..."], rows: Int[torch.Tensor, " m"]) -> Float[torch.Tensor, " m"]:
        """The log density of complete data: the members' densities are averaged.

        Args:
            x: (m, *event_shape).
            rows: of which row each of the m copies is.

        Returns:
            (m,) nats.
        """
        found = torch.stack([member.log_prob(x, rows) for member in self.members])
        return torch.logsumexp(found, dim=0) - np.log(len(self.members))

    def taken(self, rows: Int[torch.Tensor, " m"]) -> "Mixture":
        """The factors of some of the rows."""
        return Mixture(tuple(member.taken(rows) for member in self.members))

    def values(self) -> np.ndarray | None:
        """The values that an entry can take, or None where they are not finitely many."""
        return self.members[0].values()
