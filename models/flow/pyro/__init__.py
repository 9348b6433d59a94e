"""Normalizing flows in Pyro: the program, its transforms, their distribution, and guides of any model."""

from deepgen.models.flow.pyro.autoregressive import AffineAutoregressive, SplineAutoregressive
from deepgen.models.flow.pyro.continuous import CNF, RandomProbes
from deepgen.models.flow.pyro.couplings import AdditiveCoupling, AffineCoupling, SplineCoupling
from deepgen.models.flow.pyro.guide import AutoFlow
from deepgen.models.flow.pyro.image_couplings import AdditiveCoupling2d, AffineCoupling2d
from deepgen.models.flow.pyro.images import ActNorm2d, InvertibleConv1x1, Split, Squeeze
from deepgen.models.flow.pyro.linear import ActNorm, Logit, LULinear, Permute, Unflatten
from deepgen.models.flow.pyro.program import Flow, build
from deepgen.models.flow.pyro.transforms import FlowDistribution, FlowTransform

__all__ = [
    "CNF",
    "ActNorm",
    "ActNorm2d",
    "AdditiveCoupling",
    "AdditiveCoupling2d",
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineCoupling2d",
    "AutoFlow",
    "Flow",
    "FlowDistribution",
    "FlowTransform",
    "InvertibleConv1x1",
    "LULinear",
    "Logit",
    "Permute",
    "RandomProbes",
    "SplineAutoregressive",
    "SplineCoupling",
    "Split",
    "Squeeze",
    "Unflatten",
    "build",
]
