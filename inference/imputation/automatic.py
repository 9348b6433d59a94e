"""The choice of a method from the importance weights of the guide."""

from typing import Any

import numpy as np

from deepgen.inference.imputation import importance
from deepgen.inference.imputation.enumeration import completions
from deepgen.program.sequence import steps

ENOUGH = 100
"""How many effective particles a row needs; half of all where there are fewer than twice as many."""
SHARE = 0.99
"""The share of rows whose weights must be fit for use."""


def judge(
    judged: importance.Weights,
    num_particles: int,
    *,
    discrete: bool = False,
    whose: str = "the guide's",
    ways: tuple[str, str] = ("sir", "mcmc"),
) -> tuple[str, dict[str, Any]]:
    """Resampling where the weights of nearly all rows are fit for use, else chains.

    A row's weights are fit where they are to be trusted (`importance.untrusted`) and amount to ``ENOUGH`` effective
    particles.

    Args:
        judged: the weights of each row's draws from the guide.
        num_particles: how many draws.
        discrete: whether some latent is discrete, along which Hamiltonian Monte Carlo cannot move.
        whose: the weights are, for the sentence that says why.
        ways: the methods that resample and that run chains.

    Returns:
        One of ``ways``, or ``"adaptive-gibbs"`` for a discrete latent, and attributes that say why.
    """
    enough = min(ENOUGH, num_particles / 2)
    fit = ~importance.untrusted(judged, num_particles) & (judged.ess >= enough)
    resampling = bool(fit.mean() >= SHARE)
    chosen = ways[0] if resampling else "adaptive-gibbs" if discrete else ways[1]
    why = (
        f"{whose} importance weights are fit for use in {int(fit.sum())} of {len(fit)} rows "
        f"(median ESS {np.median(judged.ess):.0f} of {num_particles}, largest Pareto k {judged.pareto_k.max():.2f}); "
        f"resampling needs {SHARE:.0%} of rows with a Pareto k of at most {importance.LARGEST_K} and an ESS of "
        f"{enough:.0f}"
    )
    if not resampling and discrete:
        why += "; a discrete latent has no gradient for mcmc"
    said = {
        "chosen": chosen,
        "why": why,
        "share_of_fit_rows": float(fit.mean()),
        "median_ess": float(np.median(judged.ess)),
        "largest_pareto_k": float(judged.pareto_k.max()),
    }
    return chosen, said


def stats(judged: importance.Weights, whose: str = "guide") -> dict[str, Any]:
    """The judged weights, as statistics of chains that took their place.

    Args:
        judged: the weights of each row's draws from the guide.
        whose: the weights are, the first part of the names.

    Returns:
        ``guide_ess`` and ``guide_pareto_k`` with their dimensions.
    """
    return {f"{whose}_ess": (("row",), judged.ess), f"{whose}_pareto_k": (("row",), judged.pareto_k)}


def missing_last(sequence: Any, observed: np.ndarray) -> np.ndarray:
    """The rows (n,) in which, in the order of every member, no entry is observed behind one that is missing.

    Args:
        sequence: the factors of the program, or its mixture of them.
        observed: (n, *event_shape) booleans.
    """
    found = [steps.missing_last(observed, member.order, joint=member.joint()) for member in sequence.members]
    return np.logical_and.reduce(found)


def without_latents(sequence: Any, observed: np.ndarray) -> tuple[str, dict[str, Any]]:
    """The cheapest exact method for data that are decided step by step, else sequential Monte Carlo.

    Args:
        sequence: the factors of the program, or its mixture of them.
        observed: (n, *event_shape) booleans.

    Returns:
        ``"exact"``, ``"enumerate"`` or ``"smc"``, and attributes that say why.
    """
    last = missing_last(sequence, observed)
    if last.all():
        return "exact", {"chosen": "exact", "why": "the missing entries come last in the order of every row"}
    behind = f"{int((~last).sum())} of {len(last)} rows have entries observed behind missing ones"
    values = sequence.values()
    if values is None:
        return "smc", {"chosen": "smc", "why": f"{behind}, and entries are not discrete"}
    most = completions.count(observed, len(values)).max()
    few = most <= completions.MOST
    chosen = "enumerate" if few else "smc"
    said = "at most" if few else "more than"
    why = f"{behind}, and a row has {said} {completions.MOST} completions (the largest number is {most:.3g})"
    return chosen, {"chosen": chosen, "why": why}
