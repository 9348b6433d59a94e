"""Likelihoods with error bars, sample metrics, calibration, ArviZ."""

from deepgen.evaluation.baselines import BASELINES, baselines
from deepgen.evaluation.calibration import EcdfBand, coverage_curve, ecdf_band, sbc_ranks, uniformity_pvalue
from deepgen.evaluation.disentanglement import DCI, MIG, dci, mig
from deepgen.evaluation.estimate import Estimate, cell_mean
from deepgen.evaluation.files import posterior_of, read_posterior, write_posterior
from deepgen.evaluation.imputation import ImputationError, error_table, imputation_error
from deepgen.evaluation.likelihood import bits_per_dim, mean_log_prob, monte_carlo_stderr
from deepgen.evaluation.loo import HeldOut, comparison, held_out, held_out_elpd, to_loo
from deepgen.evaluation.predictive import STATISTICS, ppc, ppc_data
from deepgen.evaluation.rate_distortion import RateDistortion, rate_distortion_table
from deepgen.evaluation.scores import crps, energy_score, interval, pit, ranks
from deepgen.evaluation.smoothness import PathSmoothness, path_smoothness
from deepgen.math.gaussian import Gaussian, fit_gaussian

__all__ = [
    "BASELINES",
    "DCI",
    "MIG",
    "STATISTICS",
    "EcdfBand",
    "Estimate",
    "Gaussian",
    "HeldOut",
    "ImputationError",
    "PathSmoothness",
    "RateDistortion",
    "baselines",
    "bits_per_dim",
    "cell_mean",
    "comparison",
    "coverage_curve",
    "crps",
    "dci",
    "ecdf_band",
    "energy_score",
    "error_table",
    "fit_gaussian",
    "held_out",
    "held_out_elpd",
    "imputation_error",
    "interval",
    "mean_log_prob",
    "mig",
    "monte_carlo_stderr",
    "path_smoothness",
    "pit",
    "posterior_of",
    "ppc",
    "ppc_data",
    "ranks",
    "rate_distortion_table",
    "read_posterior",
    "sbc_ranks",
    "to_loo",
    "uniformity_pvalue",
    "write_posterior",
]
