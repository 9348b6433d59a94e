"""Gibbs sampling with the guide as proposal in NumPyro: one compiled loop for all rows and chains."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro import handlers
from tqdm import tqdm

from deepgen.inference.imputation import result
from deepgen.inference.imputation.gibbs import metropolis
from deepgen.inference.imputation.gibbs.metropolis import Noise, Rule
from deepgen.inference.imputation.resampling import numpyro as resampling
from deepgen.program.numpyro import decode, log_joint, propose

_CHUNKS = 50
"""How often a progress bar moves in a run."""


class Rows(eqx.Module):
    """What is known of the rows, each as often as there are chains.

    Attributes:
        program: what has ``model`` and ``guide``.
        x: (rows, *event_shape), any admissible value where missing.
        observed: booleans of that shape.
    """

    program: Any
    x: jax.Array
    observed: jax.Array


class State(NamedTuple):
    """Where the chains are.

    Attributes:
        latents: by site, (rows, ...).
        x: (rows, *event_shape), completed by what was drawn given the latents.
        log_joint: (rows,) log p(x_observed, latents), nats.
    """

    latents: dict[str, jax.Array]
    x: jax.Array
    log_joint: jax.Array


def draw_noise(rng_key: jax.Array, like: jax.Array) -> Noise:
    """The uniforms of one step.

    Args:
        rng_key: the key.
        like: (rows,), for its shape and dtype.

    Returns:
        The uniforms.
    """
    return Noise(*jax.random.uniform(rng_key, (3 * like.size,), like.dtype).reshape(3, -1))


def init(rng_key: jax.Array, rows: Rows, latents: Mapping[str, jax.Array]) -> State:
    """The state at these latents, the missing entries drawn given them.

    Args:
        rng_key: the key.
        rows: the rows.
        latents: by site, (rows, ...).

    Returns:
        The state.
    """
    value = log_joint(rows.program.model, latents, rows.x, rows.observed)
    return State(dict(latents), _impute(rng_key, rows, latents), value)


def step_with_noise(
    rng_key: jax.Array, noise: Noise, rows: Rows, state: State, source: jax.Array, rule: Rule
) -> tuple[State, jax.Array, jax.Array]:
    """One step of every chain: latents proposed and accepted or not, then the missing entries given them.

    Args:
        rng_key: for the proposals and the missing entries.
        noise: its uniforms.
        rows: the rows.
        state: of the chains.
        source: (rows, *event_shape) the completed rows that the guide is shown: those of ``state``, or earlier ones.
        rule: which of the methods.

    Returns:
        The new state, whether each proposal was accepted, and with what probability it was.
    """
    key_guide, key_prior, key_impute = jax.random.split(rng_key, 3)
    model, guide = rows.program.model, rows.program.guide
    prior = handlers.block(model, hide=["x"])
    proposed, _ = propose(key_guide, guide, source)
    if rule.adaptive:
        from_prior, _ = propose(key_prior, prior, rows.x)
        proposed = _where(noise.mixture < metropolis.EPSILON, from_prior, proposed)
    if rule.corrected:
        both = {name: jnp.stack([proposed[name], state.latents[name]]) for name in proposed}
        proposal = jax.vmap(lambda z: log_joint(guide, z, source))(both)
        if rule.adaptive:
            proposal = metropolis.log_mixture(proposal, jax.vmap(lambda z: log_joint(prior, z, rows.x))(both))
            value = log_joint(model, proposed, rows.x, rows.observed)
            target = jnp.stack([value, state.log_joint])
        else:
            target = jax.vmap(lambda z: log_joint(model, z, state.x))(both)
        ratio = metropolis.log_ratio(target, proposal)
    else:
        ratio = jnp.zeros_like(state.log_joint)
    accepted = metropolis.accepts(noise.accept, ratio)
    latents = _where(accepted, proposed, state.latents)
    # for the missing entries the decoder runs at these latents in any case
    value = log_joint(model, latents, rows.x, rows.observed)
    return State(latents, _impute(key_impute, rows, latents), value), accepted, metropolis.accept_prob(ratio)


def run(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    start: Mapping[str, jax.Array],
    *,
    rule: Rule,
    num_warmup: int,
    num_samples: int,
    progress: bool | None = None,
) -> tuple[jax.Array, dict[str, jax.Array], jax.Array, jax.Array]:
    """Chains from a start.

    Args:
        rng_key: the key.
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        start: the latents by site, (chains, n, ...); of the adaptive method two starts for each chain, the second of
            which makes the imputation with which its history begins.
        rule: which of the methods.
        num_warmup: iterations that are not kept.
        num_samples: draws to keep.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The completed rows (draw, chain, n, *event_shape), the latents (draw, chain, n, ...), log p(x_observed, latents)
        (draw, chain, n) and the mean acceptance probability of what is kept (chain, n).
    """
    key_begin, key_run = jax.random.split(rng_key)
    count = len(next(iter(start.values()))) // (1 + rule.adaptive)
    rows, so_far, stores = _begin(key_begin, program, x, observed, dict(start), rule, num_warmup, num_samples)
    total = num_warmup + num_samples
    with tqdm(total=total, disable=None if progress is None else not progress, unit="step", desc="Gibbs") as bar:
        size = total if bar.disable else -(-total // _CHUNKS)
        for first in range(0, total, size):
            last = min(first + size, total)
            span = jnp.asarray(first), jnp.asarray(last), jnp.asarray(num_warmup)
            so_far, stores = _advance((key_run, rows, rule, span, so_far), stores)
            if not bar.disable:
                jax.block_until_ready(so_far)
                bar.update(last - first)
    imputed = stores.x[-num_samples:]
    completed, latents, values = (
        jax.tree.map(lambda leaf: leaf.reshape(len(leaf), count, len(x), *leaf.shape[2:]), found)
        for found in (imputed, stores.latents, stores.log_joint)
    )
    return completed, latents, values, (so_far.accept_prob / num_samples).reshape(count, len(x))


def gibbs(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
    start: Mapping[str, jax.Array] | None = None,
    *,
    method: str,
) -> result.Draws:
    """One of the methods of ``metropolis.RULES``, see `impute`; from ``start`` as in `run` where it is given."""
    key_start, key_run = jax.random.split(rng_key)
    rule = metropolis.RULES[method]
    if start is None:
        # one call for each half, as the other methods make: compiled once for all
        starts = [
            resampling.start(key, program, x, observed, options["num_chains"])
            for key in jax.random.split(key_start, 1 + rule.adaptive)
        ]
        start = jax.tree.map(lambda *parts: jnp.concatenate(parts), *starts)
    completed, latents, values, accept_prob = run(
        key_run,
        program,
        x,
        observed,
        start,
        rule=rule,
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        progress=progress,
    )
    by_chain = {name: np.asarray(jnp.swapaxes(value, 0, 1)) for name, value in latents.items()}
    stats, said = result.chain_stats(
        np.asarray(jnp.swapaxes(values, 0, 1)),
        acceptance_rate=np.asarray(accept_prob) if rule.corrected else None,
    )
    return result.Draws(np.asarray(jnp.swapaxes(completed, 0, 1)), by_chain, stats, said)


class _Progress(NamedTuple):
    state: State
    available: jax.Array
    accept_prob: jax.Array


class _Stores(NamedTuple):
    x: jax.Array
    latents: dict[str, jax.Array]
    log_joint: jax.Array


def _repeat(array: jax.Array, times: int) -> jax.Array:
    return jnp.tile(array, (times, *(1,) * (array.ndim - 1)))


def _where(rows: jax.Array, first: Mapping[str, jax.Array], second: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: resampling.where(rows, value, second[name]) for name, value in first.items()}


def _impute(rng_key: jax.Array, rows: Rows, latents: Mapping[str, jax.Array]) -> jax.Array:
    drawn = decode(rng_key, rows.program.model, latents, len(rows.x))
    return jnp.where(rows.observed, rows.x, drawn.astype(rows.x.dtype))


@eqx.filter_jit
def _begin(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    start: dict[str, jax.Array],
    rule: Rule,
    num_warmup: int,
    num_samples: int,
) -> tuple[Rows, _Progress, _Stores]:
    key_init, key_history = jax.random.split(rng_key)
    chains = len(next(iter(start.values()))) // (1 + rule.adaptive)
    rows = Rows(
        program,
        _repeat(jnp.where(observed, x, jnp.zeros((), x.dtype)), chains),
        _repeat(observed, chains),
    )
    first, second = (
        {name: value[part].reshape(-1, *value.shape[2:]) for name, value in start.items()}
        for part in (slice(chains), slice(chains, None))
    )
    state = init(key_init, rows, first)
    # the adaptive method proposes from all that it has imputed: its draws are the last of its history
    size = 1 + num_warmup + num_samples if rule.adaptive else num_samples
    kept = jnp.zeros((size, *state.x.shape), state.x.dtype)
    if rule.adaptive:
        kept = kept.at[0].set(_impute(key_history, rows, second))
    empty = {name: jnp.zeros((num_samples, *value.shape), value.dtype) for name, value in first.items()}
    stores = _Stores(kept, empty, jnp.zeros((num_samples, *state.log_joint.shape), state.log_joint.dtype))
    available = jnp.ones(state.log_joint.shape, jnp.int32)
    return rows, _Progress(state, available, jnp.zeros_like(state.log_joint)), stores


def _forward(
    arguments: tuple[jax.Array, Rows, Rule, tuple[jax.Array, jax.Array, jax.Array], _Progress], stores: _Stores
) -> tuple[_Progress, _Stores]:
    rng_key, rows, rule, (first, last, num_warmup), so_far = arguments

    def iterate(i: Any, carry: tuple[_Progress, _Stores]) -> tuple[_Progress, _Stores]:
        (state, available, total), stores = carry
        key_noise, key_step = jax.random.split(jax.random.fold_in(rng_key, i))
        noise = draw_noise(key_noise, state.log_joint)
        source = state.x
        if rule.adaptive:
            source = stores.x[metropolis.place(noise.source, available), jnp.arange(len(available))]
        state, accepted, accept_prob = step_with_noise(key_step, noise, rows, state, source, rule)
        available = metropolis.released(accepted, available, i + 1)
        k = jnp.maximum(i - num_warmup, 0)
        stores = _Stores(
            stores.x.at[i + 1 if rule.adaptive else k].set(state.x),
            {name: store.at[k].set(state.latents[name]) for name, store in stores.latents.items()},
            stores.log_joint.at[k].set(state.log_joint),
        )
        return _Progress(state, available, total + jnp.where(i < num_warmup, 0, accept_prob)), stores

    return lax.fori_loop(first, last, iterate, (so_far, stores))


# the stores are donated: each chunk goes on writing into the same memory
_advance = eqx.filter_jit(_forward, donate="all-except-first")
