"""Lockstep Hamiltonian Monte Carlo in JAX: pure steps, and runs that are compiled once for all chains and rows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree
from tqdm import tqdm

from deepgen import checks
from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.hmc import hamiltonian
from deepgen.inference.hmc.arguments import check_finite, check_log_density, check_run, check_step_size
from deepgen.inference.hmc.hamiltonian import Info, Noise, Result, State

__all__ = ["Info", "Noise", "Result", "State", "draw_noise", "init", "run", "run_with_noise", "step", "step_with_noise"]

CHUNKS = 50
"""How often a progress bar moves in a run."""

Key = Array
Collect = Callable[[Any, Array], PyTree]
Stores = tuple[PyTree, Array]


def init(log_density: Callable[[Array], Array], position: Float[Array, "*batch d"]) -> State:
    """The state at a position: its log density and gradient.

    Args:
        log_density: (*batch, d) -> (*batch), nats; each element's value may depend on its own position only.
        position: (*batch, d).

    Returns:
        The state.

    Raises:
        ValueError: where the log density does not return one number an element.
    """
    return State(position, *_evaluate(log_density, position))


def draw_noise(rng_key: Key, position: Float[Array, "*batch d"]) -> Noise:
    """The randomness of one step.

    Args:
        rng_key: a JAX key.
        position: (*batch, d), for its shape and dtype.

    Returns:
        Normals for the momentum, uniforms for acceptance, one uniform for the length.
    """
    # one flat draw for all: in a loop XLA on CPU takes about a second to compile each draw of several axes
    size, batch, dtype = math.prod(position.shape), position.shape[:-1], position.dtype
    lowest = float(jnp.finfo(dtype).epsneg) - 1
    symmetric = jax.random.uniform(rng_key, (size + math.prod(batch) + 1,), dtype, lowest, 1.0)
    uniform = (symmetric[size:] + 1) / 2
    normal = math.sqrt(2) * lax.erf_inv(symmetric[:size])
    return Noise(normal.reshape(position.shape), uniform[:-1].reshape(batch), uniform[-1])


def step_with_noise(
    noise: Noise,
    state: State,
    log_density: Callable[[Array], Array],
    step_size: Float[Array, "*#batch"],
    inverse_mass: Float[Array, "*#batch d"],
    num_steps: int,
    jitter: float = 0.5,
) -> tuple[State, Info]:
    """One step of Hamiltonian Monte Carlo as a function of its noise.

    Args:
        noise: of ``draw_noise``.
        state: of ``init`` or of the step before.
        log_density: (*batch, d) -> (*batch), nats.
        step_size: (*batch), of the leapfrog; axes of size 1 are shared.
        inverse_mass: (*batch, d), likewise.
        num_steps: the mean number of leapfrog steps; each costs one gradient.
        jitter: 0 for always ``num_steps``, 1 for anything from 1 to 2 num_steps - 1, uniformly.

    Returns:
        The new state, and what happened.
    """
    p = hamiltonian.momentum(noise.momentum, inverse_mass)
    length = hamiltonian.trajectory_length(noise.length, num_steps, jitter)

    def leap(_: Any, carry: tuple[State, Array]) -> tuple[State, Array]:
        return hamiltonian.leapfrog(lambda q: _evaluate(log_density, q), *carry, step_size, inverse_mass)

    end, p_end = lax.fori_loop(0, length, leap, (state, p))
    return hamiltonian.metropolis(noise.accept, state, p, end, p_end, inverse_mass, jnp.asarray(length))


def step(
    rng_key: Key,
    state: State,
    log_density: Callable[[Array], Array],
    step_size: Float[Array, "*#batch"],
    inverse_mass: Float[Array, "*#batch d"],
    num_steps: int,
    jitter: float = 0.5,
) -> tuple[State, Info]:
    """One step of Hamiltonian Monte Carlo: leaves the law exp(log_density) of every element invariant.

    Args:
        rng_key: a JAX key.
        state: of ``init`` or of the step before.
        log_density: (*batch, d) -> (*batch), nats.
        step_size: (*batch), of the leapfrog; axes of size 1 are shared.
        inverse_mass: (*batch, d), likewise.
        num_steps: the mean number of leapfrog steps.
        jitter: as in ``step_with_noise``.

    Returns:
        The new state, and what happened.
    """
    noise = draw_noise(rng_key, state.position)
    return step_with_noise(noise, state, log_density, step_size, inverse_mass, num_steps, jitter)


def run_with_noise(
    noise_at: Callable[[Any], Noise],
    log_density: Callable[[Array], Array],
    position: Array,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int = 8,
    jitter: float = 0.5,
    step_size: Any = 0.1,
    target_accept_prob: float = 0.8,
    thinning: int = 1,
    adapt_mass_matrix: bool = True,
    pool_chains: bool = True,
    collect: Callable[[Any, Array], PyTree] | None = None,
    progress: bool | None = None,
) -> tuple[PyTree, Result]:
    """``run`` as a function of its noise.

    Args:
        noise_at: iteration (counted from 0, warm-up first) -> the noise of that step.
        log_density: as in ``run``.
        position: as in ``run``.
        num_warmup: as in ``run``.
        num_samples: as in ``run``.
        num_steps: as in ``run``.
        jitter: as in ``run``.
        step_size: as in ``run``.
        target_accept_prob: as in ``run``.
        thinning: as in ``run``.
        adapt_mass_matrix: as in ``run``.
        pool_chains: as in ``run``.
        collect: (number of the kept draw, its position) -> what to keep of it.
        progress: as in ``run``.

    Returns:
        As ``run``.

    Raises:
        ValueError: as ``run``.
    """
    check_run(
        position.shape,
        jnp.issubdtype(position.dtype, jnp.floating),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_steps=num_steps,
        jitter=jitter,
        target_accept_prob=target_accept_prob,
        thinning=thinning,
    )
    if not isinstance(step_size, jax.core.Tracer):
        check_step_size(np.asarray(step_size), position.shape[:-1])
    steps = jnp.asarray(step_size, position.dtype)
    inside_jit = isinstance(jnp.zeros(()), jax.core.Tracer)
    if inside_jit and progress:
        raise checks.problem(
            "progress", got="True inside jit", expected="False or None", fix="Call run outside of jit to see a bar."
        )
    begin, advance, report = (_begin, _advance, _report) if inside_jit else _compiled
    kernel = _Kernel(noise_at, log_density, num_steps, jitter, pool_chains and num_warmup > 0)
    collector: Collect = _position if collect is None else collect
    finite, so_far, stores = begin(kernel, collector, position, steps, num_samples)
    if not isinstance(finite, jax.core.Tracer):
        check_finite(np.asarray(finite))

    observing, closing = adapting.schedule(num_warmup, adapt_mass_matrix=adapt_mass_matrix)
    target = jnp.asarray(target_accept_prob, position.dtype)
    plan = _Plan(jnp.asarray(observing), jnp.asarray(closing), target, jnp.asarray(thinning))
    total = num_warmup + num_samples * thinning
    hidden = True if inside_jit else None if progress is None else not progress
    with tqdm(total=total, disable=hidden, unit="step", desc="HMC") as bar:
        size = total if bar.disable else -(-total // CHUNKS)
        for start in range(0, total, size):
            stop = min(start + size, total)
            span = jnp.asarray(start), jnp.asarray(stop)
            so_far, stores = advance((kernel, collector, plan, span, so_far), stores)
            if not bar.disable:
                jax.block_until_ready(so_far)
                bar.update(stop - start)
    draws, potential_energy = stores
    return draws, report(so_far, num_samples * thinning, potential_energy, finite)


def run(
    rng_key: Key,
    log_density: Callable[[Array], Array],
    position: Array,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int = 8,
    jitter: float = 0.5,
    step_size: Any = 0.1,
    target_accept_prob: float = 0.8,
    thinning: int = 1,
    adapt_mass_matrix: bool = True,
    pool_chains: bool = True,
    collect: Callable[[Key, Array], PyTree] | None = None,
    progress: bool | None = None,
) -> tuple[PyTree, Result]:
    """Draws from many independent targets at once, by Hamiltonian Monte Carlo in lockstep.

    Every element of the batch has its own target, step size and diagonal mass; the length of the trajectory is drawn
    anew each iteration and shared. The step sizes and masses are learned in the warm-up and fixed after it, so what is
    kept comes from kernels that leave exp(log_density) invariant.

    Outside of ``jit`` the loops are compiled here, and compiled again only for other shapes, other settings or another
    ``log_density``. One that is a pytree (an ``equinox.Module``, ``equinox.Partial(f, *arrays)``) may change its arrays
    freely. ``run`` may also be called inside ``jit``; then there is no bar, and a bad start is not refused but reported
    in ``Result.initial_finite``.

    Args:
        rng_key: a JAX key.
        log_density: (chains, ..., d) -> (chains, ...), nats, up to a constant; each element's value may depend on its
            own position only.
        position: (chains, ..., d) where to start.
        num_warmup: iterations that learn and are not kept; 0 keeps ``step_size`` and unit mass.
        num_samples: draws to keep.
        num_steps: the mean number of leapfrog steps of an iteration, each one gradient.
        jitter: 0 for always ``num_steps``, 1 for anything from 1 to 2 num_steps - 1, uniformly.
        step_size: of the leapfrog, at the start: a number or (chains, ...).
        target_accept_prob: the acceptance probability that the warm-up aims at.
        thinning: iterations for each draw kept.
        adapt_mass_matrix: whether the diagonal mass is learned or 1.
        pool_chains: whether elements along the first axis are chains of one target and learn together, with a step
            for those in a tail too. It changes how fast the warm-up learns, not what is sampled.
        collect: (rng_key, position) -> an array or a dictionary of arrays to keep of a draw, instead of its position.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The draws, (num_samples, chains, ..., d) or what ``collect`` returned with num_samples in front, and a report.

    Raises:
        ValueError: for an argument out of range, a log density of the wrong shape, or a start outside the support.

    References:
        Neal, "MCMC using Hamiltonian dynamics" (2011); Hoffman and Gelman, "The No-U-Turn sampler" (2014).
    """
    key_noise, key_collect = jax.random.split(rng_key)
    return run_with_noise(
        eqx.Partial(_noise_at, key_noise, position),
        log_density,
        position,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_steps=num_steps,
        jitter=jitter,
        step_size=step_size,
        target_accept_prob=target_accept_prob,
        thinning=thinning,
        adapt_mass_matrix=adapt_mass_matrix,
        pool_chains=pool_chains,
        collect=None if collect is None else eqx.Partial(_collect_at, key_collect, collect),
        progress=progress,
    )


class _Kernel(eqx.Module):
    noise_at: Callable[[Any], Noise]
    log_density: Callable[[Array], Array]
    num_steps: int
    jitter: float
    pool: bool

    def __call__(self, i: Any, state: State, step_size: Array, inverse_mass: Array) -> tuple[State, Info]:
        noise = self.noise_at(i)
        return step_with_noise(noise, state, self.log_density, step_size, inverse_mass, self.num_steps, self.jitter)


class _Plan(NamedTuple):
    observing: Array
    closing: Array
    target: Array
    thinning: Array


class _Tally(NamedTuple):
    accept_prob: Array
    accepted: Array
    diverging: Array

    def add(self, info: Info) -> "_Tally":
        return _Tally(
            self.accept_prob + info.accept_prob, self.accepted + info.accepted, self.diverging + info.diverging
        )


class _Progress(NamedTuple):
    state: State
    learned: adapting.Adaptation
    tally: _Tally


def _evaluate(log_density: Callable[[Array], Array], position: Array) -> tuple[Array, Array]:
    value, pullback = jax.vjp(log_density, position)
    check_log_density(value.shape, position.shape[:-1])
    return value, pullback(jnp.ones_like(value))[0]


def _begin(
    kernel: _Kernel, collect: Collect, position: Array, step_size: Array, num_samples: int
) -> tuple[Array, _Progress, Stores]:
    state = init(kernel.log_density, position)
    finite = jnp.isfinite(state.log_density) & jnp.all(jnp.isfinite(state.gradient), axis=-1)
    learned = adapting.adaptation(position, jnp.broadcast_to(step_size, finite.shape), pool=kernel.pool)
    tally = _Tally(*(jnp.zeros_like(state.log_density),) * 2, jnp.zeros_like(finite, jnp.int32))
    kept = eqx.filter_eval_shape(collect, jnp.asarray(0), position), state.log_density
    stores = jax.tree.map(lambda leaf: jnp.zeros((num_samples, *leaf.shape), leaf.dtype), kept)
    return finite, _Progress(state, learned, tally), stores


def _advance(
    arguments: tuple[_Kernel, Collect, _Plan, tuple[Any, Any], _Progress], stores: Stores
) -> tuple[_Progress, Stores]:
    kernel, collect, plan, (start, stop), so_far = arguments
    num_warmup = plan.observing.size

    def adapt(i: Any, learned: adapting.Adaptation, position: Array, accept_prob: Array) -> adapting.Adaptation:
        learned = adapting.adapt_step_size(learned, accept_prob, plan.target, pool=kernel.pool)
        observe = partial(adapting.observe, position=position, pool=kernel.pool)
        learned = lax.cond(plan.observing[i], observe, lambda same: same, learned)
        return lax.cond(plan.closing[i], adapting.close_window, lambda same: same, learned)

    # warm-up and sampling are one loop, so that the step, which is most of the program, is compiled once
    def iterate(i: Any, carry: tuple[_Progress, Stores]) -> tuple[_Progress, Stores]:
        (state, learned, tally), stores = carry
        warming = i < num_warmup
        searched, settled = jnp.exp(learned.averaging.log_step_size), adapting.adapted_step_size(learned)
        state, info = kernel(i, state, jnp.where(warming, searched, settled), learned.inverse_mass)
        if num_warmup > 0:
            learned = lax.cond(warming, lambda: adapt(i, learned, state.position, info.accept_prob), lambda: learned)
        tally = jax.tree.map(partial(jnp.where, warming), tally, tally.add(info))
        k, place = jnp.divmod(jnp.maximum(i - num_warmup, 0), plan.thinning)
        slot = jax.tree.map(lambda store: store[0], stores[0])
        keeping = ~warming & (place == plan.thinning - 1)
        kept = lax.cond(keeping, lambda: collect(k, state.position), lambda: jax.tree.map(jnp.zeros_like, slot))
        stores = jax.tree.map(lambda store, leaf: store.at[k].set(leaf), stores, (kept, -state.log_density))
        return _Progress(state, learned, tally), stores

    return lax.fori_loop(start, stop, iterate, (so_far, stores))


def _report(so_far: _Progress, total: int, potential_energy: Array, finite: Array) -> Result:
    state, learned, tally = so_far
    shape = state.position.shape
    return Result(
        accept_prob=tally.accept_prob / total,
        accept_rate=tally.accepted / total,
        divergences=tally.diverging,
        step_size=jnp.broadcast_to(adapting.adapted_step_size(learned), shape[:-1]),
        inverse_mass=jnp.broadcast_to(learned.inverse_mass, shape),
        potential_energy=potential_energy,
        initial_finite=finite,
        state=state,
    )


# the stores are donated: each chunk goes on writing into the same memory
_compiled = eqx.filter_jit(_begin), eqx.filter_jit(_advance, donate="all-except-first"), eqx.filter_jit(_report)


def _noise_at(rng_key: Key, like: Array, i: Any) -> Noise:
    return draw_noise(jax.random.fold_in(rng_key, i), like)


def _collect_at(rng_key: Key, collect: Callable[[Key, Array], PyTree], k: Any, position: Array) -> PyTree:
    return collect(jax.random.fold_in(rng_key, k), position)


def _position(k: Any, position: Array) -> Array:
    return position
