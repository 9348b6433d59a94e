"""Stochastic variational inference in NumPyro: the objective `ELBO`, and `fit`."""

from deepgen.inference.svi.loop import Checkpoint, Fit, NonFiniteLoss
from deepgen.inference.svi.numpyro.elbo import ELBO, count_steps
from deepgen.inference.svi.numpyro.fit import State, fit
from deepgen.inference.svi.schedules import Cyclical, Linear, Sigmoid

__all__ = ["ELBO", "Checkpoint", "Cyclical", "Fit", "Linear", "NonFiniteLoss", "Sigmoid", "State", "count_steps", "fit"]
