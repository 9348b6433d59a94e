"""Sequential Monte Carlo in JAX: pure steps, and runs that are one compiled loop for all rows."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from deepgen.inference.smc import genealogy, weights
from deepgen.inference.smc.arguments import check, check_inputs, check_start
from deepgen.inference.smc.resampling import SCHEMES

__all__ = ["Info", "Particles", "State", "draw_uniforms", "init", "smc", "step", "step_with_uniforms", "take"]


class State(NamedTuple):
    """Weighted particles.

    Attributes:
        particles: arrays (*batch, n, ...).
        log_weights: (*batch, n), normalised.
        log_evidence: (*batch), nats.
    """

    particles: PyTree
    log_weights: Any
    log_evidence: Any


class Info(NamedTuple):
    """What happened in a step.

    Attributes:
        ess: (*batch) effective sample sizes before it.
        resampled: (*batch) whether there was resampling.
        ancestors: (*batch, n) of each particle, which one before the step it comes from.
    """

    ess: Any
    resampled: Any
    ancestors: Any


class Particles(NamedTuple):
    """The outcome of a run over T inputs.

    Attributes:
        particles: arrays (*batch, n, ...), at the end.
        log_weights: (*batch, n), normalised, of the particles and of their histories.
        log_evidence: (*batch) estimates of log Z, nats, of which exp is unbiased.
        ess: (T + 1, *batch) effective sample sizes, at the start and after each step.
        resampled: (T, *batch) whether the particles were resampled before each step.
        lineage: (T + 1, *batch, n) of each particle at the end, which one it was then.
        history: what was collected along the lineages, arrays (T + 1, *batch, n, ...).
    """

    particles: PyTree
    log_weights: Any
    log_evidence: Any
    ess: Any
    resampled: Any
    lineage: Any
    history: PyTree


def init(particles: PyTree, log_weights: Float[Array, "*batch n"]) -> State:
    """The state of particles that have been weighed for the first time.

    Args:
        particles: arrays (*batch, n, ...).
        log_weights: not normalised.

    Returns:
        The state, its evidence the mean weight.
    """
    # weights that are zeros, as where nothing is observed yet, would be reduced by the compiler, in seconds
    log_weights = lax.optimization_barrier(log_weights)
    return State(particles, *weights.reweigh(weights.even(log_weights), log_weights))


def draw_uniforms(rng_key: Array, like: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """The uniforms of one resampling."""
    # one flat draw: in a loop XLA on CPU takes about a second to compile each draw of several axes
    return jax.random.uniform(rng_key, (like.size,), like.dtype).reshape(like.shape)


def step_with_uniforms(
    uniforms: Float[Array, "*batch n"],
    state: State,
    move: Callable[[PyTree, PyTree], tuple[PyTree, Array]],
    item: PyTree,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
) -> tuple[State, Info]:
    """One step as a function of the uniforms of its resampling: resample where uneven, move, weigh.

    Args:
        uniforms: in [0, 1).
        state: of ``init`` or of the step before.
        move: particles and item to moved particles and log factors (*batch, n).
        item: what ``move`` is given besides.
        resampling: a scheme of ``resampling.SCHEMES``.
        ess_threshold: as a share of the number of particles.

    Returns:
        The new state, and what happened.
    """
    count = state.log_weights.shape[-1]
    ess = weights.effective_sample_size(state.log_weights)
    wanted = weights.too_uneven(ess, count, ess_threshold)
    same = jnp.broadcast_to(jnp.arange(count), state.log_weights.shape)

    def resample() -> tuple[PyTree, Array, Array]:
        index = SCHEMES[resampling](jnp.exp(state.log_weights), uniforms)
        index = jnp.where(wanted[..., None], index, same)
        fresh = jnp.where(wanted[..., None], weights.even(state.log_weights), state.log_weights)
        return take(state.particles, index), fresh, index

    def keep() -> tuple[PyTree, Array, Array]:
        return state.particles, state.log_weights, same

    particles, log_weights, ancestors = lax.cond(wanted.any(), resample, keep)
    particles, log_factors = move(particles, item)
    log_weights, increment = weights.reweigh(log_weights, log_factors)
    return State(particles, log_weights, state.log_evidence + increment), Info(ess, wanted, ancestors)


def step(
    rng_key: Array,
    state: State,
    move: Callable[[Array, PyTree, PyTree], tuple[PyTree, Array]],
    item: PyTree,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
) -> tuple[State, Info]:
    """One step: resample where uneven, move, weigh.

    Args:
        rng_key: the key.
        state: of ``init`` or of the step before.
        move: key, particles and item to moved particles and log factors (*batch, n).
        item: what ``move`` is given besides.
        resampling: a scheme of ``resampling.SCHEMES``.
        ess_threshold: as a share of the number of particles.

    Returns:
        The new state, and what happened.
    """
    key_resample, key_move = jax.random.split(rng_key)
    uniforms = draw_uniforms(key_resample, state.log_weights)
    return step_with_uniforms(uniforms, state, partial(move, key_move), item, resampling, ess_threshold)


def take(particles: PyTree, index: Int[Array, "*batch m"]) -> PyTree:
    """The particles at these indices.

    Args:
        particles: arrays (*batch, n, ...).
        index: which of them.

    Returns:
        Arrays (*batch, m, ...).
    """
    batch = index.shape[:-1]
    rows = math.prod(batch)

    def one(leaf: Array) -> Array:
        count = leaf.shape[len(batch)]
        flat = index.reshape(rows, -1) + count * jnp.arange(rows)[:, None]
        values = leaf.reshape(rows * count, *leaf.shape[len(batch) + 1 :])
        return values[flat.reshape(-1)].reshape(*index.shape, *leaf.shape[len(batch) + 1 :])

    return jax.tree.map(one, particles)


def smc(
    rng_key: Array,
    start: Callable[..., Any],
    move: Callable[..., Any],
    inputs: PyTree,
    *,
    num_particles: int = 1000,
    batch_shape: tuple[int, ...] = (),
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    collect: Callable[[PyTree], PyTree] | None = None,
) -> Particles:
    r"""A particle filter, or any other sequence of weighted moves, for one series or many at once.

    Particles start, and for each input they are resampled where their effective sample size has fallen below a share of
    their number, moved and weighed. For a state-space model with :math:`z_t \sim p(z_t \mid z_{t-1})` and
    :math:`y_t \sim p(y_t \mid z_t)` a move draws z_t and its log factor is :math:`\log p(y_t \mid z_t)`, as in the
    filter of Gordon, Salmond & Smith 1993. Then ``log_evidence`` estimates :math:`\log p(y_{1:T})`. For a proposal q
    the factor is :math:`p(y_t \mid z_t)\, p(z_t \mid z_{t-1}) / q(z_t \mid z_{t-1}, y_t)`.

    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> def start(rng_key, shape):
    ...     return dist.Normal(0.0, 2.0).sample(rng_key, shape), jnp.zeros(shape)
    >>> def move(rng_key, z, y):
    ...     z = dist.Normal(0.9 * z, 1.0).sample(rng_key)
    ...     return z, dist.Normal(z, 0.5).log_prob(y)
    >>> found = smc(jax.random.key(0), start, move, jnp.array([0.3, 0.1, -0.4]), num_particles=500)
    >>> found.ess.shape
    (4,)

    Args:
        rng_key: the key.
        start: (key, (\*batch_shape, num_particles)) to particles, a tree of arrays that begin with these axes, and log
            weights of this shape, zeros where nothing is observed yet. A function, or an equinox module.
        move: (key, particles, item) to moved particles and log factors of that shape.
        inputs: arrays (T, ...), of which each step is given one entry.
        num_particles: how many for each row.
        batch_shape: of the rows.
        resampling: ``"systematic"``, ``"stratified"``, ``"residual"`` or ``"multinomial"``.
        ess_threshold: the share of ``num_particles`` below which the ESS leads to resampling; 0 never, 1 always.
        collect: from particles to what is to be kept of every step, along the lineages of the particles at the end;
            None keeps nothing.

    Returns:
        The particles at the end with their weights, histories and evidence.

    Raises:
        ValueError: arguments out of range, or particles and weights that do not begin with the axes of the particles.
    """
    check(num_particles, batch_shape, resampling, ess_threshold)
    check_inputs([np.shape(leaf) for leaf in jax.tree.leaves(inputs)])
    shape = (*batch_shape, num_particles)
    return _run(rng_key, start, move, inputs, shape, resampling, ess_threshold, collect)


@eqx.filter_jit
def _run(
    rng_key: Array,
    start: Callable[..., Any],
    move: Callable[..., Any],
    inputs: PyTree,
    shape: tuple[int, ...],
    resampling: str,
    ess_threshold: float,
    collect: Callable[[PyTree], PyTree] | None,
) -> Particles:
    key_start, key_steps = jax.random.split(rng_key)
    particles, log_weights = start(key_start, shape)
    _check("start", particles, log_weights, shape)
    first = init(particles, log_weights)
    kept = collect if collect is not None else lambda _: None

    def moved(key: Array, particles: PyTree, item: PyTree) -> tuple[PyTree, Array]:
        particles, log_factors = move(key, particles, item)
        _check("move", particles, log_factors, shape)
        return particles, log_factors

    def body(state: State, item: tuple[Array, PyTree]) -> tuple[State, Any]:
        key, given = item
        state, info = step(key, state, moved, given, resampling, ess_threshold)
        return state, (info, kept(state.particles))

    length = len(jax.tree.leaves(inputs)[0])
    last, (info, history) = lax.scan(body, first, (jax.random.split(key_steps, length), inputs))
    same = jnp.broadcast_to(jnp.arange(shape[-1]), shape)

    def back(lineage: Array, ancestors: Array) -> tuple[Array, Array]:
        earlier = genealogy.follow(ancestors, lineage)
        return earlier, earlier

    _, earlier = lax.scan(back, same, info.ancestors, reverse=True)
    lineage = jnp.concatenate([earlier, same[None]])
    ess = jnp.concatenate([info.ess, weights.effective_sample_size(last.log_weights)[None]])
    history = jax.tree.map(lambda one, rest: jnp.concatenate([one[None], rest]), kept(first.particles), history)
    return Particles(*last, ess, info.resampled, lineage, take(history, lineage))


def _check(name: str, particles: PyTree, log_weights: Array, shape: tuple[int, ...]) -> None:
    leaves = [np.shape(leaf) for leaf in jax.tree.leaves(particles)]
    check_start(name, np.shape(log_weights), leaves, shape)
