"""Hamiltonian dynamics of a batch of independent particles, and the test that makes it a Markov kernel.

Notation: position q, momentum p, log density l(q), diagonal inverse mass m (one entry a dimension), step size e.
The energy is H(q, p) = -l(q) + K(p) with K(p) = sum_i m_i p_i^2 / 2. All leading axes are independent of each other.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace
from jaxtyping import Float

MAX_ENERGY_ERROR = 1000.0
"""A trajectory that gains more energy than this (nats) has left the level set: it diverges."""


class State(NamedTuple):
    """Where the chains are. The gradient travels along, so that no step computes it twice."""

    position: Any
    """(*batch, d)"""
    log_density: Any
    """(*batch), nats"""
    gradient: Any
    """(*batch, d), of the log density"""


class Noise(NamedTuple):
    """All the randomness of one step."""

    momentum: Any
    """(*batch, d) standard normals"""
    accept: Any
    """(*batch) uniforms in [0, 1)"""
    length: Any
    """() one uniform in [0, 1), for the length of the trajectory that the whole batch shares"""


class Info(NamedTuple):
    """What happened in one step."""

    accept_prob: Any
    """(*batch)"""
    accepted: Any
    """(*batch) booleans"""
    diverging: Any
    """(*batch) booleans: the energy error is above 1000 nats or not finite; such a proposal is always rejected"""
    energy_error: Any
    """(*batch) H(end) - H(start), nats"""
    num_steps: Any
    """() leapfrog steps taken"""


class Result(NamedTuple):
    """What a run reports beside its draws; everything is over the iterations after the warm-up."""

    accept_prob: Any
    """(*batch) mean acceptance probability"""
    accept_rate: Any
    """(*batch) share of accepted proposals"""
    divergences: Any
    """(*batch) integers, the number of diverging trajectories"""
    step_size: Any
    """(*batch) as adapted"""
    inverse_mass: Any
    """(*batch, d) as adapted"""
    potential_energy: Any
    """(num_samples, *batch) minus the log density of each kept draw, nats"""
    initial_finite: Any
    """(*batch) booleans: False where density or gradient were not finite at the start: such a chain never moves"""
    state: State
    """where the chains stand at the end"""


def momentum(noise: Float[Any, "*batch d"], inverse_mass: Float[Any, "*#batch d"]) -> Float[Any, "*batch d"]:
    """A momentum of the law exp(-K): p = noise / sqrt(m), so p ~ N(0, diag(1/m)).

    Args:
        noise: (*batch, d) standard normals.
        inverse_mass: (*batch, d) positive.

    Returns:
        (*batch, d) momenta.
    """
    xp = array_namespace(noise)
    return noise / xp.sqrt(inverse_mass)


def kinetic_energy(p: Float[Any, "*batch d"], inverse_mass: Float[Any, "*#batch d"]) -> Float[Any, "*batch"]:
    """K(p) = sum_i m_i p_i^2 / 2, without the constant that the mass alone decides.

    Args:
        p: (*batch, d) momenta.
        inverse_mass: (*batch, d) positive.

    Returns:
        (*batch) nats.
    """
    xp = array_namespace(p)
    return 0.5 * xp.sum(inverse_mass * p * p, axis=-1)


def leapfrog(
    value_and_gradient: Callable[[Any], tuple[Any, Any]],
    state: State,
    p: Float[Any, "*batch d"],
    step_size: Float[Any, "*#batch"],
    inverse_mass: Float[Any, "*#batch d"],
) -> tuple[State, Float[Any, "*batch d"]]:
    """One leapfrog (Störmer-Verlet) step: half a kick, a drift, half a kick.

    p' = p + (e/2) grad l(q);  q* = q + e m p';  p* = p' + (e/2) grad l(q*). The map is reversible, keeps volumes, and
    over a fixed time its energy error is O(e^2). It costs one gradient, the one of the start being in the state.

    Args:
        value_and_gradient: position -> (log density, its gradient).
        state: where the step begins.
        p: (*batch, d) momenta.
        step_size: (*batch), each element its own; axes of size 1 are shared.
        inverse_mass: (*batch, d), likewise.

    Returns:
        The state and the momentum at the end.

    References:
        Neal, "MCMC using Hamiltonian dynamics", Handbook of Markov Chain Monte Carlo (2011), section 2.3.
    """
    step = step_size[..., None]
    half = p + 0.5 * step * state.gradient
    position = drift(state.position, half, step, inverse_mass)
    value, gradient = value_and_gradient(position)
    return State(position, value, gradient), half + 0.5 * step * gradient


def drift(
    position: Float[Any, "*batch d"],
    p: Float[Any, "*batch d"],
    step: Float[Any, "*#batch 1"],
    inverse_mass: Float[Any, "*#batch d"],
) -> Float[Any, "*batch d"]:
    """The free flight of a leapfrog step: q + e m p.

    Args:
        position: (*batch, d).
        p: (*batch, d) momenta.
        step: (*batch, 1) step sizes.
        inverse_mass: (*batch, d).

    Returns:
        (*batch, d) new positions.
    """
    return position + step * inverse_mass * p


def trajectory_bounds(num_steps: int, jitter: float) -> tuple[int, int]:
    """The shortest and the longest trajectory, in leapfrog steps: num_steps (1 -+ jitter), at least 1, centred.

    Args:
        num_steps: the mean number of leapfrog steps.
        jitter: between 0 (always num_steps) and 1 (anything from 1 to 2 num_steps - 1).

    Returns:
        (shortest, longest), whose mean is num_steps.
    """
    shortest = max(1, math.ceil(num_steps * (1 - jitter)))
    return shortest, 2 * num_steps - shortest


def trajectory_length(uniform: Any, num_steps: int, jitter: float) -> Any:
    """A number of leapfrog steps, uniform on the integers within ``trajectory_bounds``.

    A fixed length can fall in with a period of the dynamics, and then the chain hardly moves; a random one cannot.

    Args:
        uniform: () in [0, 1).
        num_steps: the mean.
        jitter: in [0, 1].

    Returns:
        () integer.

    References:
        Neal (2011), section 3.2; Bou-Rabee and Sanz-Serna, "Randomized Hamiltonian Monte Carlo" (2017).
    """
    shortest, longest = trajectory_bounds(num_steps, jitter)
    if shortest == longest:
        return num_steps
    xp = array_namespace(uniform)
    length = shortest + xp.astype(xp.floor(uniform * (longest - shortest + 1)), xp.int32)
    # a float32 uniform just below 1 may round up to the bin above the last
    return xp.where(length > longest, xp.asarray(longest, dtype=length.dtype), length)


def metropolis(
    uniform: Float[Any, "*batch"],
    start: State,
    p_start: Float[Any, "*batch d"],
    end: State,
    p_end: Float[Any, "*batch d"],
    inverse_mass: Float[Any, "*#batch d"],
    num_steps: Any,
) -> tuple[State, Info]:
    """Accept the end of a trajectory with probability min(1, exp(H(start) - H(end))), else stay.

    A proposal whose energy error is above 1000 nats or not finite, or whose gradient is not finite, is rejected and
    counted as diverging.

    Args:
        uniform: (*batch) in [0, 1).
        start: the state before.
        p_start: (*batch, d) the momentum before.
        end: the state proposed.
        p_end: (*batch, d) the momentum there.
        inverse_mass: (*batch, d).
        num_steps: the number of leapfrog steps between the two, to be reported.

    Returns:
        The new state, and what happened.

    References:
        Duane, Kennedy, Pendleton and Roweth, "Hybrid Monte Carlo" (1987).
    """
    xp = array_namespace(uniform)
    gained = kinetic_energy(p_end, inverse_mass) - kinetic_energy(p_start, inverse_mass)
    error = start.log_density - end.log_density + gained
    sound = xp.isfinite(error) & xp.all(xp.isfinite(end.gradient), axis=-1)
    diverging = ~sound | (error > MAX_ENERGY_ERROR)
    zero = xp.zeros_like(error)
    accept_prob = xp.where(diverging, zero, xp.exp(xp.where(error > 0, -error, zero)))
    accepted = uniform < accept_prob
    return select(accepted, end, start), Info(accept_prob, accepted, diverging, error, num_steps)


def select(accepted: Any, new: State, old: State) -> State:
    """The new state where accepted, the old one elsewhere.

    Args:
        accepted: (*batch) booleans.
        new: a state.
        old: a state.

    Returns:
        The state chosen element by element.
    """
    xp = array_namespace(new.position)
    return State(
        xp.where(accepted[..., None], new.position, old.position),
        xp.where(accepted, new.log_density, old.log_density),
        xp.where(accepted[..., None], new.gradient, old.gradient),
    )
