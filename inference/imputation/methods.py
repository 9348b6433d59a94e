"""The ways to impute: what each takes, and what law its draws have."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from deepgen import checks

STARTS = 32
"""How many draws from the guide compete for the start of a chain."""


class Method(NamedTuple):
    """A way to impute.

    Attributes:
        title: what it is.
        law: ``"exact"``, ``"asymptotically exact"`` or ``"approximate"``.
        options: its options and their defaults.
    """

    title: str
    law: str
    options: Mapping[str, int]


METHODS = {
    "mcmc": Method(
        "Hamiltonian Monte Carlo over the latents given the observed entries, then the missing entries given them",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8},
    ),
    "sir": Method(
        "sampling importance resampling of the latents from the guide, then the missing entries given them",
        "asymptotically exact",
        {"num_samples": 1000, "num_particles": 2000},
    ),
    "gibbs": Method(
        "Metropolis-within-Gibbs: latents proposed by the guide of the completed row, then the missing entries",
        "asymptotically exact",
        {"num_samples": 500, "num_warmup": 500, "num_chains": 4},
    ),
    "pseudo-gibbs": Method(
        "pseudo-Gibbs: latents from the guide of the completed row, without correction, then the missing entries",
        "approximate",
        {"num_samples": 500, "num_warmup": 500, "num_chains": 4},
    ),
    "adaptive-gibbs": Method(
        "adaptive collapsed Metropolis-within-Gibbs: latents proposed by the guide of earlier imputations or the prior",
        "asymptotically exact",
        {"num_samples": 500, "num_warmup": 500, "num_chains": 4},
    ),
    "lair": Method(
        "latent-adaptive importance resampling of the latents from the guide of imputations, and the prior",
        "asymptotically exact",
        {"num_samples": 1000, "num_particles": 2000, "num_chains": 9},
    ),
    "auto": Method(
        "sampling importance resampling where the guide's weights allow it, else chains",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8, "num_particles": 2000},
    ),
    "predictor-corrector": Method(
        "down a ladder of noise by reverse diffusion and Langevin steps, the observed entries noised to each level",
        "approximate",
        {"num_samples": 100, "num_chains": 4, "num_steps": 200},
    ),
    "annealed-langevin": Method(
        "down a ladder of noise by Langevin steps, the observed entries noised to each level",
        "approximate",
        {"num_samples": 100, "num_chains": 4, "num_steps": 100},
    ),
    "annealed-mala": Method(
        "down a ladder of noise by Langevin steps, then Metropolis-adjusted ones with the observed entries clamped",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 100},
    ),
    "exact": Method(
        "ancestral sampling of the missing entries, which come last in the order, given the observed ones",
        "exact",
        {"num_samples": 250, "num_chains": 4},
    ),
    "smc": Method(
        "sequential Monte Carlo in the order of the program, the observed entries as evidence",
        "asymptotically exact",
        {"num_samples": 250, "num_chains": 4, "num_particles": 1000},
    ),
    "enumerate": Method(
        "every completion of discrete missing entries weighed by its exact probability",
        "exact",
        {"num_samples": 250, "num_chains": 4},
    ),
    "hmc": Method(
        "Hamiltonian Monte Carlo on the missing entries, the observed ones clamped",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8},
    ),
    "cells": Method(
        "Hamiltonian Monte Carlo on the missing numbers and the observed ones within their cells, then rounded",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8},
    ),
    "pl-mcmc": Method(
        "projected latent Markov chain Monte Carlo: steps in the base, projected back onto the observed entries",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8},
    ),
    "importance": Method(
        "importance resampling of completions drawn near the program's own draws",
        "asymptotically exact",
        {"num_samples": 1000, "num_particles": 2000},
    ),
    "observed-first": Method(
        "ancestral sampling in random orders of the missing entries, the observed ones taken as decided first",
        "exact",
        {"num_samples": 250, "num_chains": 4},
    ),
    "clamped": Method(
        "Markov chains of the program's own kernel over the missing entries, the observed ones clamped",
        "asymptotically exact",
        {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8},
    ),
    "nuts": Method(
        "the No-U-Turn sampler over the model's latents and the missing entries together",
        "asymptotically exact",
        {"num_samples": 500, "num_warmup": 500, "num_chains": 4},
    ),
}


AUTO_WITHOUT_LATENTS = Method(
    "the program's own draws or an enumeration where they are exact, else sequential Monte Carlo",
    "asymptotically exact",
    {"num_samples": 250, "num_chains": 4, "num_particles": 1000},
)
AUTO_INVERTIBLE = Method(
    "importance resampling of completions where their weights allow it, else Hamiltonian Monte Carlo from them",
    "asymptotically exact",
    {"num_samples": 250, "num_warmup": 250, "num_chains": 4, "num_steps": 8, "num_particles": 2000},
)


def described(name: str, offered: tuple[str, ...]) -> Method:
    """What a method is for a program that offers these."""
    others = {"smc": AUTO_WITHOUT_LATENTS, "importance": AUTO_INVERTIBLE}
    return next((others[way] for way in offered if name == "auto" and way in others), METHODS[name])


def choose(method: str | None, offered: tuple[str, ...], given: Mapping[str, int | None]) -> tuple[str, dict[str, int]]:
    """The method, and its options with the defaults filled in.

    Args:
        method: the user's choice, or None for the first that is offered.
        offered: what the program can do.
        given: option to the user's value, None where there is none.

    Returns:
        The method's name and its options.

    Raises:
        ValueError: a method that the program does not offer, an option that the method does not use, or one that is not
            positive.
    """
    if not offered:
        raise checks.problem(
            "program",
            got="one whose family has no way to impute",
            expected="a program whose `imputers` name at least one",
            fix="Clamp what is known with sample(..., given=x), where the program takes that, or take another family.",
        )
    name = offered[0] if method is None else method
    checks.one_of("method", name, offered)
    options = dict(described(name, offered).options)
    for option, value in given.items():
        if value is None:
            continue
        if option not in options:
            raise checks.problem(
                option, got=value, expected=f"no such option for method={name!r}", fix=f"It takes {sorted(options)}."
            )
        checks.at_least(option, value, 0 if option == "num_warmup" else 1)
        options[option] = int(value)
    return name, options


def refuse_model_arguments(model_args: Any, model_kwargs: Any) -> None:
    """Refuse arguments for a plain model where a program was passed, whose model takes x alone.

    Raises:
        ValueError: there are some.
    """
    if model_args or model_kwargs:
        raise checks.problem(
            "model_args, model_kwargs",
            got=f"{model_args!r}, {model_kwargs!r}",
            expected="none with a program",
            fix="They belong to a plain model: pass program.model instead, or leave them out.",
        )


def refuse_discrete(site: str, discrete: bool) -> None:
    """Refuse a discrete latent, along which there is no gradient.

    Raises:
        ValueError: it is discrete.
    """
    if discrete:
        raise checks.problem(
            f"latent {site!r}",
            got="a discrete law",
            expected="a continuous one for method='mcmc'",
            fix="Use method='sir' or method='adaptive-gibbs'.",
        )
