"""Stochastic variational inference in Pyro: the objective `ELBO`, and `fit`."""

from deepgen.inference.svi.checkpoint import Checkpoint
from deepgen.inference.svi.loop import Fit, NonFiniteLoss
from deepgen.inference.svi.pyro.elbo import ELBO, count_steps
from deepgen.inference.svi.pyro.fit import fit
from deepgen.inference.svi.schedules import Cyclical, Linear, Sigmoid

__all__ = ["ELBO", "Checkpoint", "Cyclical", "Fit", "Linear", "NonFiniteLoss", "Sigmoid", "count_steps", "fit"]
