"""Underdamped Langevin dynamics: dx = A v dt, dv = A' grad l dt - g v dt + sqrt(2 g) dW.

Notation: position x, velocity v (whitened: its law is N(0, I) whatever the mass), score s = grad l of the log density
l, root A of the inverse mass (see ``metric``), friction g in units of inverse time, step size h, a leapfrog step. The
invariant law is exp(l(x) - |v|^2/2). All leading axes are independent of each other.
"""

from typing import Any, NamedTuple

from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen.inference.langevin import acceptance, metric
from deepgen.inference.langevin.acceptance import Info
from deepgen.inference.langevin.overdamped import Evaluate


class State(NamedTuple):
    """Where the chains are, and how they move."""

    position: Any
    """(*batch, d)"""
    log_density: Any
    """(*batch), nats"""
    gradient: Any
    """(*batch, d), of the log density"""
    velocity: Any
    """(*batch, d), standard normal where the chain is stationary"""


class Noise(NamedTuple):
    """All the randomness of one step."""

    normal: Any
    """(*batch, k, d) standard normals: k = 1 for BAOAB, 2 for each OBABO step of a trajectory"""
    accept: Any
    """(*batch) uniforms in [0, 1); BAOAB does not look at them"""


def kick(
    v: Float[Any, "*batch d"], score: Float[Any, "*batch d"], time: Any, root: Any | None = None
) -> Float[Any, "*batch d"]:
    """B: the force for a time, v + t A' s.

    Args:
        v: (*batch, d).
        score: (*batch, d).
        time: (*#batch) or a number.
        root: of the inverse mass; None is the identity.

    Returns:
        (*batch, d).
    """
    return v + metric.column(time) * metric.apply_transposed(root, score)


def drift(
    x: Float[Any, "*batch d"], v: Float[Any, "*batch d"], time: Any, root: Any | None = None
) -> Float[Any, "*batch d"]:
    """A: free flight for a time, x + t A v.

    Args:
        x: (*batch, d).
        v: (*batch, d).
        time: (*#batch) or a number.
        root: of the inverse mass; None is the identity.

    Returns:
        (*batch, d).
    """
    return x + metric.column(time) * metric.apply(root, v)


def refresh(
    v: Float[Any, "*batch d"], noise: Float[Any, "*batch d"], time: Any, friction: Any
) -> Float[Any, "*batch d"]:
    """O: friction and noise for a time, exactly: c v + sqrt(1 - c^2) noise with c = exp(-g t).

    Args:
        v: (*batch, d).
        noise: (*batch, d) standard normals.
        time: (*#batch) or a number.
        friction: g >= 0, a number; infinity draws the velocity anew.

    Returns:
        (*batch, d).
    """
    xp = array_namespace(v)
    elapsed = metric.column(xp.zeros_like(v[..., 0]) + time)
    c = xp.exp(-friction * elapsed)
    return c * v + xp.sqrt(1 - c * c) * noise


def baoab_step(
    noise: Noise, state: State, evaluate: Evaluate, step_size: Any, root: Any | None = None, friction: float = 1.0
) -> tuple[State, Info]:
    """A step of BAOAB: half a kick, half a flight, refreshment, half a flight, half a kick. Always taken.

    Its error in the stationary law of x is O(h^2) in general, and for a Gaussian nil as long as h is stable. It costs
    one gradient.

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, score).
        step_size: (*#batch) or a number, h.
        root: of the inverse mass; None is the identity.
        friction: g.

    Returns:
        The new state, and what happened.

    References:
        Leimkuhler and Matthews, "Rational construction of stochastic numerical methods for molecular sampling" (2013).
    """
    half = 0.5 * step_size
    v = kick(state.velocity, state.gradient, half, root)
    x = drift(state.position, v, half, root)
    v = refresh(v, noise.normal[..., 0, :], step_size, friction)
    x = drift(x, v, half, root)
    value, score = evaluate(x)
    v = kick(v, score, half, root)
    return State(x, value, score, v), acceptance.unadjusted(value, acceptance.sound(x, score))


def energy(log_density: Float[Any, "*batch"], v: Float[Any, "*batch d"]) -> Float[Any, "*batch"]:
    """-l(x) + |v|^2 / 2.

    Args:
        log_density: (*batch), at x.
        v: (*batch, d).

    Returns:
        (*batch) nats.
    """
    xp = array_namespace(v)
    return 0.5 * xp.sum(v * v, axis=-1) - log_density


def flip(accepted: Any, new: State, old: State) -> State:
    """The new state where accepted; elsewhere the old one with its velocity turned round.

    Args:
        accepted: (*batch) booleans.
        new: the proposal.
        old: where it began.

    Returns:
        The state chosen element by element.
    """
    xp = array_namespace(new.position)
    wide = accepted[..., None]
    return State(
        xp.where(wide, new.position, old.position),
        xp.where(accepted, new.log_density, old.log_density),
        xp.where(wide, new.gradient, old.gradient),
        xp.where(wide, new.velocity, -old.velocity),
    )


def obabo_step(
    noise: Noise, state: State, evaluate: Evaluate, step_size: Any, root: Any | None = None, friction: float = 1.0
) -> tuple[State, Info]:
    """A trajectory of OBABO steps, accepted as a whole, else left with the velocity turned round.

    Each step is: refreshment for h/2, a leapfrog step, refreshment for h/2. The refreshments keep exp(-|v|^2/2) in
    balance, so only the leapfrog steps' energy errors count: accepted with min(1, exp(-sum of errors)). The kernel
    leaves exp(l(x) - |v|^2/2) invariant at every step size; without the turn it would not. With one step it is
    Horowitz's guided Monte Carlo, with more the trajectories of Riou-Durand and Vogrinc, whose velocity goes on. It
    costs one gradient a step.

    Args:
        noise: of one trajectory; two normals a step, so their number says how many steps there are.
        state: where the trajectory begins.
        evaluate: position -> (log density, score).
        step_size: (*#batch) or a number, h.
        root: of the inverse mass; None is the identity.
        friction: g.

    Returns:
        The new state, and what happened.

    References:
        Horowitz, "A generalized guided Monte Carlo algorithm" (1991); Riou-Durand and Vogrinc, "Metropolis adjusted
        Langevin trajectories: a robust alternative to Hamiltonian Monte Carlo" (2022).
    """
    xp = array_namespace(state.position)
    half, error, fine = 0.5 * step_size, xp.zeros_like(state.log_density), xp.isfinite(state.log_density)
    x, value, score, v = state
    for k in range(noise.normal.shape[-2] // 2):
        v = refresh(v, noise.normal[..., 2 * k, :], half, friction)
        before = energy(value, v)
        v = kick(v, score, half, root)
        x = drift(x, v, step_size, root)
        value, score = evaluate(x)
        v = kick(v, score, half, root)
        error = error + energy(value, v) - before
        fine = fine & acceptance.sound(x, score)
        v = refresh(v, noise.normal[..., 2 * k + 1, :], half, friction)
    info = acceptance.metropolis(noise.accept, -error, fine)
    return flip(info.accepted, State(x, value, score, v), state), info
