"""Normalizing flows in Pyro: the program, its transforms and the distribution that they make."""

from deepgen.models.flow.pyro.autoregressive import AffineAutoregressive, SplineAutoregressive
from deepgen.models.flow.pyro.continuous import CNF, RandomProbes
from deepgen.models.flow.pyro.couplings import AdditiveCoupling, AffineCoupling, SplineCoupling
from deepgen.models.flow.pyro.linear import ActNorm, Logit, LULinear, Permute, Unflatten
from deepgen.models.flow.pyro.program import Flow, build
from deepgen.models.flow.pyro.transforms import FlowDistribution, FlowTransform

__all__ = [
    "CNF",
    "ActNorm",
    "AdditiveCoupling",
    "AffineAutoregressive",
    "AffineCoupling",
    "Flow",
    "FlowDistribution",
    "FlowTransform",
    "LULinear",
    "Logit",
    "Permute",
    "RandomProbes",
    "SplineAutoregressive",
    "SplineCoupling",
    "Unflatten",
    "build",
]
