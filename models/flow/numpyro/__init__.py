"""Normalizing flows in NumPyro: the program, its transforms, their distribution, and guides of any model."""

from deepgen.models.flow.numpyro.autoregressive import AffineAutoregressive, SplineAutoregressive
from deepgen.models.flow.numpyro.couplings import AdditiveCoupling, AffineCoupling, SplineCoupling
from deepgen.models.flow.numpyro.guide import AutoFlow
from deepgen.models.flow.numpyro.linear import ActNorm, Logit, LULinear, Permute, Unflatten
from deepgen.models.flow.numpyro.program import Flow, build
from deepgen.models.flow.numpyro.transforms import FlowDistribution, FlowTransform

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
