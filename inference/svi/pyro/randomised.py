"""What objectives share that train by random laws in place of the model's own, in Pyro."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pyro import infer
from pyro.distributions import MaskedDistribution
from pyro.poutine.messenger import Messenger

from deepgen.inference.svi import loop
from deepgen.inference.svi.checkpoint import describe
from deepgen.inference.svi.pyro.elbo import ELBO


class RandomLaws(infer.ELBO):
    """Another objective, of a model whose laws are exchanged for random ones, anew at each step.

    Args:
        objective: the other objective; None for an `ELBO`.

    Attributes:
        step: which of `fit`'s steps is taken; None where none is known, as in a plain ``SVI``.
    """

    step: Any = None

    def __init__(self, objective: infer.ELBO | None = None) -> None:
        self.objective: Any = ELBO() if objective is None else objective
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
    def _exchanged(self, law: Any) -> Any:
        """The random law in place of a site's, the same where there is none."""

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number."""
        return float(self.objective.loss(self._exchanging(model), guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""
        return float(self.objective.loss_and_grads(self._exchanging(model), guide, *args, **kwargs))

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated."""
        return self.objective.differentiable_loss(self._exchanging(model), guide, *args, **kwargs)

    def _get_trace(self, model: Callable[..., Any], guide: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return self.objective._get_trace(self._exchanging(model), guide, args, kwargs)

    def _exchanging(self, model: Callable[..., Any]) -> Callable[..., Any]:
        def exchanging(*args: Any, **kwargs: Any) -> Any:
            with _Exchanging(self._exchanged):
                return model(*args, **kwargs)

        return exchanging


class _Exchanging(Messenger):
    def __init__(self, exchange: Callable[[Any], Any]) -> None:
        super().__init__()
        self.exchange = exchange

    def _pyro_sample(self, msg: Any) -> None:
        msg["fn"] = _within(msg["fn"], self.exchange)


def _within(fn: Any, exchange: Callable[[Any], Any]) -> Any:
    """The distribution with the law that it masks exchanged."""
    if not isinstance(fn, MaskedDistribution):
        return exchange(fn)
    inner = _within(fn.base_dist, exchange)
    return fn if inner is fn.base_dist else inner.mask(fn._mask)
