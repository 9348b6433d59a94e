"""Projected latent Markov chain Monte Carlo in NumPyro: one compiled loop for all chains and rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm import tqdm

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.imputation import result
from deepgen.inference.imputation.gibbs import metropolis
from deepgen.inference.imputation.neighbours import numpyro as neighbours
from deepgen.inference.imputation.neighbours.mixture import STARTS
from deepgen.inference.imputation.projected import latent
from deepgen.inference.imputation.projected.latent import Noise

_CHUNKS = 50


class Rows(NamedTuple):
    """What the chains are about.

    Attributes:
        chart: of the program.
        v: (n, D) the rows in its coordinates, anything finite where missing.
        observed: booleans of that shape.
        spread: (n, D) the standard deviations of auxiliary coordinates.
    """

    chart: Any
    v: jax.Array
    observed: jax.Array
    spread: jax.Array


class State(NamedTuple):
    """Where the chains are.

    Attributes:
        v: (chains, n, D) the completed rows.
        log_prob: (chains, n) log p(v), nats.
    """

    v: jax.Array
    log_prob: jax.Array


def draw_noise(rng_key: jax.Array, rows: Rows, like: jax.Array) -> Noise:
    """The randomness of one step.

    Args:
        rng_key: the key.
        rows: the rows.
        like: (chains, n, D), for its shape and dtype.

    Returns:
        The noise.
    """
    key_normal, key_base, key_uniform = jax.random.split(rng_key, 3)
    batch = like.shape[:-1]
    # one flat draw for all: in a loop XLA on CPU takes about a second to compile each draw of several axes
    normal = jax.random.normal(key_normal, (2 * like.size,), like.dtype).reshape(2, *like.shape)
    uniform = jax.random.uniform(key_uniform, (batch[0] * batch[1] + 1,), like.dtype)
    base = rows.chart.base.sample(key_base, (batch[0] * batch[1],)).reshape(like.shape)
    return Noise(normal[0], normal[1], base, uniform[1:].reshape(batch), uniform[0])


def step_with_noise(noise: Noise, rows: Rows, state: State, step_size: jax.Array) -> tuple[State, jax.Array]:
    """One step of every chain as a function of its noise.

    Args:
        noise: of the step.
        rows: the rows.
        state: of the chains.
        step_size: (chains, n) of the walk; axes of size 1 are shared.

    Returns:
        The new state, and with what probability each proposal was accepted.
    """
    chart, v, observed, spread = rows
    joined = latent.join(noise.auxiliary, state.v, spread, observed)
    z, log_det = chart.to_base(joined)
    z_proposed = latent.propose(noise, z, step_size)
    joined_proposed, log_jacobian = chart.from_base(z_proposed)
    proposed = jnp.where(observed, v, joined_proposed)
    value = chart.log_prob(proposed)
    there, here = (latent.log_auxiliary(each, v, spread, observed) for each in (joined_proposed, joined))
    target = jnp.stack(
        [latent.log_target(value, there, log_jacobian), latent.log_target(state.log_prob, here, -log_det)]
    )
    log_base = jnp.stack([chart.log_base(z_proposed), chart.log_base(z)])
    ratio = metropolis.log_ratio(target, latent.log_proposal(noise, log_base))
    accepted = metropolis.accepts(noise.accept, ratio)
    moved = State(jnp.where(accepted[..., None], proposed, state.v), jnp.where(accepted, value, state.log_prob))
    return moved, metropolis.accept_prob(ratio)


def run(
    rng_key: jax.Array,
    rows: Rows,
    start: jax.Array,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int = 1,
    step_size: float = 0.1,
    progress: bool | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Chains from a start.

    Args:
        rng_key: the key.
        rows: the rows.
        start: (chains, n, D) completed rows.
        num_warmup: iterations that adapt the walk's step sizes and are not kept.
        num_samples: draws to keep.
        num_steps: steps of an iteration.
        step_size: of the walk, at the start.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The completed rows (draw, chain, n, D), log p of them (draw, chain, n), the mean acceptance probability of all
        steps that are kept (chain, n), and the walk's step sizes (chain, n).
    """
    so_far, stores = _begin(rows, start, jnp.asarray(step_size, start.dtype), num_samples)
    total = num_warmup + num_samples
    with tqdm(total=total, disable=None if progress is None else not progress, unit="step", desc="PL-MCMC") as bar:
        size = total if bar.disable else -(-total // _CHUNKS)
        for first in range(0, total, size):
            last = min(first + size, total)
            span = jnp.asarray([first, last, num_warmup, num_steps])
            so_far, stores = _advance((rng_key, rows, span, so_far), stores)
            if not bar.disable:
                jax.block_until_ready(so_far)
                bar.update(last - first)
    steps = jnp.broadcast_to(_settled(so_far.averaging), so_far.accept_prob.shape)
    return *stores, so_far.accept_prob / (num_samples * num_steps), steps


def projected(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Projected latent Markov chain Monte Carlo, see `impute`."""
    key_start, key_run = jax.random.split(rng_key)
    chart = program.chart()
    v, _ = neighbours.coordinates(chart, x, observed)
    found = neighbours.weigh(key_start, chart, x, observed, STARTS, options["num_chains"])
    spread = jnp.asarray(latent.SPREAD * found.spread, v.dtype)
    draws, values, accept_prob, step_size = run(
        key_run,
        Rows(chart, v, observed.reshape(v.shape), spread),
        jnp.asarray(found.chosen, v.dtype),
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_steps=options["num_steps"],
        progress=progress,
    )
    stats, said = result.chain_stats(
        np.asarray(jnp.swapaxes(values, 0, 1)),
        acceptance_rate=np.asarray(accept_prob),
        step_size=np.asarray(step_size),
    )
    return result.Draws(np.asarray(jnp.swapaxes(chart.to_data(draws), 0, 1)), {}, stats, said)


class _Progress(NamedTuple):
    state: State
    averaging: adapting.DualAveraging
    accept_prob: jax.Array


def _settled(averaging: adapting.DualAveraging) -> jax.Array:
    return jnp.exp(jnp.where(averaging.count > 0, averaging.log_average, averaging.log_step_size))


@eqx.filter_jit
def _begin(
    rows: Rows, start: jax.Array, step_size: jax.Array, num_samples: int
) -> tuple[_Progress, tuple[jax.Array, jax.Array]]:
    value = rows.chart.log_prob(start)
    stores = tuple(jnp.zeros((num_samples, *each.shape), each.dtype) for each in (start, value))
    # the chains of a row learn together
    averaging = adapting.dual_averaging(jnp.broadcast_to(step_size, (1, value.shape[1])))
    return _Progress(State(start, value), averaging, jnp.zeros_like(value)), (stores[0], stores[1])


def _forward(
    arguments: tuple[jax.Array, Rows, jax.Array, _Progress], stores: tuple[jax.Array, jax.Array]
) -> tuple[_Progress, tuple[jax.Array, jax.Array]]:
    rng_key, rows, (first, last, num_warmup, num_steps), so_far = arguments

    def step(i: Any, so_far: _Progress) -> _Progress:
        state, averaging, total = so_far
        warming = i < num_warmup * num_steps
        noise = draw_noise(jax.random.fold_in(rng_key, i), rows, state.v)
        step_size = jnp.where(warming, jnp.exp(averaging.log_step_size), _settled(averaging))
        state, accept_prob = step_with_noise(noise, rows, state, step_size)
        mean = accept_prob.mean(0, keepdims=True)
        learned = adapting.dual_averaging_update(averaging, mean, latent.TARGET)
        learning = warming & (noise.far >= latent.FAR)
        averaging = jax.tree.map(lambda new, old: jnp.where(learning, new, old), learned, averaging)
        return _Progress(state, averaging, total + jnp.where(warming, 0, accept_prob))

    def iterate(i: Any, carry: tuple[_Progress, Any]) -> tuple[_Progress, Any]:
        so_far, (draws, values) = carry
        so_far = lax.fori_loop(i * num_steps, (i + 1) * num_steps, step, so_far)
        k = jnp.maximum(i - num_warmup, 0)
        return so_far, (draws.at[k].set(so_far.state.v), values.at[k].set(so_far.state.log_prob))

    return lax.fori_loop(first, last, iterate, (so_far, stores))


# the stores are donated: each chunk goes on writing into the same memory
_advance = eqx.filter_jit(_forward, donate="all-except-first")
