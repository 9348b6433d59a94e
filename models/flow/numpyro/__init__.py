"""Normalizing flows in NumPyro: the program, its transforms and the distribution that they make."""

from deepgen.models.flow.numpyro.autoregressive import AffineAutoregressive, SplineAutoregressive
from deepgen.models.flow.numpyro.continuous import CNF, RandomProbes
from deepgen.models.flow.numpyro.couplings import AdditiveCoupling, AffineCoupling, SplineCoupling
from deepgen.models.flow.numpyro.linear import ActNorm, Logit, LULinear, Permute, Unflatten
from deepgen.models.flow.numpyro.program import Flow, build
from deepgen.models.flow.numpyro.transforms import FlowDistribution, FlowTransform

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
