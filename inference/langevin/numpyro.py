"""Langevin chains in JAX: pure steps of any of the dynamics, and runs that are compiled once for all chains."""

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
from deepgen.inference.langevin import arguments, tuning
from deepgen.inference.langevin.acceptance import Info
from deepgen.inference.langevin.dynamics import Dynamics, flat_shape
from deepgen.inference.langevin.noise.numpyro import Noise, draw_noise
from deepgen.inference.langevin.report import Result, Tally, in_a_row, kept, patience
from deepgen.inference.langevin.target.numpyro import Evaluate, bare

__all__ = ["draw_noise", "init", "run", "run_with_noise", "step", "step_with_noise"]

CHUNKS = 50
"""How often a progress bar moves in a run."""

Key = Array


def init(dynamics: Dynamics, evaluate: Evaluate, position: Array, noise: Noise) -> Any:
    """The state at a position.

    Args:
        dynamics: the kernel.
        evaluate: of ``target``.
        position: (n, d), or (n, d, k) for one-hot rows.
        noise: of ``draw_noise``; what begins with a velocity takes it from there.

    Returns:
        The state of the dynamics.

    Raises:
        ValueError: where the potential or the score is of the wrong shape.
    """
    return dynamics.begin(position, *evaluate(position), noise[0])


def step_with_noise(
    noise: Noise, dynamics: Dynamics, state: Any, evaluate: Evaluate, step_size: Float[Array, "#n"], root: Any = None
) -> tuple[Any, Info]:
    """One step as a function of its noise.

    Args:
        noise: of ``draw_noise``.
        dynamics: the kernel.
        state: of ``init`` or of the step before.
        evaluate: of ``target``.
        step_size: (n) or (1), of a leapfrog: the Langevin step is its square.
        root: of the inverse mass, (n, d), (n, d, d) or with n = 1; None is the identity.

    Returns:
        The new state, and what happened.
    """
    return dynamics.step(*noise, state, evaluate, step_size, root)


def step(
    rng_key: Key, dynamics: Dynamics, state: Any, evaluate: Evaluate, step_size: Float[Array, "#n"], root: Any = None
) -> tuple[Any, Info]:
    """One step.

    Args:
        rng_key: a JAX key.
        dynamics: the kernel.
        state: of ``init`` or of the step before.
        evaluate: of ``target``.
        step_size: (n) or (1), of a leapfrog: the Langevin step is its square.
        root: of the inverse mass, (n, d), (n, d, d) or with n = 1; None is the identity.

    Returns:
        The new state, and what happened.
    """
    noise = draw_noise(rng_key, dynamics, state.position)
    return step_with_noise(noise, dynamics, state, evaluate, step_size, root)


def run_with_noise(
    noise_at: Callable[[Any], Noise],
    dynamics: Dynamics,
    position: Array,
    *,
    potential_fn: Callable[[Array], Array] | None = None,
    score_fn: Callable[[Array], Array] | None = None,
    num_warmup: int = 0,
    num_samples: int,
    thinning: int = 1,
    step_size: Any = 0.1,
    adapt_step_size: bool | None = None,
    adapt_mass_matrix: bool | None = None,
    dense_mass: bool = False,
    target_accept_prob: float | None = None,
    pool_chains: bool = True,
    progress: bool | None = None,
) -> tuple[Array, Result]:
    """``run`` as a function of its noise.

    Args:
        noise_at: number -> noise: 0 for the start, then 1, 2, ... for the steps, warm-up first.
        dynamics: as in ``run``.
        position: as in ``run``.
        potential_fn: as in ``run``.
        score_fn: as in ``run``.
        num_warmup: as in ``run``.
        num_samples: as in ``run``.
        thinning: as in ``run``.
        step_size: as in ``run``.
        adapt_step_size: as in ``run``.
        adapt_mass_matrix: as in ``run``.
        dense_mass: as in ``run``.
        target_accept_prob: as in ``run``.
        pool_chains: as in ``run``.
        progress: as in ``run``.

    Returns:
        As ``run``.

    Raises:
        ValueError: as ``run``.
    """
    arguments.check_functions(dynamics.adjusted, potential_fn=potential_fn, score_fn=score_fn)
    concrete = not isinstance(step_size, jax.core.Tracer)
    arguments.check_run(
        dynamics,
        position.shape,
        jnp.issubdtype(position.dtype, jnp.floating),
        num_warmup=num_warmup,
        num_samples=num_samples,
        thinning=thinning,
        step_size=np.asarray(step_size) if concrete else np.ones(()),
    )
    plan = arguments.plan(
        dynamics,
        adapt_step_size=adapt_step_size,
        adapt_mass_matrix=adapt_mass_matrix,
        dense_mass=dense_mass,
        target_accept_prob=target_accept_prob,
    )
    inside_jit = isinstance(jnp.zeros(()), jax.core.Tracer)
    if inside_jit and progress:
        raise checks.problem(
            "progress", got="True inside jit", expected="False or None", fix="Call run outside of jit to see a bar."
        )
    if not isinstance(position, jax.core.Tracer):
        arguments.check_states(dynamics, np.asarray(position))
    begin, advance = (_begin, _advance) if inside_jit else _compiled
    kernel = _Kernel(
        noise_at,
        bare(potential_fn, score_fn, event_shape=position.shape[1:]),
        dynamics,
        plan.adapt_step_size,
        plan.adapt_mass_matrix and num_warmup > 0,
        plan.dense_mass,
        pool_chains and num_warmup > 0,
    )
    steps = jnp.broadcast_to(jnp.asarray(step_size, position.dtype), position.shape[:1])
    flat = position.reshape(flat_shape(dynamics, position.shape))
    finite, so_far, stores = begin(kernel, flat, steps, num_samples)
    if not isinstance(finite, jax.core.Tracer):
        arguments.check_finite(np.asarray(finite))

    observing, closing = adapting.schedule(num_warmup, adapt_mass_matrix=plan.adapt_mass_matrix)
    goal = jnp.asarray(plan.target_accept_prob, position.dtype)
    timetable = _Timetable(jnp.asarray(observing), jnp.asarray(closing), goal, jnp.asarray(thinning))
    total = num_warmup + num_samples * thinning
    hidden = True if inside_jit else None if progress is None else not progress
    with tqdm(total=total, disable=hidden, unit="step", desc="Langevin") as bar:
        size = total if bar.disable else -(-total // CHUNKS)
        for start in range(0, total, size):
            stop = min(start + size, total)
            so_far, stores = advance((kernel, timetable, jnp.asarray(stop), so_far), stores)
            if not bar.disable:
                bar.update(int(so_far.steps) - start)
                if so_far.steps < stop:
                    break
    draws, potential_energy = stores
    if not isinstance(draws, jax.core.Tracer):
        steps_made = int(so_far.steps)
        left = kept(dynamics.adjusted, steps_made, total, num_warmup, thinning)
        draws, potential_energy = draws[:left], potential_energy[:left]
        arguments.warn_of_divergence(
            dynamics,
            np.asarray(so_far.tally.diverging),
            max(steps_made - num_warmup, 0),
            stopped=(steps_made, total, left) if steps_made < total else None,
        )
    counted = jnp.maximum(so_far.steps - num_warmup, 1)
    return draws.reshape(len(draws), *position.shape), Result(
        accept_prob=so_far.tally.accept_prob / counted,
        accept_rate=so_far.tally.accepted / counted,
        divergences=so_far.tally.diverging,
        step_size=jnp.broadcast_to(tuning.learned_step_size(so_far.learned), position.shape[:1]),
        root=so_far.learned.root,
        potential_energy=potential_energy,
        initial_finite=finite,
        state=so_far.state,
    )


def run(
    rng_key: Key,
    dynamics: Dynamics,
    position: Array,
    *,
    potential_fn: Callable[[Array], Array] | None = None,
    score_fn: Callable[[Array], Array] | None = None,
    num_warmup: int = 0,
    num_samples: int,
    thinning: int = 1,
    step_size: Any = 0.1,
    adapt_step_size: bool | None = None,
    adapt_mass_matrix: bool | None = None,
    dense_mass: bool = False,
    target_accept_prob: float | None = None,
    pool_chains: bool = True,
    progress: bool | None = None,
) -> tuple[Array, Result]:
    """Chains of a Langevin kernel, all at once, on a bare potential or score.

    Adjusted dynamics learn step size and mass in the warm-up, fixed after it, and leave exp(-potential) invariant;
    unadjusted ones do not, and their draws are approximate. Only every ``thinning``-th state is ever stored.

    Outside of ``jit`` the loop is compiled here, and compiled again only for other shapes, other settings or another
    function. One that is a pytree (an ``equinox.Module``, ``equinox.Partial(f, *arrays)``) may change its arrays
    freely. ``run`` may also be called inside ``jit``; then there is no bar, and a bad start is not refused but reported
    in ``Result.initial_finite``.

    A run whose step size is hopeless stops early, with a ``DivergenceWarning``, and gives the draws up to there:
    without an acceptance test where no chain is finite any more, with one after 100 steps in a row at which the
    proposals of all chains diverged. Inside ``jit`` the draws that were not taken are NaN.

    Args:
        rng_key: a JAX key.
        dynamics: ``Overdamped``, ``Underdamped``, ``Stochastic`` or ``Discrete``.
        position: (n, *event) where to start; zeros and ones for discrete dynamics, one-hot along the last axis for
            categorical ones.
        potential_fn: (n, *event) -> (n,), nats, minus the log density up to a constant; each element's value depends on
            its own position only. Adjusted dynamics need it.
        score_fn: (n, *event) -> (n, *event), the gradient of the log density. None takes that of ``potential_fn``;
            where both are given the score drives and the potential judges, so adjusted dynamics are exact whatever the
            score.
        num_warmup: iterations that are not kept, in which adjusted dynamics learn.
        num_samples: draws to keep.
        thinning: iterations for each draw kept.
        step_size: a number or (n,), of a leapfrog: the Langevin step is its square.
        adapt_step_size: whether the warm-up learns the step size; None: where there is an acceptance test.
        adapt_mass_matrix: whether it learns the metric; None: likewise.
        dense_mass: whether the metric is a full matrix instead of a diagonal one.
        target_accept_prob: the acceptance probability to adapt to; None is the dynamics' own.
        pool_chains: whether all n are chains of one target and learn together, so that none stands still.
            False: each learns for itself.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The draws, (num_samples, n, *event), fewer where the run stopped, and a report.

    Raises:
        ValueError: for an argument out of range, a function's result of the wrong shape, or a start outside the
            support.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations"
        (1996); and those of the dynamics.
    """
    like = jax.ShapeDtypeStruct(flat_shape(dynamics, position.shape), position.dtype)
    return run_with_noise(
        eqx.Partial(_noise_at, rng_key, dynamics, like),
        dynamics,
        position,
        potential_fn=potential_fn,
        score_fn=score_fn,
        num_warmup=num_warmup,
        num_samples=num_samples,
        thinning=thinning,
        step_size=step_size,
        adapt_step_size=adapt_step_size,
        adapt_mass_matrix=adapt_mass_matrix,
        dense_mass=dense_mass,
        target_accept_prob=target_accept_prob,
        pool_chains=pool_chains,
        progress=progress,
    )


class _Kernel(eqx.Module):
    noise_at: Callable[[Any], Noise]
    evaluate: Evaluate
    dynamics: Dynamics = eqx.field(static=True)
    adapt_step_size: bool
    adapt_mass_matrix: bool
    dense: bool
    pool: bool


class _Timetable(NamedTuple):
    observing: Array
    closing: Array
    target: Array
    thinning: Array


class _Progress(NamedTuple):
    steps: Array
    lost: Array
    state: Any
    learned: tuning.Tuning
    tally: Tally


def _begin(
    kernel: _Kernel, position: Array, step_size: Array, num_samples: int
) -> tuple[Array, _Progress, tuple[Array, Array]]:
    state, rows = init(kernel.dynamics, kernel.evaluate, position, kernel.noise_at(0)), len(position)
    known = jnp.isfinite(state.log_density) | (jnp.isnan(state.log_density) & (not kernel.dynamics.adjusted))
    finite = known & jnp.isfinite(state.gradient).reshape(rows, -1).all(1)
    vectors = position if kernel.dynamics.metric else position.reshape(rows, -1)[:, :1]
    learned = tuning.begin(vectors, step_size, pool=kernel.pool, dense=kernel.dense)
    zero = jnp.zeros_like(step_size)
    draws = jnp.full((num_samples, *position.shape), jnp.nan, position.dtype)
    stores = draws, jnp.full((num_samples, rows), jnp.nan, position.dtype)
    tally, none = Tally(zero, zero, jnp.zeros(rows, jnp.int32)), jnp.zeros((), jnp.int32)
    return finite, _Progress(none, none, state, learned, tally), stores


def _advance(
    given: tuple[_Kernel, _Timetable, Array, _Progress], stores: tuple[Array, Array]
) -> tuple[_Progress, tuple[Array, Array]]:
    kernel, timetable, stop, so_far = given
    num_warmup = timetable.observing.size
    dynamics = kernel.dynamics

    def adapt(i: Any, learned: tuning.Tuning, position: Array, accept_prob: Array) -> tuning.Tuning:
        if kernel.adapt_step_size:
            learned = tuning.learn_step_size(learned, accept_prob, timetable.target, pool=kernel.pool)
        if kernel.adapt_mass_matrix:
            observe = partial(tuning.observe, position=position, pool=kernel.pool)
            close = partial(tuning.close_window, step_size=kernel.adapt_step_size)
            learned = lax.cond(timetable.observing[i], observe, lambda same: same, learned)
            learned = lax.cond(timetable.closing[i], close, lambda same: same, learned)
        return learned

    # warm-up and sampling are one loop, so that the step, which is most of the program, is compiled once
    def iterate(carry: tuple[_Progress, tuple[Array, Array]]) -> tuple[_Progress, tuple[Array, Array]]:
        (i, bad, state, learned, tally), stores = carry
        warming = i < num_warmup
        h = jnp.where(warming, tuning.searched_step_size(learned), tuning.learned_step_size(learned))
        root = learned.root if kernel.adapt_mass_matrix else None
        state, info = step_with_noise(kernel.noise_at(i + 1), dynamics, state, kernel.evaluate, h, root)
        if num_warmup > 0:
            learned = lax.cond(warming, lambda: adapt(i, learned, state.position, info.accept_prob), lambda: learned)
        tally = jax.tree.map(partial(jnp.where, warming), tally, tally.add(info))
        k = jnp.maximum(i - num_warmup, 0) // timetable.thinning
        stores = jax.tree.map(lambda s, x: s.at[k].set(x), stores, (state.position, -state.log_density))
        return _Progress(i + 1, in_a_row(bad, info.diverging), state, learned, tally), stores

    def more(carry: tuple[_Progress, tuple[Array, Array]]) -> Array:
        return (carry[0].steps < stop) & (carry[0].lost < patience(dynamics.adjusted))

    return lax.while_loop(more, iterate, (so_far, stores))


# the stores are donated: each chunk goes on writing into the same memory
_compiled = eqx.filter_jit(_begin), eqx.filter_jit(_advance, donate="all-except-first")


def _noise_at(rng_key: Key, dynamics: Dynamics, like: PyTree, i: Any) -> Noise:
    return draw_noise(jax.random.fold_in(rng_key, i), dynamics, like)
