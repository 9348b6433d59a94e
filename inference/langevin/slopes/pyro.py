"""Pyro models with laws that have a score and no value."""

from collections.abc import Callable
from typing import Any

from pyro.poutine.messenger import Messenger

from deepgen.inference.langevin.slopes import laws

__all__ = ["Slopes"]


class Slopes(Messenger):
    """A model in which a law that lacks a value counts as zero, with its score for a derivative.

    Args:
        model: a Pyro model.
        adjusted: whether it is for a kernel with an acceptance test, which refuses such a law.
    """

    def __init__(self, model: Callable[..., Any], *, adjusted: bool) -> None:
        super().__init__()
        self.model, self.adjusted = model, adjusted

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        with self:
            return self.model(*args, **kwargs)

    def _pyro_sample(self, msg: Any) -> None:
        """Exchange the law of a site."""
        msg["fn"] = laws.substitute(msg["name"], msg["fn"], self.adjusted)
