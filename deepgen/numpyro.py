"""The NumPyro face of deepgen: ``import deepgen.numpyro as dg``. Both faces have the same names."""

from typing import TYPE_CHECKING

from deepgen import faces

if TYPE_CHECKING:
    from deepgen.evaluation.numpyro import compare, rate_distortion, rate_distortion_curve
    from deepgen.handlers.numpyro import complete, missing
    from deepgen.inference.bayesian.numpyro import bayesian
    from deepgen.inference.chains.numpyro import BlockGibbs, FlipSteps, HamiltonianSteps, LangevinSteps
    from deepgen.inference.contrastive.numpyro import (
        ContrastiveDivergence,
        NoiseContrastive,
        PersistentContrastiveDivergence,
    )
    from deepgen.inference.imputation.numpyro import impute
    from deepgen.inference.imputation.pooling import Pooled, pool
    from deepgen.inference.langevin.annealed.numpyro import AnnealedLangevin, PredictorCorrector
    from deepgen.inference.langevin.arguments import DivergenceWarning
    from deepgen.inference.langevin.chains.numpyro import run_chains
    from deepgen.inference.langevin.continuous.numpyro import (
        MALA,
        ULA,
        MetropolisedUnderdampedLangevin,
        UnderdampedLangevin,
    )
    from deepgen.inference.langevin.locally_balanced.numpyro import DiscreteLangevin, GibbsWithGradients
    from deepgen.inference.langevin.minibatch.numpyro import PSGLD, SGLD
    from deepgen.inference.likelihood.ais.numpyro import Bracket, ais, bdmc
    from deepgen.inference.likelihood.numpyro import log_prob
    from deepgen.inference.likelihood.partition.numpyro import LogPartition, log_partition
    from deepgen.inference.score_matching.numpyro import DenoisingScoreMatching, ExactScoreMatching, SlicedScoreMatching
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
        ObservedModel,
        Sigmoid,
        count_steps,
        fit,
    )
    from deepgen.likelihoods import numpyro as likelihoods
    from deepgen.likelihoods.logistic.numpyro import CoupledLogisticMixture, DiscretizedLogisticMixture
    from deepgen.models.autoregressive.mulaw import mu_law_decode, mu_law_encode
    from deepgen.models.autoregressive.numpyro import (
        AnyOrder,
        Autoregressive,
        AutoregressiveModel,
        CausalTransformer,
        Ensemble,
        OrderAgnostic,
        PixelCNN,
        RandomDropout,
        RandomMember,
        WaveNet,
    )
    from deepgen.models.dequantized.numpyro import Dequantized, Levels
    from deepgen.models.ebm.numpyro import (
        Base,
        ClassEnergyModel,
        EnergyBased,
        EnergyBasedModel,
        LogitsEnergy,
        NetworkEnergy,
        QuadraticEnergy,
        RBMEnergy,
        SumEnergy,
    )
    from deepgen.models.ebm.recipe import ShortRunWarning
    from deepgen.models.flow.numpyro import (
        CNF,
        ActNorm,
        ActNorm2d,
        AdditiveCoupling,
        AdditiveCoupling2d,
        AffineAutoregressive,
        AffineCoupling,
        AffineCoupling2d,
        AutoFlow,
        Flow,
        FlowDistribution,
        InvertibleConv1x1,
        Logit,
        LULinear,
        Permute,
        RandomProbes,
        SplineAutoregressive,
        SplineCoupling,
        Split,
        Squeeze,
        Unflatten,
    )
    from deepgen.models.flow.recipe import InversionWarning
    from deepgen.models.mnar.numpyro import MNAR, LinearMasking, SelfMasking
    from deepgen.models.score.numpyro import GaussianScore, ScoreBased, ScoreMLP, ScoreModel, ScoreUNet
    from deepgen.models.score.sdes import VE, VP, SubVP
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
    from deepgen.report.references import citation
else:
    __getattr__, __dir__ = faces.lazily(__name__, "numpyro")

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
    "ActNorm2d",
    "ActiveUnits",
    "AdditiveCoupling",
    "AdditiveCoupling2d",
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineCoupling2d",
    "AnnealedLangevin",
    "AnyOrder",
    "AutoFlow",
    "Autoregressive",
    "AutoregressiveModel",
    "Base",
    "BlockGibbs",
    "Bracket",
    "CausalTransformer",
    "Checkpoint",
    "ClassEnergyModel",
    "ClassProbabilities",
    "ClassVAE",
    "ContrastiveDivergence",
    "CoupledLogisticMixture",
    "Cyclical",
    "DReG",
    "DenoisingScoreMatching",
    "Dequantized",
    "DiscreteLangevin",
    "DiscretizedLogisticMixture",
    "DivergenceWarning",
    "EnergyBased",
    "EnergyBasedModel",
    "Ensemble",
    "EnumELBO",
    "ExactScoreMatching",
    "Fit",
    "FlipSteps",
    "Flow",
    "FlowDistribution",
    "GaussianScore",
    "GibbsWithGradients",
    "HamiltonianSteps",
    "HierarchicalVAE",
    "InversionWarning",
    "InvertibleConv1x1",
    "LULinear",
    "LangevinSteps",
    "Levels",
    "Linear",
    "LinearMasking",
    "LogPartition",
    "LogProb",
    "Logit",
    "LogitsEnergy",
    "MetropolisedUnderdampedLangevin",
    "NetworkEnergy",
    "NoiseContrastive",
    "NonFiniteLoss",
    "ObservedModel",
    "OrderAgnostic",
    "Particles",
    "Permute",
    "PersistentContrastiveDivergence",
    "PixelCNN",
    "Pooled",
    "PosteriorCollapseWarning",
    "PredictorCorrector",
    "Program",
    "QuadraticEnergy",
    "RBMEnergy",
    "RandomDropout",
    "RandomMember",
    "RandomProbes",
    "ScoreBased",
    "ScoreMLP",
    "ScoreModel",
    "ScoreUNet",
    "SelfMasking",
    "ShortRunWarning",
    "Sigmoid",
    "SlicedScoreMatching",
    "SplineAutoregressive",
    "SplineCoupling",
    "Split",
    "Squeeze",
    "SubVP",
    "SumEnergy",
    "UnderdampedLangevin",
    "Unflatten",
    "WaveNet",
    "active_units",
    "ais",
    "bayesian",
    "bdmc",
    "citation",
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
    "log_partition",
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
