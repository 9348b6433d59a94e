"""Overdamped Langevin dynamics, dx = (1/2) M^-1 grad l dt + M^-1/2 dW, in steps of size e = h^2.

Notation: position x, score s(x) = grad l(x) of the log density l, step size h (what a leapfrog step is in Hamiltonian
Monte Carlo, so that one step of it with a fresh momentum is exactly this proposal), root A of the inverse mass, M^-1 =
A A' (see ``metric``). All leading axes are independent of each other; a datum of several axes is flattened first.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen.inference.hmc.hamiltonian import State, select
from deepgen.inference.langevin import acceptance, metric
from deepgen.inference.langevin.acceptance import Info

Evaluate = Callable[[Any], tuple[Any, Any]]


class Noise(NamedTuple):
    """All the randomness of one step."""

    normal: Any
    """(*batch, d) standard normals"""
    accept: Any
    """(*batch) uniforms in [0, 1); a kernel without an acceptance test does not look at them"""


def mean(
    x: Float[Any, "*batch d"], score: Float[Any, "*batch d"], step_size: Any, root: Any | None = None
) -> Float[Any, "*batch d"]:
    """The mean of the proposal: x + (h^2/2) A A' s(x).

    Args:
        x: (*batch, d).
        score: (*batch, d), at x.
        step_size: (*#batch) or a number.
        root: of the inverse mass; None is the identity.

    Returns:
        (*batch, d).
    """
    h = metric.column(step_size)
    return x + 0.5 * h * h * metric.apply(root, metric.apply_transposed(root, score))


def propose(
    x: Float[Any, "*batch d"],
    score: Float[Any, "*batch d"],
    step_size: Any,
    noise: Float[Any, "*batch d"],
    root: Any | None = None,
) -> Float[Any, "*batch d"]:
    """One Euler-Maruyama step: x' = x + (e/2) A A' s(x) + sqrt(e) A noise, with e = h^2.

    Args:
        x: (*batch, d).
        score: (*batch, d), at x.
        step_size: (*#batch) or a number, h.
        noise: (*batch, d) standard normals.
        root: of the inverse mass; None is the identity.

    Returns:
        (*batch, d).

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations"
        (1996).
    """
    return mean(x, score, step_size, root) + metric.column(step_size) * metric.apply(root, noise)


def log_proposal_density(
    x_new: Float[Any, "*batch d"],
    x: Float[Any, "*batch d"],
    score: Float[Any, "*batch d"],
    step_size: Any,
    root: Any | None = None,
) -> Float[Any, "*batch"]:
    """log q(x' | x), the density of ``propose``: N(x'; mean(x), e A A').

    Args:
        x_new: (*batch, d).
        x: (*batch, d).
        score: (*batch, d), at x.
        step_size: (*#batch) or a number, h.
        root: of the inverse mass; None is the identity.

    Returns:
        (*batch) nats.
    """
    xp = array_namespace(x)
    h, d = metric.column(step_size), x.shape[-1]
    z = metric.solve(root, x_new - mean(x, score, step_size, root)) / h
    log_h = math.log(h) if isinstance(h, int | float) else xp.log(h)[..., 0]
    scale = metric.log_determinant(root, x) + d * log_h
    return -0.5 * xp.sum(z * z, axis=-1) - scale - 0.5 * d * math.log(2 * math.pi)


def reverse_noise(
    noise: Float[Any, "*batch d"],
    score: Float[Any, "*batch d"],
    score_new: Float[Any, "*batch d"],
    step_size: Any,
    root: Any | None = None,
) -> Float[Any, "*batch d"]:
    """The noise that would lead back: x = propose(x', s(x'), h, reverse_noise).

    -(noise + (h/2) A' (s(x) + s(x'))): found without dividing by h or A, so it is accurate at any step size.

    Args:
        noise: (*batch, d) that led from x to x'.
        score: (*batch, d), at x.
        score_new: (*batch, d), at x'.
        step_size: (*#batch) or a number, h.
        root: of the inverse mass; None is the identity.

    Returns:
        (*batch, d).
    """
    return -(noise + 0.5 * metric.column(step_size) * metric.apply_transposed(root, score + score_new))


def log_ratio(
    log_density: Float[Any, "*batch"],
    log_density_new: Float[Any, "*batch"],
    noise: Float[Any, "*batch d"],
    noise_back: Float[Any, "*batch d"],
) -> Float[Any, "*batch"]:
    """The log acceptance ratio l(x') + log q(x | x') - l(x) - log q(x' | x), in terms of both ways' noise.

    Args:
        log_density: (*batch), at x.
        log_density_new: (*batch), at x'.
        noise: (*batch, d) that led from x to x'.
        noise_back: (*batch, d) of ``reverse_noise``.

    Returns:
        (*batch) nats.
    """
    xp = array_namespace(noise)
    return log_density_new - log_density + 0.5 * xp.sum((noise - noise_back) * (noise + noise_back), axis=-1)


def ula_step(
    noise: Noise, state: State, evaluate: Evaluate, step_size: Any, root: Any | None = None
) -> tuple[State, Info]:
    """A step of the unadjusted Langevin algorithm: ``propose``, always taken.

    It does not leave exp(l) invariant: for a Gaussian of precision P its stationary covariance is
    (P (I - (e/4) P))^-1 (unit mass), so the variance is too large by a relative error of e P / 4 + O(e^2).

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, score).
        step_size: (*#batch) or a number, h.
        root: of the inverse mass; None is the identity.

    Returns:
        The new state, and what happened.

    References:
        Roberts and Tweedie (1996); Durmus and Moulines, "Nonasymptotic convergence analysis for the unadjusted Langevin
        algorithm" (2017).
    """
    position = propose(state.position, state.gradient, step_size, noise.normal, root)
    value, score = evaluate(position)
    return State(position, value, score), acceptance.unadjusted(value, acceptance.sound(position, score))


def mala_step(
    noise: Noise, state: State, evaluate: Evaluate, step_size: Any, root: Any | None = None
) -> tuple[State, Info]:
    """A step of the Metropolis-adjusted Langevin algorithm: ``propose``, accepted with min(1, exp(log_ratio)).

    It leaves exp(l) invariant at every step size.

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, score).
        step_size: (*#batch) or a number, h.
        root: of the inverse mass; None is the identity.

    Returns:
        The new state, and what happened.

    References:
        Besag, comment on "Representations of knowledge in complex systems" (1994); Roberts and Tweedie (1996).
    """
    position = propose(state.position, state.gradient, step_size, noise.normal, root)
    value, score = evaluate(position)
    back = reverse_noise(noise.normal, state.gradient, score, step_size, root)
    ratio = log_ratio(state.log_density, value, noise.normal, back)
    info = acceptance.metropolis(noise.accept, ratio, acceptance.sound(position, score))
    return select(info.accepted, State(position, value, score), state), info
