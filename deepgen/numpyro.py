"""The NumPyro face of deepgen: ``import deepgen.numpyro as dg``. Both faces have the same names."""

from deepgen.handlers.numpyro import complete, missing
from deepgen.inference.imputation.numpyro import impute
from deepgen.inference.imputation.pooling import Pooled, pool
from deepgen.inference.likelihood.ais.numpyro import Bracket, ais, bdmc
from deepgen.inference.likelihood.numpyro import log_prob
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
from deepgen.models.vae.activity import ActiveUnits, PosteriorCollapseWarning
from deepgen.models.vae.classes import ClassProbabilities
from deepgen.models.vae.numpyro import VAE, ClassVAE, active_units, classify, fit_table, interpolate, reconstruct
from deepgen.nn import equinox as nn
from deepgen.program import LogProb, Program
from deepgen.program.numpyro import load, sample, save, with_params

__all__ = [
    "ELBO",
    "IWAE",
    "VAE",
    "ActiveUnits",
    "Bracket",
    "Checkpoint",
    "ClassProbabilities",
    "ClassVAE",
    "Cyclical",
    "DReG",
    "EnumELBO",
    "Fit",
    "Linear",
    "LogProb",
    "NonFiniteLoss",
    "Pooled",
    "PosteriorCollapseWarning",
    "Program",
    "Sigmoid",
    "active_units",
    "ais",
    "bdmc",
    "classify",
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
    "nn",
    "pool",
    "reconstruct",
    "sample",
    "save",
    "with_params",
]
