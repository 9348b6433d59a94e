"""The law of classes of which some are known, and a program given those that are, in NumPyro."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro import handlers

from deepgen.models.vae import classes


class ClassPrior(eqx.Module):
    """p(y): uniform, or learned from uniform on.

    Args:
        num_classes: K.
        learned: whether it is a parameter.
    """

    logits: jax.Array | None
    num_classes: int = eqx.field(static=True)

    def __init__(self, num_classes: int, learned: bool):
        self.num_classes, self.logits = num_classes, jnp.zeros(num_classes) if learned else None

    def log_probs(self) -> jax.Array:
        """(K,) the classes' log probabilities."""
        return jax.nn.log_softmax(jnp.zeros(self.num_classes) if self.logits is None else self.logits)


class Given(eqx.Module):
    """A program given what is known of its labels: p(z, x | y) where they are known, p(y, z, x) where they are not.

    Args:
        program: the program.
        y: (n,) integers, -1 where unknown; any number of rows is taken to repeat these n.
    """

    program: Any
    y: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the labels."""
        rows = size if x is None else len(x)
        return handlers.block(self.program.model, hide=["y_observed"])(x, classes.tile(self.y, rows), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's guide given the labels."""
        return self.program.guide(x, classes.tile(self.y, size if x is None else len(x)), size=size)
