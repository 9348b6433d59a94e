"""Energy-based models in NumPyro: the program, its law and its energies."""

from deepgen.models.ebm.numpyro.classes import ClassEnergyModel
from deepgen.models.ebm.numpyro.distribution import Base, EnergyBased
from deepgen.models.ebm.numpyro.energies import LogitsEnergy, NetworkEnergy, QuadraticEnergy, RBMEnergy, SumEnergy
from deepgen.models.ebm.numpyro.program import EnergyBasedModel, build

__all__ = [
    "Base",
    "ClassEnergyModel",
    "EnergyBased",
    "EnergyBasedModel",
    "LogitsEnergy",
    "NetworkEnergy",
    "QuadraticEnergy",
    "RBMEnergy",
    "SumEnergy",
    "build",
]
