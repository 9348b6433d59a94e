"""Stochastic variational inference in NumPyro: the objectives `ELBO`, `IWAE`, `DReG` and `EnumELBO`, and `fit`."""

from deepgen.inference.svi.checkpoint import Checkpoint
from deepgen.inference.svi.loop import Fit, NonFiniteLoss
from deepgen.inference.svi.numpyro.elbo import ELBO, count_steps
from deepgen.inference.svi.numpyro.enumeration import EnumELBO
from deepgen.inference.svi.numpyro.fit import fit
from deepgen.inference.svi.numpyro.importance import IWAE, DReG
from deepgen.inference.svi.numpyro.observed import ObservedModel
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
