"""Stochastic variational inference in Pyro: the objectives `ELBO`, `IWAE`, `DReG` and `EnumELBO`, and `fit`."""

from deepgen.inference.svi.checkpoint import Checkpoint
from deepgen.inference.svi.loop import Fit, NonFiniteLoss
from deepgen.inference.svi.pyro.elbo import ELBO, count_steps
from deepgen.inference.svi.pyro.enumeration import EnumELBO
from deepgen.inference.svi.pyro.fit import fit
from deepgen.inference.svi.pyro.importance import IWAE, DReG
from deepgen.inference.svi.pyro.observed import ObservedModel
from deepgen.inference.svi.schedules import Cyclical, Linear, Sigmoid

__all__ = [
    "ELBO",
    "IWAE",
    "Checkpoint",
    "Cyclical",
    "DReG",
    "EnumELBO",
    "Fit",
    "Linear",
    "NonFiniteLoss",
    "ObservedModel",
    "Sigmoid",
    "count_steps",
    "fit",
]
