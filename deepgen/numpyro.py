"""The NumPyro face of deepgen: ``import deepgen.numpyro as dg``. Both faces have the same names."""

from deepgen.evaluation.numpyro import compare, rate_distortion, rate_distortion_curve
from deepgen.handlers.numpyro import complete, missing
from deepgen.inference.bayesian.numpyro import bayesian
from deepgen.inference.imputation.numpyro import impute
from deepgen.inference.imputation.pooling import Pooled, pool
from deepgen.inference.likelihood.ais.numpyro import Bracket, ais, bdmc
from deepgen.inference.likelihood.numpyro import log_prob
from deepgen.inference.smc.numpyro import Particles, smc
from deepgen.inference.svi.numpyro import (
    ELBO,
    IWAE,
    Checkpoint,
    Cyclical,
    DReG,
    EnumELBO,
    Fit,
    Linear,
    NonFiniteLoss,
    Sigmoid,
    count_steps,
    fit,
)
from deepgen.likelihoods import numpyro as likelihoods
from deepgen.likelihoods.logistic.numpyro import CoupledLogisticMixture, DiscretizedLogisticMixture
from deepgen.models.autoregressive.mulaw import mu_law_decode, mu_law_encode
from deepgen.models.autoregressive.numpyro import (
    Autoregressive,
    AutoregressiveModel,
    CausalTransformer,
    Ensemble,
    PixelCNN,
    RandomMember,
    WaveNet,
)
from deepgen.models.dequantized.numpyro import Dequantized, Levels
from deepgen.models.flow.numpyro import (
    ActNorm,
    ActNorm2d,
    AdditiveCoupling,
    AdditiveCoupling2d,
    AffineAutoregressive,
    AffineCoupling,
    AffineCoupling2d,
    Flow,
    FlowDistribution,
    InvertibleConv1x1,
    Logit,
    LULinear,
    Permute,
    SplineAutoregressive,
    SplineCoupling,
    Split,
    Squeeze,
    Unflatten,
)
from deepgen.models.flow.recipe import InversionWarning
from deepgen.models.mnar.numpyro import MNAR, LinearMasking, SelfMasking
from deepgen.models.vae.activity import ActiveUnits, PosteriorCollapseWarning
from deepgen.models.vae.classes import ClassProbabilities
from deepgen.models.vae.numpyro import (
    VAE,
    ClassVAE,
    HierarchicalVAE,
    active_units,
    classify,
    fit_table,
    interpolate,
    reconstruct,
)
from deepgen.nn import equinox as nn
from deepgen.program import LogProb, Program
from deepgen.program.numpyro import load, sample, save, with_params

__all__ = [
    "ELBO",
    "IWAE",
    "MNAR",
    "VAE",
    "ActNorm",
    "ActNorm2d",
    "ActiveUnits",
    "AdditiveCoupling",
    "AdditiveCoupling2d",
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineCoupling2d",
    "Autoregressive",
    "AutoregressiveModel",
    "Bracket",
    "CausalTransformer",
    "Checkpoint",
    "ClassProbabilities",
    "ClassVAE",
    "CoupledLogisticMixture",
    "Cyclical",
    "DReG",
    "Dequantized",
    "DiscretizedLogisticMixture",
    "Ensemble",
    "EnumELBO",
    "Fit",
    "Flow",
    "FlowDistribution",
    "HierarchicalVAE",
    "InversionWarning",
    "InvertibleConv1x1",
    "LULinear",
    "Levels",
    "Linear",
    "LinearMasking",
    "LogProb",
    "Logit",
    "NonFiniteLoss",
    "Particles",
    "Permute",
    "PixelCNN",
    "Pooled",
    "PosteriorCollapseWarning",
    "Program",
    "RandomMember",
    "SelfMasking",
    "Sigmoid",
    "SplineAutoregressive",
    "SplineCoupling",
    "Split",
    "Squeeze",
    "Unflatten",
    "WaveNet",
    "active_units",
    "ais",
    "bayesian",
    "bdmc",
    "classify",
    "compare",
    "complete",
    "count_steps",
    "fit",
    "fit_table",
    "impute",
    "interpolate",
    "likelihoods",
    "load",
    "log_prob",
    "missing",
    "mu_law_decode",
    "mu_law_encode",
    "nn",
    "pool",
    "rate_distortion",
    "rate_distortion_curve",
    "reconstruct",
    "sample",
    "save",
    "smc",
    "with_params",
]
