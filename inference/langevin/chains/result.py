"""Chains as ``arviz.InferenceData``."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from deepgen import checks

if TYPE_CHECKING:
    import arviz

STATS = {
    "potential_energy": "lp",
    "accept_prob": "acceptance_rate",
    "diverging": "diverging",
    "step_size": "step_size",
    "energy_error": "energy_error",
}
"""The fields of a state that are kept, and ArviZ's names for them."""


def inference_data(
    draws: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray], *, kernel: str, law: str
) -> "arviz.InferenceData":
    """Draws and statistics with their attributes.

    Args:
        draws: name -> (chain, draw, ...).
        stats: names of ``STATS`` -> (chain, draw).
        kernel: its name.
        law: "asymptotically exact" or "approximate".

    Returns:
        Groups ``posterior`` and ``sample_stats``.
    """
    import arviz as az

    named = {STATS[name]: -value if name == "potential_energy" else value for name, value in stats.items()}
    attrs = {"inference_library": "deepgen", "kernel": kernel, "law": law}
    with warnings.catch_warnings():
        # many short chains are what vectorised chains are for
        warnings.filterwarnings("ignore", message="More chains", category=UserWarning)
        return az.from_dict(posterior=dict(draws), sample_stats=named, posterior_attrs=attrs, attrs=attrs)


def check_counts(*, num_warmup: int, num_samples: int, num_chains: int, thinning: int) -> None:
    """Refuse numbers of iterations that are none.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    for name, value, least in [
        ("num_warmup", num_warmup, 0),
        ("num_samples", num_samples, 1),
        ("num_chains", num_chains, 1),
        ("thinning", thinning, 1),
    ]:
        checks.at_least(name, value, least)


def check_draws(left: int, steps: int) -> None:
    """Refuse to give a result without draws.

    Args:
        left: how many draws there are.
        steps: how many steps were made.

    Raises:
        ValueError: there are none.
    """
    if left == 0:
        raise checks.problem(
            "step_size",
            got=f"one with which all chains diverged before a draw was kept, after {steps} steps",
            expected="one with which the chains stay finite and move",
            fix="Make it smaller by a factor of 3, or scale the variables to similar spreads.",
        )
