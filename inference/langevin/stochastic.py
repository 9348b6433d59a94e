"""Stochastic gradient Langevin dynamics: unadjusted steps whose gradient is an estimate from a mini-batch.

Notation as in ``overdamped``. The gradient in a state is the estimate made when the state was reached and is used once,
so each step has a mini-batch of its own.
"""

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from deepgen.inference.langevin import acceptance, schedules
from deepgen.inference.langevin.acceptance import Info
from deepgen.inference.langevin.overdamped import Evaluate, Noise, propose


class State(NamedTuple):
    """Where the chains are."""

    position: Any
    """(*batch, d)"""
    log_density: Any
    """(*batch), nats, the estimate"""
    gradient: Any
    """(*batch, d), the estimate"""
    mean_square: Any
    """(*batch, d) running mean of the squared gradients"""
    count: Any
    """(*batch) steps taken"""


def begin(position: Any, log_density: Any, gradient: Any, *, scale: float = 1.0) -> State:
    """The state at the start: the running mean of squares is the first gradient's.

    Args:
        position: (*batch, d).
        log_density: (*batch).
        gradient: (*batch, d).
        scale: what gradients are divided by in the mean of squares.

    Returns:
        The state.
    """
    xp = array_namespace(position)
    return State(position, log_density, gradient, (gradient / scale) ** 2, xp.zeros_like(log_density))


def sgld_step(
    noise: Noise, state: State, evaluate: Evaluate, step_size: Any, *, delay: float = 1.0, power: float = 0.55
) -> tuple[State, Info]:
    """A step of stochastic gradient Langevin dynamics, ``overdamped.propose`` with h_t of ``schedules.polynomial``.

    It does not leave exp(l) invariant; the bias vanishes as the steps decay.

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, score), each call estimated anew.
        step_size: (*#batch) or a number, h at the first step.
        delay: of the schedule.
        power: of the schedule; 0 keeps the step.

    Returns:
        The new state, and what happened.

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics" (2011).
    """
    h = schedules.polynomial(state.count, step_size, delay=delay, power=power)
    x = propose(state.position, state.gradient, h, noise.normal)
    value, score = evaluate(x)
    new = State(x, value, score, state.mean_square, state.count + 1)
    return new, acceptance.unadjusted(value, acceptance.sound(x, score))


def psgld_step(
    noise: Noise,
    state: State,
    evaluate: Evaluate,
    step_size: Any,
    *,
    delay: float = 1.0,
    power: float = 0.55,
    decay: float = 0.99,
    damping: float = 1e-5,
    scale: float = 1.0,
) -> tuple[State, Info]:
    """``sgld_step`` with the RMSprop preconditioner G of ``schedules.rmsprop_root``.

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, score), each call estimated anew.
        step_size: (*#batch) or a number, h at the first step.
        delay: of the schedule.
        power: of the schedule; 0 keeps the step.
        decay: of the running mean of squares.
        damping: added to the root of it.
        scale: what gradients are divided by in the mean of squares: the number of data.

    Returns:
        The new state, and what happened.

    References:
        Li, Chen, Carlson and Carin, "Preconditioned stochastic gradient Langevin dynamics for deep neural networks"
        (2016).
    """
    h = schedules.polynomial(state.count, step_size, delay=delay, power=power)
    root = schedules.rmsprop_root(state.mean_square, damping=damping)
    x = propose(state.position, state.gradient, h, noise.normal, root)
    value, score = evaluate(x)
    average = schedules.mean_square(state.mean_square, score, decay=decay, scale=scale)
    return State(x, value, score, average, state.count + 1), acceptance.unadjusted(value, acceptance.sound(x, score))
