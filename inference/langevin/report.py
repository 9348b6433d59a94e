"""What a run of Langevin chains says beside its draws."""

from typing import Any, NamedTuple

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


class Result(NamedTuple):
    """What a run reports beside its draws; everything is over the iterations after the warm-up."""

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
