"""Missing entries drawn step by step in NumPyro: one compiled loop for all rows and particles."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from deepgen.handlers.sites.numpyro import ObservedEntries, interior
from deepgen.inference.imputation import result
from deepgen.inference.imputation.sequential import clouds
from deepgen.inference.smc import numpyro as particles
from deepgen.program.sequence import steps

THRESHOLD = 0.5
"""The share of the particles below which their ESS leads to resampling."""


def complete(
    rng_key: Array,
    sequence: Any,
    x: Array,
    observed: Array,
    num_particles: int,
    num_clouds: int = 1,
    threshold: float = THRESHOLD,
) -> clouds.Clouds:
    """Clouds of particles that complete each row.

    Args:
        rng_key: the key.
        sequence: the factors of the program.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        num_particles: of each cloud.
        num_clouds: independent of each other.
        threshold: the share of particles below which the ESS leads to resampling; 0 never.

    Returns:
        The clouds.

    Raises:
        ValueError: steps observed in part, where the law of their entries is joint.
    """
    mask, order = np.asarray(observed), sequence.order
    clouds.refuse_in_part(mask, order, sequence.joint())
    n, event_shape = len(x), x.shape[1:]
    total = num_clouds * n
    one = jax.eval_shape(sequence.start, jax.ShapeDtypeStruct((1,), jnp.int32))
    kept = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(one)) + 4 * order.size
    size = clouds.chunk(total, kept * num_particles)
    rows = np.arange(-(-total // size) * size) % n
    values = steps.by_step(np.where(mask, np.asarray(x), np.zeros((), x.dtype)), order)
    seen = steps.by_step(mask, order)
    first = steps.first_missing(mask, order)
    parts = []
    for i, key in enumerate(jax.random.split(rng_key, len(rows) // size)):
        chosen = rows[i * size : (i + 1) * size]
        inputs = jnp.arange(len(order)), jnp.asarray(values[:, chosen]), jnp.asarray(seen[:, chosen])
        found = _fill(key, sequence, jnp.asarray(chosen), inputs, num_particles, threshold)
        # the particles at the start and after T steps: those of the first missing entry are one later
        when = np.minimum(first[chosen] + 1, len(order))
        parts.append(
            (
                steps.by_place(np.asarray(found.history[1:]), order, event_shape),
                np.asarray(found.log_weights),
                np.asarray(found.log_evidence),
                np.asarray(found.lineage)[when, np.arange(len(chosen))],
                np.asarray(found.ess.min(0)),
                np.asarray(found.resampled.sum(0)),
            )
        )
    joined = [np.concatenate(part)[:total] for part in zip(*parts, strict=True)]
    return clouds.Clouds(*(part.reshape(num_clouds, n, *part.shape[1:]) for part in joined))


def complete_all(
    rng_key: Array,
    sequence: Any,
    x: Array,
    observed: Array,
    num_particles: int,
    num_clouds: int = 1,
    threshold: float = THRESHOLD,
) -> list[clouds.Clouds]:
    """What `complete` finds with each member of a mixture, which share the particles.

    Args:
        rng_key: the key.
        sequence: the factors of the program, or its mixture of them.
        x: as in `complete`.
        observed: as in `complete`.
        num_particles: of each cloud of all members together, rounded up to equal shares.
        num_clouds: as in `complete`.
        threshold: as in `complete`.

    Returns:
        Clouds of each member.

    Raises:
        ValueError: as `complete`.
    """
    share = -(-num_particles // len(sequence.members))
    keys = jax.random.split(rng_key, len(sequence.members))
    return [
        complete(key, member, x, observed, share, num_clouds, threshold)
        for key, member in zip(keys, sequence.members, strict=True)
    ]


def smc(
    rng_key: Array, program: Any, x: Array, observed: Array, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Sequential Monte Carlo, see `impute`."""
    key_run, key_draw = jax.random.split(rng_key)
    run = options["num_particles"], options["num_chains"]
    found = clouds.mix(complete_all(key_run, program.sequential(), x, observed, *run))
    shape = (options["num_chains"], len(x), options["num_samples"])
    return clouds.draws(found, np.asarray(jax.random.uniform(key_draw, shape)))


def exact(
    rng_key: Array, program: Any, x: Array, observed: Array, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """The missing entries drawn from the program after the observed ones, see `impute`."""
    sequence = program.sequential()
    for member in sequence.members:
        clouds.refuse_unless_last(np.asarray(observed), member.order, member.joint())
    key_run, key_member = jax.random.split(rng_key)
    chains, samples = options["num_chains"], options["num_samples"]
    count = chains * samples * len(sequence.members)
    found = complete_all(key_run, sequence, x, observed, count, threshold=0.0)
    drawn, evidence = clouds.direct(found, np.asarray(jax.random.uniform(key_member, (len(x), chains * samples))))
    drawn = np.moveaxis(drawn, 1, 0)
    stats = {"log_evidence": (("row",), evidence)}
    return result.Draws(drawn.reshape(chains, samples, *drawn.shape[1:]), {}, stats, {})


def observed_first(
    rng_key: Array, program: Any, x: Array, observed: Array, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """The missing entries drawn by a program that takes what is observed as decided first, see `impute`."""
    chains, samples = options["num_chains"], options["num_samples"]
    size = clouds.chunk(chains * samples, 4 * x.size)
    parts = [
        np.asarray(_clamped(key, program, x, observed, size))
        for key in jax.random.split(rng_key, -(-chains * samples // size))
    ]
    drawn = np.concatenate(parts)[: chains * samples].reshape(chains, samples, *x.shape)
    return result.Draws(drawn, {}, *clouds.of_missing(np.asarray(observed)))


@eqx.filter_jit
def _clamped(rng_key: Array, program: Any, x: Array, observed: Array, copies: int) -> Array:
    shape = (copies * len(x), *x.shape[1:])
    rows, seen = (jnp.broadcast_to(part, (copies, *x.shape)).reshape(shape) for part in (x, observed))
    return program.sample_given(rng_key, rows, seen).reshape(copies, *x.shape)


@eqx.filter_jit
def _fill(
    rng_key: Array, sequence: Any, rows: Array, inputs: Any, num_particles: int, threshold: float
) -> particles.Particles:
    dtype, entries = inputs[1].dtype, inputs[1].shape[2]
    weight = jnp.result_type(float)

    def unfold(tree: Any, shape: tuple[int, ...]) -> Any:
        return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), tree)

    def fold(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)

    def start(_: Array, shape: tuple[int, ...]) -> tuple[Any, Array]:
        cache = sequence.start(jnp.repeat(rows, num_particles))
        return {"cache": unfold(cache, shape), "value": jnp.zeros((*shape, entries), dtype)}, jnp.zeros(shape, weight)

    def move(key: Array, so_far: Any, item: Any) -> tuple[Any, Array]:
        t, value, seen = item
        shape = (len(rows), num_particles)
        law, cache = sequence.step(fold(so_far["cache"]), t, fold(so_far["value"]))
        value, seen = (
            jnp.broadcast_to(part[:, None], (*shape, entries)).reshape(len(rows) * num_particles, *law.event_shape)
            for part in (value, seen)
        )
        value = jnp.where(seen, value, law.sample(key).astype(dtype))
        log_factor = ObservedEntries(law, seen, interior(law, value)).log_prob(value)
        moved = {"cache": unfold(cache, shape), "value": value.reshape(*shape, entries)}
        return moved, log_factor.reshape(shape).astype(weight)

    return particles.smc(
        rng_key,
        start,
        move,
        inputs,
        num_particles=num_particles,
        batch_shape=(len(rows),),
        ess_threshold=threshold,
        collect=lambda so_far: so_far["value"],
    )
