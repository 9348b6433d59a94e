"""Schedules of beta: their ends, their shape, inside a compiled loop; what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepgen.inference.svi import schedules

SCHEDULES = [schedules.Linear, schedules.Sigmoid, schedules.Cyclical]


@pytest.mark.parametrize("kind", SCHEDULES)
@given(steps=st.integers(1, 10_000), step=st.integers(0, 20_000), ends=st.tuples(st.floats(0, 2), st.floats(0, 2)))
def test_schedules_stay_between_their_ends(kind: Any, steps: int, step: int, ends: tuple[float, float]) -> None:
    start, end = ends
    schedule = kind(steps, start=start, end=end)
    assert schedule(0) == start
    assert schedule(steps) == pytest.approx(end, abs=1e-12)
    assert min(ends) - 1e-12 <= schedule(step) <= max(ends) + 1e-12
    if kind is not schedules.Cyclical:
        assert (schedule(step + 1) - schedule(step)) * (end - start) >= -1e-12


@pytest.mark.parametrize(
    "schedule", [schedules.Linear(7), schedules.Sigmoid(7), schedules.Cyclical(21, cycles=3, rise=0.6)]
)
def test_schedules_are_the_same_in_a_compiled_loop(schedule: Any) -> None:
    steps = range(0, 30, 2)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), [schedule(step) for step in steps], atol=2e-6
    )


def test_sigmoid_is_the_stretched_logistic_curve() -> None:
    def logistic(u: float) -> float:
        return 1 / (1 + np.exp(-8 * (u - 0.5)))

    for step in range(11):
        expected = (logistic(step / 10) - logistic(0)) / (logistic(1) - logistic(0))
        assert schedules.Sigmoid(10, steepness=8.0)(step) == pytest.approx(expected, abs=1e-12)


def test_cycles_repeat() -> None:
    beta = schedules.Cyclical(100, cycles=4, rise=0.5)
    values = [beta(step) for step in (0, 5, 12.5, 20, 25, 30, 75, 99, 100, 500)]
    assert values == pytest.approx([0, 0.4, 1, 1, 0, 0.4, 0, 1, 1, 1])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_bad_schedules_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="steps: got 0"):
        kind(0)
    with pytest.raises(ValueError, match="end: got -1"):
        kind(10, end=-1.0)
    with pytest.raises(ValueError, match="start: got inf"):
        kind(10, start=float("inf"))


def test_bad_options_of_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="steepness: got 0"):
        schedules.Sigmoid(10, steepness=0.0)
    with pytest.raises(ValueError, match="cycles: got 0"):
        schedules.Cyclical(10, cycles=0)
    with pytest.raises(ValueError, match=r"rise: got 1\.5"):
        schedules.Cyclical(10, rise=1.5)
