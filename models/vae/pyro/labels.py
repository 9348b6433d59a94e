"""The law of classes of which some are known, and a program given those that are, in Pyro."""

from typing import Any

import torch
from pyro import poutine

from deepgen.models.vae import classes


class ClassPrior(torch.nn.Module):
    """p(y): uniform, or learned from uniform on.

    Args:
        num_classes: K.
        learned: whether it is a parameter.
    """

    logits: torch.nn.Parameter | None

    def __init__(self, num_classes: int, learned: bool):
        super().__init__()
        self.num_classes = num_classes
        self.logits = torch.nn.Parameter(torch.zeros(num_classes)) if learned else None

    def log_probs(self, like: torch.Tensor) -> torch.Tensor:
        """(K,) the classes' log probabilities, of the dtype and on the device of ``like``."""
        logits = like.new_zeros(self.num_classes) if self.logits is None else self.logits
        return torch.log_softmax(logits, -1)


class Given:
    """A program given what is known of its labels: p(z, x | y) where they are known, p(y, z, x) where they are not.

    Args:
        program: the program.
        y: (n,) integers, -1 where unknown; any number of rows is taken to repeat these n.
    """

    def __init__(self, program: Any, y: torch.Tensor):
        self.program, self.y = program, y

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the labels."""
        rows = size if x is None else len(x)
        return poutine.block(self.program.model, hide=["y_observed"])(x, classes.tile(self.y, rows), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's guide given the labels."""
        return self.program.guide(x, classes.tile(self.y, size if x is None else len(x)), size=size)
