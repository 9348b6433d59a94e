"""Normalizing flows in Pyro: the program, its transforms, their distribution, and guides of any model."""

from deepgen.models.flow.pyro.autoregressive import AffineAutoregressive, SplineAutoregressive
from deepgen.models.flow.pyro.couplings import AdditiveCoupling, AffineCoupling, SplineCoupling
from deepgen.models.flow.pyro.guide import AutoFlow
from deepgen.models.flow.pyro.linear import ActNorm, Logit, LULinear, Permute, Unflatten
from deepgen.models.flow.pyro.program import Flow, build
from deepgen.models.flow.pyro.transforms import FlowDistribution, FlowTransform

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineAutoregressive",
    "AffineCoupling",
    "AutoFlow",
    "Flow",
    "FlowDistribution",
    "FlowTransform",
    "LULinear",
    "Logit",
    "Permute",
    "SplineAutoregressive",
    "SplineCoupling",
    "Unflatten",
    "build",
]
