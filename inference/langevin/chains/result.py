"""Chains as ``arviz.InferenceData``."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
        stats: names of ``STATS``, or of extra fields -> (chain, draw, ...).
        kernel: its name.
        law: "asymptotically exact" or "approximate".

    Returns:
        Groups ``posterior`` and ``sample_stats``.
    """
    import arviz as az

    named = {STATS.get(name, name): -value if name == "potential_energy" else value for name, value in stats.items()}
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


def check_fields(state: Any, names: Sequence[str], num_chains: int) -> None:
    """Refuse extra fields that a state does not have, or that are not arrays of all chains.

    Args:
        state: of a kernel.
        names: of fields, with dots for fields of fields.
        num_chains: how many chains it is of.

    Raises:
        ValueError: naming the first such field.
    """
    for name in names:
        value = state
        for part in name.split("."):
            value = getattr(value, part, None)
        if tuple(getattr(value, "shape", ()))[:1] != (num_chains,):
            has = [field for field, found in state._asdict().items() if hasattr(found, "shape")]
            raise checks.problem(
                "extra_fields",
                got=f"{name!r}",
                expected=f"fields of the state with an axis of chains, such as {', '.join(has)}",
                fix="Write a field of a field with a dot: 'chain.gradient'.",
            )
