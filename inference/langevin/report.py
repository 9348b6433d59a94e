"""What a run of Langevin chains says beside its draws."""

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from deepgen.inference.langevin.acceptance import Info


class Tally(NamedTuple):
    """Sums over the iterations after the warm-up."""

    accept_prob: Any
    accepted: Any
    diverging: Any

    def add(self, info: Info) -> "Tally":
        """One step more."""
        return Tally(
            self.accept_prob + info.accept_prob, self.accepted + info.accepted, self.diverging + info.diverging
        )


def patience(adjusted: bool) -> int:
    """How many steps in a row at which all chains diverge end a run.

    Args:
        adjusted: whether there is an acceptance test; without one the chains are lost at the first such step.

    Returns:
        A number of steps.
    """
    return 100 if adjusted else 1


def in_a_row(before: Any, diverging: Any) -> Any:
    """How many steps in a row, up to the last, all chains diverged.

    Args:
        before: () that number before the last step.
        diverging: (n) booleans of the last step.

    Returns:
        ().
    """
    xp = array_namespace(diverging)
    return (before + 1) * xp.astype(xp.all(diverging), before.dtype)


def kept(adjusted: bool, steps: int, total: int, num_warmup: int, thinning: int) -> int:
    """How many draws there are after so many steps: that at which all chains left for infinity gave none.

    Args:
        adjusted: whether there is an acceptance test.
        steps: that were made.
        total: that were asked for.
        num_warmup: steps of these that learned.
        thinning: steps for each draw.

    Returns:
        A number of draws.
    """
    return max(steps - num_warmup - (steps < total and not adjusted), 0) // thinning


class Result(NamedTuple):
    """What a run reports beside its draws; everything is over the iterations after the warm-up that were made."""

    accept_prob: Any
    """(n) mean acceptance probability; 1 without an acceptance test"""
    accept_rate: Any
    """(n) share of accepted proposals"""
    divergences: Any
    """(n) integers, the number of diverging steps"""
    step_size: Any
    """(n) as adapted"""
    root: Any
    """(n, d) or (n, d, d), n = 1 where shared: the root of the inverse mass, as adapted"""
    potential_energy: Any
    """(num_samples, n) of each kept draw, nats; NaN where there is only a score"""
    initial_finite: Any
    """(n) booleans: False where energy or score were not finite at the start"""
    state: Any
    """where the chains stand at the end"""
