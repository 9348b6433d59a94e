"""What a solve refuses before any compute."""

import math
from typing import Any

from deepgen import checks
from deepgen.nn import arguments

SOLVERS = ("dopri5", "dopri8", "bosh3")
"""Embedded Runge-Kutta pairs of orders 5, 8 and 3 that both engines have."""

ADJOINTS = ("direct", "backsolve")
"""Gradients through the steps that were taken, or by a second equation solved backwards."""


def check_solve(
    shape: tuple[int, ...],
    floating: bool,
    t0: Any,
    t1: Any,
    *,
    rtol: Any,
    atol: Any,
    max_steps: Any,
    solver: str,
    adjoint: str,
) -> None:
    """Refuse what a solve cannot use.

    Args:
        shape: of the state.
        floating: whether the state is of floating dtype.
        t0: a finite number.
        t1: another.
        rtol: positive.
        atol: positive.
        max_steps: at least 1.
        solver: one of `SOLVERS`.
        adjoint: one of `ADJOINTS`.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    if not shape or 0 in shape or not floating:
        raise checks.problem(
            "x",
            got=f"shape {tuple(shape)}" if floating else "a dtype that is not floating",
            expected="floating numbers (n, *event), no axis empty",
            fix="Add an axis of rows in front: x[None].",
        )
    times = [isinstance(t, int | float) and math.isfinite(t) for t in (t0, t1)]
    if not all(times) or t0 == t1:
        raise checks.problem(
            "t0 and t1", got=f"{t0} and {t1}", expected="two different finite numbers", fix="Pass e.g. 0.0 and 1.0."
        )
    check_settings(rtol=rtol, atol=atol, max_steps=max_steps, solver=solver, adjoint=adjoint)


def check_settings(*, rtol: Any, atol: Any, max_steps: Any, solver: str, adjoint: str) -> None:
    """Refuse tolerances and methods that no solve has.

    Args:
        rtol: positive.
        atol: positive.
        max_steps: at least 1.
        solver: one of `SOLVERS`.
        adjoint: one of `ADJOINTS`.

    Raises:
        ValueError: naming the argument, what it got and what it needs.
    """
    checks.positive("rtol", rtol)
    checks.positive("atol", atol)
    arguments.whole("max_steps", max_steps)
    checks.one_of("solver", solver, SOLVERS)
    checks.one_of("adjoint", adjoint, ADJOINTS)


def check_field(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a field that does not give a velocity of the state's shape.

    Raises:
        ValueError: with both shapes.
    """
    if tuple(shape) != tuple(expected):
        raise checks.problem(
            "field",
            got=f"a result of shape {tuple(shape)}",
            expected=f"{tuple(expected)}, the shape of the state",
            fix="Return dx/dt for each entry of x.",
        )


def check_probes(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse probes that are not a stack of arrays like the state.

    Raises:
        ValueError: with both shapes.
    """
    if len(shape) != len(expected) + 1 or tuple(shape[1:]) != tuple(expected) or not shape[0]:
        raise checks.problem(
            "probes",
            got=f"shape {tuple(shape)}",
            expected=f"(k, {', '.join(map(str, expected))}) with k >= 1",
            fix="Draw k arrays of the state's shape with mean 0 and variance 1, or pass None for the exact divergence.",
        )
