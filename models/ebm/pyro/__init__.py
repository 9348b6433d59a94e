"""Energy-based models in Pyro: the program, its law and its energies."""

from deepgen.models.ebm.pyro.classes import ClassEnergyModel
from deepgen.models.ebm.pyro.distribution import Base, EnergyBased
from deepgen.models.ebm.pyro.energies import LogitsEnergy, NetworkEnergy, QuadraticEnergy, RBMEnergy, SumEnergy
from deepgen.models.ebm.pyro.program import EnergyBasedModel, build

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
