"""What objectives share that train by random laws in place of the model's own, in NumPyro."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
from numpyro.distributions.distribution import ExpandedDistribution, Independent, MaskedDistribution
from numpyro.infer import elbo
from numpyro.primitives import Messenger

from deepgen.inference.svi import loop
from deepgen.inference.svi.checkpoint import describe
from deepgen.inference.svi.numpyro.elbo import ELBO


class RandomLaws(elbo.ELBO):
    """Another objective, of a model whose laws are exchanged for random ones, anew at each step.

    Args:
        objective: the other objective; None for an `ELBO`.

    Attributes:
        step: which of `fit`'s steps is taken; None where none is known, as in a plain ``SVI``.
    """

    step: Any = None

    def __init__(self, objective: elbo.ELBO | None = None) -> None:
        self.objective = ELBO() if objective is None else objective
        super().__init__(num_particles=self.objective.num_particles)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({describe(self.objective)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RandomLaws) and type(self) is type(other) and self.objective == other.objective

    def __hash__(self) -> int:
        return hash((type(self), self.objective))

    def at(self, step: Any) -> Any:
        """The objective as it stands at a step.

        Args:
            step: steps taken so far.
        """
        new = copy.copy(self)
        new.objective, new.step = loop.at(self.objective, step), step
        return new

    @abstractmethod
    def _exchanged(self, rng_key: jax.Array, law: Any) -> Any:
        """The random law in place of a site's, the same where there is none."""

    def loss_with_mutable_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss and the new values of the mutable sites; see ``numpyro.infer.elbo.ELBO``."""
        own_key = jax.random.fold_in(rng_key, 0x0D3)
        exchanging = _Exchanging(model, lambda law: self._exchanged(own_key, law))
        return self.objective.loss_with_mutable_state(rng_key, param_map, exchanging, guide, *args, **kwargs)


class _Exchanging(Messenger):
    def __init__(self, fn: Callable[..., Any], exchange: Callable[[Any], Any]) -> None:
        super().__init__(fn)
        self.exchange = exchange

    def process_message(self, msg: Any) -> None:
        if msg["type"] == "sample":
            msg["fn"] = _within(msg["fn"], self.exchange)


def _within(fn: Any, exchange: Callable[[Any], Any]) -> Any:
    """The distribution with the law that it expands or masks exchanged."""
    if not isinstance(fn, ExpandedDistribution | Independent | MaskedDistribution):
        return exchange(fn)
    inner = _within(fn.base_dist, exchange)
    if inner is fn.base_dist:
        return fn
    new = copy.copy(fn)
    new.base_dist = inner
    return new
