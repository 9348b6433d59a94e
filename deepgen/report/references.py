"""The papers behind a run, and behind a program."""

from collections.abc import Iterator
from typing import Any

from deepgen.program import Program
from deepgen.report import papers
from deepgen.report.papers import Paper

_IWAE = papers.IWAE.line("the bound; active units")
_FAMILIES: dict[str, list[Paper]] = {
    "vae": [papers.VAE, papers.DLGM, papers.IWAE],
    "autoregressive": [papers.CHAIN],
    "flow": [papers.FLOWS, papers.FLOW_REVIEW],
    "score": [papers.SCORE_MATCHING, papers.DENOISING, papers.SCORE_SDE, papers.EDM],
    "ebm": [papers.ENERGIES, papers.PCD, papers.PARTITION],
    "mnar": [papers.MNAR],
    "dequantized": [papers.DEQUANTIZED],
}
_PARTS: dict[str, list[Paper]] = {
    "hierarchical": [papers.LADDER],
    "class_conditional": [papers.CLASSES],
    "vamp": [papers.VAMP],
    "discretized_logistic": [papers.LOGISTIC],
    "MaskedMLP": [papers.MADE],
    "PixelCNN": [papers.PIXELCNN],
    "WaveNet": [papers.WAVENET],
    "CausalTransformer": [papers.TRANSFORMER],
    "AdditiveCoupling": [papers.NICE],
    "AdditiveCoupling2d": [papers.NICE],
    "AffineCoupling": [papers.REALNVP],
    "AffineCoupling2d": [papers.REALNVP],
    "AffineAutoregressive": [papers.MAF],
    "SplineCoupling": [papers.NSF],
    "SplineAutoregressive": [papers.NSF],
    "CNF": [papers.FFJORD],
    "InvertibleConv1x1": [papers.GLOW],
    "network": [papers.EBM],
    "rbm": [papers.CD],
}
"""The papers of what a description names: networks, transforms, laws and priors."""

_FLOW = [*(paper.line() for paper in _FAMILIES["flow"]), papers.PATHS.line("the paths")]
_SCORE = [paper.line() for paper in _FAMILIES["score"]]
_ENERGY = [papers.ENERGIES.line(), papers.PCD.line(), papers.PARTITION.line("the constant")]
_RECIPES: dict[str, list[str]] = {
    "vae": [papers.VAE.line(), papers.DLGM.line(), _IWAE],
    "made": [papers.CHAIN.line(), papers.MADE.line()],
    "pixelcnn": [papers.CHAIN.line(), papers.PIXELCNN.line()],
    "wavenet": [papers.CHAIN.line(), papers.WAVENET.line()],
    "transformer": [papers.CHAIN.line(), papers.TRANSFORMER.line()],
    "nice": [*_FLOW, papers.NICE.line()],
    "realnvp": [*_FLOW, papers.REALNVP.line()],
    "maf": [*_FLOW, papers.MAF.line()],
    "nsf": [*_FLOW, papers.NSF.line()],
    "cnf": [*_FLOW, papers.FFJORD.line()],
    "glow": [*_FLOW, papers.GLOW.line()],
    "score": _SCORE,
    "score-conv": _SCORE,
    "ebm": [*_ENERGY, papers.EBM.line()],
    "rbm": [*_ENERGY, papers.CD.line()],
}
_METHODS: dict[str, list[str]] = {
    "mcmc": [papers.HMC.line(), papers.R_HAT.line()],
    "sir": [papers.PSIS.line()],
    "gibbs": [papers.GIBBS.line()],
    "pseudo-gibbs": [papers.DLGM.line("the Markov chain over the missing entries")],
    "adaptive-gibbs": [papers.SIMKUS.line()],
    "lair": [papers.SIMKUS.line(), papers.PSIS.line()],
    "auto": [papers.PSIS.line()],
    "importance": [papers.PSIS.line()],
    "hmc": [papers.HMC.line()],
    "cells": [papers.HMC.line()],
    "pl-mcmc": [papers.PL_MCMC.line()],
    "annealed-langevin": [papers.ANNEALED.line()],
    "annealed-mala": [papers.ANNEALED.line(), papers.MALA.line()],
    "predictor-corrector": [papers.SCORE_SDE.line()],
    "clamped": [papers.HMC.line()],
    "smc": [papers.SMC.line()],
}
_EVALUATION = [papers.SCORES.line("CRPS, energy score"), papers.PPC.line()]


def references(recipe: str, method: str | None) -> list[str]:
    """What to cite for a recipe, a method of imputation, and the evaluation.

    Args:
        recipe: that the program was made by.
        method: of imputation; None where nothing was completed.

    Returns:
        A reference an entry.
    """
    return [*_RECIPES.get(recipe, []), *_METHODS.get(method or "", []), *_EVALUATION]


def citation(program: Any) -> str:
    """What to cite for a program: the papers of its family and of the networks, transforms and laws it is made of.

    Args:
        program: of either engine; of one that holds another program, both count.

    Returns:
        Entries of BibTeX, a blank line between two; authors by their surnames.

    Raises:
        TypeError: no program.
    """
    if not isinstance(program, Program):
        raise TypeError(f"program: got {type(program).__name__}; expected a program. Pass what a constructor returned.")
    found = [paper for family in _families(program) for paper in _FAMILIES.get(family, [])]
    found += [paper for name in _names(program.spec()) for paper in _PARTS.get(name, [])]
    return "\n\n".join(paper.bibtex() for paper in dict.fromkeys(found))


def _families(program: Program) -> Iterator[str]:
    """The family of a program, and those of the programs that it holds."""
    yield program.family
    for field in ("program", "flow"):
        held = getattr(program, field, None)
        if isinstance(held, Program):
            yield from _families(held)


def _names(description: Any) -> Iterator[str]:
    """Every text in a description, however deep."""
    if isinstance(description, str):
        yield description
    elif isinstance(description, dict):
        description = list(description.values())
    if isinstance(description, list | tuple):
        for value in description:
            yield from _names(value)
