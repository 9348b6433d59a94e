"""Schedules of beta, the weight of the KL terms: linear and sigmoid warm-up, and the cyclical schedule.

Each is a pure function of the step, and rises from ``start`` to ``end`` along a ramp r(u) with r(0) = 0, r(1) = 1:

    beta(step) = start + (end - start) r(u)

Bowman et al. 2016, "Generating sentences from a continuous space" (sigmoid warm-up); Sønderby et al. 2016, "Ladder
variational autoencoders" (linear); Fu et al. 2019, "Cyclical annealing schedule: a simple approach to mitigating KL
vanishing".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from deepgen import checks

Schedule = Callable[[Any], Any]
"""From the step, counted from 0 (a Python integer, or an array inside a compiled loop), to a number."""


@dataclass(frozen=True)
class Linear:
    """Linear warm-up: u = min(step / steps, 1), r(u) = u.

    Args:
        steps: how many steps the rise takes.
        start: the value at step 0.
        end: the value from ``steps`` on.

    Raises:
        ValueError: ``steps`` is not positive, or a value is negative.

    >>> beta = Linear(100)
    >>> beta(0), beta(50), beta(1000)
    (0.0, 0.5, 1.0)
    """

    steps: int
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check(self.steps, self.start, self.end)

    def __call__(self, step: Any) -> Any:
        """The value at ``step``."""
        return _rise(self.start, self.end, _progress(step, self.steps))


@dataclass(frozen=True)
class Sigmoid:
    """Sigmoid warm-up: the logistic curve through (1/2, 1/2), stretched so that it starts at 0 and ends at 1 exactly.

    r(u) = (s(u) - s(0)) / (s(1) - s(0)) with s(u) = sigmoid(steepness (u - 1/2)) and u = min(step / steps, 1)

    Args:
        steps: how many steps the rise takes.
        start: the value at step 0.
        end: the value from ``steps`` on.
        steepness: the slope of the logistic curve's argument.

    Raises:
        ValueError: ``steps`` or ``steepness`` is not positive, or a value is negative.

    >>> beta = Sigmoid(100)
    >>> beta(0), beta(50), beta(100)
    (0.0, 0.5, 1.0)
    """

    steps: int
    start: float = 0.0
    end: float = 1.0
    steepness: float = 10.0

    def __post_init__(self) -> None:
        _check(self.steps, self.start, self.end)
        checks.positive("steepness", self.steepness)

    def __call__(self, step: Any) -> Any:
        """The value at ``step``."""
        u = _progress(step, self.steps)
        xp = array_namespace(u) if is_array_api_obj(u) else np
        # sigmoid(2a) = (1 + tanh a) / 2 turns the stretched logistic into this, which is exact at both ends.
        ramp = (1 + xp.tanh(self.steepness / 2 * (u - 0.5)) / float(np.tanh(self.steepness / 4))) / 2
        return _rise(self.start, self.end, ramp if is_array_api_obj(u) else float(ramp))


@dataclass(frozen=True)
class Cyclical:
    """Cyclical annealing: ``cycles`` times a linear rise over a share ``rise`` of the cycle, then flat.

    r(u) = min(u / rise, 1) with u = (step mod L) / L and L = steps / cycles; 1 from ``steps`` on

    Args:
        steps: how many steps all cycles together take.
        cycles: how many cycles (M in the paper).
        rise: the share of a cycle that rises (R in the paper), in (0, 1].
        start: the value at the beginning of each cycle.
        end: the value at the end of each cycle, and from ``steps`` on.

    Raises:
        ValueError: ``steps`` or ``cycles`` is not positive, ``rise`` is outside (0, 1], or a value is negative.

    >>> beta = Cyclical(400, cycles=4)
    >>> beta(0), beta(25), beta(50), beta(99), beta(100), beta(400)
    (0.0, 0.5, 1.0, 1.0, 0.0, 1.0)
    """

    steps: int
    cycles: int = 4
    rise: float = 0.5
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check(self.steps, self.start, self.end)
        checks.positive("cycles", self.cycles)
        if not 0 < self.rise <= 1:
            raise checks.problem(
                "rise", got=self.rise, expected="a share of the cycle in (0, 1]", fix="0.5 is the paper's value."
            )

    def __call__(self, step: Any) -> Any:
        """The value at ``step``."""
        turns = step * self.cycles / self.steps
        if is_array_api_obj(turns):
            xp = array_namespace(turns)
            ramp = xp.minimum((turns - xp.floor(turns)) / self.rise, xp.ones_like(turns))
            ramp = xp.where(turns >= self.cycles, xp.ones_like(turns), ramp)
        else:
            ramp = 1.0 if turns >= self.cycles else min(turns % 1 / self.rise, 1.0)
        return _rise(self.start, self.end, ramp)


def _progress(step: Any, steps: int) -> Any:
    u = step / steps
    return array_namespace(u).clip(u, 0.0, 1.0) if is_array_api_obj(u) else min(max(u, 0.0), 1.0)


def _rise(start: float, end: float, ramp: Any) -> Any:
    return start + (end - start) * ramp


def _check(steps: int, start: float, end: float) -> None:
    checks.positive("steps", steps)
    checks.positive("start", start, zero=True)
    checks.positive("end", end, zero=True)
