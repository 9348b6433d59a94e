"""What the warm-up learns: a step size for each target by dual averaging, a diagonal mass by running variances.

Elements along the first axis of a batch may be chains of the same target. Pooled, they share what they learn: the axis
is averaged over and kept with size 1. Nothing is learned after the warm-up, so the draws kept are from fixed kernels.
"""

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Bool, Float

FORGETTING = 0.1
"""The weight of the last step in a chain's average: about twenty steps count."""

SMALLEST = 1e-6
"""Below it an acceptance probability is none."""


class DualAveraging(NamedTuple):
    """The state of dual averaging; every field (*batch)."""

    log_step_size: Any
    log_average: Any
    mean_error: Any
    count: Any
    centre: Any


class Moments(NamedTuple):
    """Running count (*batch), mean and sum of squared deviations (*batch, d)."""

    count: Any
    mean: Any
    squares: Any


class Adaptation(NamedTuple):
    """All that the warm-up carries."""

    averaging: DualAveraging
    moments: Moments
    inverse_mass: Any
    lately: Any
    """(*batch), each chain's acceptance probability, averaged over its last steps"""


def dual_averaging(step_size: Float[Any, "*batch"]) -> DualAveraging:
    """Dual averaging at its start: it begins at ``step_size`` and leans towards ten times that.

    Args:
        step_size: (*batch) positive.

    Returns:
        The initial state.
    """
    xp = array_namespace(step_size)
    zero = xp.zeros_like(step_size)
    log_step_size = xp.log(step_size)
    return DualAveraging(log_step_size, zero, zero, zero, log_step_size + float(np.log(10.0)))


def dual_averaging_update(
    state: DualAveraging,
    accept_prob: Float[Any, "*batch"],
    target: Any,
    *,
    gamma: float = 0.05,
    delay: float = 10.0,
    kappa: float = 0.75,
) -> DualAveraging:
    """One update of the log step size towards a target acceptance probability.

    With t the count after this update, h = target - accept_prob and w = 1 / (t + delay):
    H <- (1 - w) H + w h;  log e <- centre - sqrt(t) H / gamma;  log e_avg <- t^-kappa log e + (1 - t^-kappa) log e_avg.

    Args:
        state: the state before.
        accept_prob: (*batch) of the last step.
        target: the acceptance probability to reach.
        gamma: how strongly the step size is drawn to the centre (small: weakly).
        delay: t_0 of the paper, which calms the first updates.
        kappa: in (0.5, 1], how fast the average forgets.

    Returns:
        The state after; ``exp(log_step_size)`` is to be used next, ``exp(log_average)`` after the warm-up.

    References:
        Hoffman and Gelman, "The No-U-Turn sampler" (2014), section 3.2; Nesterov, "Primal-dual subgradient methods for
        convex problems" (2009).
    """
    xp = array_namespace(accept_prob)
    count = state.count + 1
    weight = 1 / (count + delay)
    mean_error = (1 - weight) * state.mean_error + weight * (target - accept_prob)
    log_step_size = state.centre - xp.sqrt(count) / gamma * mean_error
    share = count**-kappa
    log_average = share * log_step_size + (1 - share) * state.log_average
    return DualAveraging(log_step_size, log_average, mean_error, count, state.centre)


def pooled_update(
    state: DualAveraging, lately: Float[Any, "*batch"], accept_prob: Float[Any, "*batch"], target: Any, *, pool: bool
) -> tuple[DualAveraging, Any]:
    """Dual averaging with the acceptance probability of the last step, that of all chains together where pooled.

    Together it is their mean, times how evenly they share it: the harmonic over the arithmetic mean of each chain's
    average over its last steps. Where chains are alike that is near 1. The plain mean would let a chain stand still for
    ever in a region that needs a smaller step than the others; this way the step shrinks until it moves.

    Args:
        state: the state before; where pooled, with a first axis of size 1.
        lately: (*batch) each chain's acceptance probability, averaged over its last steps; 1 at the start.
        accept_prob: (*batch) of the last step.
        target: the acceptance probability to reach.
        pool: whether the first axis holds chains of the same target.

    Returns:
        The state and the averages after.

    References:
        Hoffman, Radul and Sountsov, "An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian Monte Carlo"
        (2021), for harmonic means over chains.
    """
    xp = array_namespace(accept_prob)
    lately = lately + FORGETTING * (accept_prob - lately)
    seen = accept_prob
    if pool:
        harmonic = 1 / xp.mean(1 / xp.clip(lately, min=SMALLEST), axis=0, keepdims=True)
        evenness = harmonic / xp.clip(xp.mean(lately, axis=0, keepdims=True), min=SMALLEST)
        seen = xp.mean(accept_prob, axis=0, keepdims=True) * evenness
    return dual_averaging_update(state, seen, target), lately


def moments_update(moments: Moments, x: Float[Any, "*batch d"], *, pool: bool) -> Moments:
    """Running mean and variance with one more draw of each element (Welford), or of each chain of it (Chan et al.).

    Args:
        moments: the moments before; where pooled, with a first axis of size 1.
        x: (*batch, d) new draws.
        pool: whether the first axis of x holds chains of the same target.

    Returns:
        The moments after.

    References:
        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """
    xp = array_namespace(x)
    new = x.shape[0] if pool else 1
    mean = xp.mean(x, axis=0, keepdims=True) if pool else x
    within = xp.sum((x - mean) ** 2, axis=0, keepdims=True) if pool else xp.zeros_like(x)
    count = moments.count + new
    shift = mean - moments.mean
    share = (new / count)[..., None]
    return Moments(
        count,
        moments.mean + share * shift,
        moments.squares + within + shift * shift * share * moments.count[..., None],
    )


def regularised_variance(moments: Moments) -> Any:
    """The sample variance, drawn towards 1e-3 as if five draws had said so: n/(n+5) s^2 + 5/(n+5) 1e-3.

    Args:
        moments: of at least two draws.

    Returns:
        (*batch, d) positive, an estimate of the inverse mass.

    References:
        Stan Reference Manual, "MCMC sampling: Euclidean metric" (the regularisation that Stan uses).
    """
    count = moments.count[..., None]
    return moments.squares / (count - 1) * (count / (count + 5)) + 1e-3 * 5 / (count + 5)


def rescaled_step_size(
    step_size: Float[Any, "*batch"], old: Float[Any, "*batch d"], new: Float[Any, "*batch d"]
) -> Float[Any, "*batch"]:
    """The step size that is as stable under a new inverse mass as the old one was under the old.

    The leapfrog is stable while e sqrt(m_i) < 2 s_i for every scale s_i. Taking the new inverse mass for the s_i^2,
    the step so far was e max_i sqrt(old_i / new_i) in units of the scale it was widest against; the new mass makes
    all scales 1, so that number is the new step size.

    Args:
        step_size: (*batch).
        old: (*batch, d) the inverse mass so far.
        new: (*batch, d) the inverse mass from now on, the estimated variances.

    Returns:
        (*batch) step sizes.
    """
    xp = array_namespace(step_size)
    return step_size * xp.sqrt(xp.max(old / new, axis=-1))


def adaptation(position: Float[Any, "*batch d"], step_size: Float[Any, "*batch"], *, pool: bool) -> Adaptation:
    """The warm-up at its start: unit mass, the given step size, nothing observed.

    Args:
        position: (*batch, d), for shape, dtype and device.
        step_size: (*batch) positive; where pooled, the chains begin with their mean.
        pool: whether the first axis holds chains of the same target.

    Returns:
        The initial adaptation.
    """
    xp = array_namespace(position)
    shared = xp.zeros_like(position[:1] if pool else position)
    step = xp.mean(step_size, axis=0, keepdims=True) if pool else step_size
    moments = Moments(shared[..., 0], shared, shared)
    return Adaptation(dual_averaging(step), moments, shared + 1, xp.ones_like(step_size))


def adapt_step_size(state: Adaptation, accept_prob: Float[Any, "*batch"], target: Any, *, pool: bool) -> Adaptation:
    """Dual averaging with the acceptance probability of the last step, see ``pooled_update``.

    Args:
        state: the adaptation before.
        accept_prob: (*batch).
        target: the acceptance probability to reach.
        pool: whether the first axis holds chains of the same target.

    Returns:
        The adaptation after.
    """
    averaging, lately = pooled_update(state.averaging, state.lately, accept_prob, target, pool=pool)
    return state._replace(averaging=averaging, lately=lately)


def observe(state: Adaptation, position: Float[Any, "*batch d"], *, pool: bool) -> Adaptation:
    """Add the draws of one iteration to the variances of the current window.

    Args:
        state: the adaptation before.
        position: (*batch, d).
        pool: whether the first axis holds chains of the same target.

    Returns:
        The adaptation after.
    """
    return state._replace(moments=moments_update(state.moments, position, pool=pool))


def close_window(state: Adaptation) -> Adaptation:
    """At the end of a window: take its variances as inverse mass, forget them, begin dual averaging anew.

    Args:
        state: the adaptation before.

    Returns:
        The adaptation after.
    """
    xp = array_namespace(state.inverse_mass)
    inverse_mass = regularised_variance(state.moments)
    step_size = rescaled_step_size(adapted_step_size(state), state.inverse_mass, inverse_mass)
    empty = Moments(*(xp.zeros_like(moment) for moment in state.moments))
    # how chains fared with another mass says nothing of this one
    return Adaptation(dual_averaging(step_size), empty, inverse_mass, xp.ones_like(state.lately))


def adapted_step_size(state: Adaptation) -> Any:
    """The step size to sample with: the average of dual averaging, or the initial one where nothing was learned.

    Args:
        state: the adaptation.

    Returns:
        (*batch) step sizes; the first axis has size 1 where pooled.
    """
    xp = array_namespace(state.inverse_mass)
    averaging = state.averaging
    return xp.exp(xp.where(averaging.count > 0, averaging.log_average, averaging.log_step_size))


def windows(num_warmup: int) -> list[tuple[int, int]]:
    """The windows of the warm-up in which the mass is learned, as (first, end) iterations, end excluded.

    75 iterations first find the typical set, 50 last settle the step size, but at most 15 % and 10 % of the warm-up; in
    between the windows double from 25 on, the last one taking what is left. From 500 iterations on this is Stan's
    schedule; a shorter warm-up has more windows than there, because chains that learn together need less of each. Below
    20 only the step size is learned.

    Args:
        num_warmup: the number of iterations.

    Returns:
        A list of windows, empty where there is none.

    References:
        Stan Reference Manual, "HMC algorithm parameters: automatic parameter tuning".
    """
    if num_warmup < 20:
        return []
    first, last, size = min(75, int(0.15 * num_warmup)), min(50, int(0.1 * num_warmup)), 25
    found, end = [], num_warmup - last
    while first < end:
        stop = first + size if first + 3 * size <= end else end
        found.append((first, stop))
        first, size = stop, 2 * size
    return found


def schedule(num_warmup: int, *, adapt_mass_matrix: bool) -> tuple[Bool[np.ndarray, " t"], Bool[np.ndarray, " t"]]:
    """For each iteration of the warm-up: do its draws count for the mass, and does a window end after it?

    Args:
        num_warmup: the number of iterations.
        adapt_mass_matrix: whether the mass is learned at all.

    Returns:
        (observing, closing), each (num_warmup,) booleans.
    """
    observing, closing = np.zeros(num_warmup, dtype=bool), np.zeros(num_warmup, dtype=bool)
    for start, stop in windows(num_warmup) if adapt_mass_matrix else []:
        observing[start:stop] = True
        closing[stop - 1] = True
    return observing, closing
