"""The Pyro face of deepgen: ``import deepgen.pyro as dg``. Both faces have the same names."""

from deepgen.evaluation.pyro import compare, rate_distortion, rate_distortion_curve
from deepgen.handlers.pyro import complete, missing
from deepgen.inference.bayesian.pyro import bayesian
from deepgen.inference.imputation.pooling import Pooled, pool
from deepgen.inference.imputation.pyro import impute
from deepgen.inference.langevin.annealed.pyro import AnnealedLangevin, PredictorCorrector
from deepgen.inference.langevin.arguments import DivergenceWarning
from deepgen.inference.langevin.chains.pyro import run_chains
from deepgen.inference.langevin.continuous.pyro import (
    MALA,
    ULA,
    MetropolisedUnderdampedLangevin,
    UnderdampedLangevin,
)
from deepgen.inference.langevin.locally_balanced.pyro import DiscreteLangevin, GibbsWithGradients
from deepgen.inference.langevin.minibatch.pyro import PSGLD, SGLD
from deepgen.inference.likelihood.ais.pyro import Bracket, ais, bdmc
from deepgen.inference.likelihood.pyro import log_prob
from deepgen.inference.score_matching.pyro import DenoisingScoreMatching, ExactScoreMatching, SlicedScoreMatching
from deepgen.inference.smc.pyro import Particles, smc
from deepgen.inference.svi.pyro import (
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
from deepgen.likelihoods import pyro as likelihoods
from deepgen.likelihoods.logistic.pyro import CoupledLogisticMixture, DiscretizedLogisticMixture
from deepgen.models.autoregressive.mulaw import mu_law_decode, mu_law_encode
from deepgen.models.autoregressive.pyro import (
    Autoregressive,
    AutoregressiveModel,
    CausalTransformer,
    Ensemble,
    PixelCNN,
    RandomMember,
    WaveNet,
)
from deepgen.models.flow.pyro import (
    CNF,
    ActNorm,
    AdditiveCoupling,
    AffineAutoregressive,
    AffineCoupling,
    Flow,
    FlowDistribution,
    Logit,
    LULinear,
    Permute,
    RandomProbes,
    SplineAutoregressive,
    SplineCoupling,
    Unflatten,
)
from deepgen.models.flow.recipe import InversionWarning
from deepgen.models.mnar.pyro import MNAR, LinearMasking, SelfMasking
from deepgen.models.score.pyro import GaussianScore, ScoreBased, ScoreMLP, ScoreModel, ScoreUNet
from deepgen.models.score.sdes import VE, VP, SubVP
from deepgen.models.vae.activity import ActiveUnits, PosteriorCollapseWarning
from deepgen.models.vae.classes import ClassProbabilities
from deepgen.models.vae.pyro import (
    VAE,
    ClassVAE,
    HierarchicalVAE,
    active_units,
    classify,
    fit_table,
    interpolate,
    reconstruct,
)
from deepgen.nn import torch as nn
from deepgen.program import LogProb, Program
from deepgen.program.pyro import load, sample, save, with_params

__all__ = [
    "CNF",
    "ELBO",
    "IWAE",
    "MALA",
    "MNAR",
    "PSGLD",
    "SGLD",
    "ULA",
    "VAE",
    "VE",
    "VP",
    "ActNorm",
    "ActiveUnits",
    "AdditiveCoupling",
    "AffineAutoregressive",
    "AffineCoupling",
    "AnnealedLangevin",
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
    "DenoisingScoreMatching",
    "DiscreteLangevin",
    "DiscretizedLogisticMixture",
    "DivergenceWarning",
    "Ensemble",
    "EnumELBO",
    "ExactScoreMatching",
    "Fit",
    "Flow",
    "FlowDistribution",
    "GaussianScore",
    "GibbsWithGradients",
    "HierarchicalVAE",
    "InversionWarning",
    "LULinear",
    "Linear",
    "LinearMasking",
    "LogProb",
    "Logit",
    "MetropolisedUnderdampedLangevin",
    "NonFiniteLoss",
    "Particles",
    "Permute",
    "PixelCNN",
    "Pooled",
    "PosteriorCollapseWarning",
    "PredictorCorrector",
    "Program",
    "RandomMember",
    "RandomProbes",
    "ScoreBased",
    "ScoreMLP",
    "ScoreModel",
    "ScoreUNet",
    "SelfMasking",
    "Sigmoid",
    "SlicedScoreMatching",
    "SplineAutoregressive",
    "SplineCoupling",
    "SubVP",
    "UnderdampedLangevin",
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
    "run_chains",
    "sample",
    "save",
    "smc",
    "with_params",
]
