"""log p(x) in NumPyro: exact where the program has no latents, else the importance-weighted bound."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro import handlers

from deepgen import checks
from deepgen.inference.imputation.neighbours import numpyro as neighbours
from deepgen.inference.likelihood import streaming
from deepgen.inference.likelihood.evidence.numpyro import log_evidence
from deepgen.inference.likelihood.partition import numpyro as partition
from deepgen.inference.likelihood.weighted import marginal, rows_and_way
from deepgen.likelihoods.laws import is_missing
from deepgen.ode.divergence import average
from deepgen.program import (
    Labelled,
    LogProb,
    ModelsMissingness,
    Program,
    TakesHoles,
    check_given,
    check_program,
    given,
    takes_labels,
)
from deepgen.program.numpyro import log_joint, propose


def log_weights(
    rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array | None, num_particles: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Draws from the guide and their log weights log p(x_observed, latents) - log q(latents | x).

    Args:
        rng_key: the key.
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape); where missing, as the guide wants it.
        observed: booleans of x's shape, or None where all is observed.
        num_particles: S.

    Returns:
        The latents by site, (S, n, ...) each, and the log weights (S, n).
    """
    if isinstance(program, ModelsMissingness | TakesHoles):
        observed = None
    complete = x if observed is None else jnp.where(observed, x, jnp.zeros((), x.dtype))

    def one(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        latents, log_q = propose(key, program.guide, x)
        return latents, log_joint(program.model, latents, complete, observed) - log_q

    return jax.vmap(one)(jax.random.split(rng_key, num_particles))


def class_log_weights(
    rng_key: jax.Array, program: Any, x: jax.Array, observed: jax.Array | None, num_particles: int, num_classes: int
) -> jax.Array:
    """Log weights log p(x_observed, y, latents) - log q(latents | x, y) of every class y, no class drawn.

    Args:
        rng_key: the key.
        program: what has ``model`` and ``guide``, with the site ``"y"``.
        x: (n, *event_shape); where missing, as the guide wants it.
        observed: booleans of x's shape, or None where all is observed.
        num_particles: S.
        num_classes: K.

    Returns:
        (S, K, n) nats.
    """
    complete = x if observed is None else jnp.where(observed, x, jnp.zeros((), x.dtype))

    def one(key: jax.Array, label: jax.Array) -> jax.Array:
        y = jnp.full(len(x), label)
        latents, log_q = propose(key, handlers.condition(program.guide, data={"y": y}), x)
        return log_joint(program.model, {**latents, "y": y}, complete, observed) - log_q

    keys = jax.random.split(rng_key, (num_particles, num_classes))
    return jax.vmap(lambda row: jax.vmap(one)(row, jnp.arange(num_classes)))(keys)


def log_prob(
    rng_key: jax.Array, program: Program, x: Any, *, y: Any = None, num_particles: int | None = None
) -> LogProb:
    r"""log p(x) of each row, of what kind it is and with its Monte Carlo standard error.

    With latents it is the importance-weighted bound of K particles, in chunks of constant memory,

    .. math:: \log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \quad z_k \sim q(z \mid x),

    a lower bound of log p(x) in expectation, which it reaches as K grows (Burda, Grosse & Salakhutdinov 2016). Missing
    entries are integrated out: the value is then that of log p(x_observed). Of a program with classes it is
    log p(x | y) where the class is given and log p(x), the classes summed out, where it is not. Of an invertible
    program (a flow) the missing entries of a row are integrated out by K weighted completions, as `impute` draws them
    by ``"importance"``: the log of their mean weight, of kind ``"estimate"``.

    Rows with holes of a program that decides entry after entry have an exact value where their missing entries come
    last in its order, or are discrete and so few that all completions can be counted; that of others is estimated by
    particles that complete them step by step (`impute`'s ``"smc"``), exp of it without bias. The kind is then
    ``"estimate"``.

    Where the program estimates its density otherwise (by the divergence of a flow along random signs: `ScoreModel`, and
    a `Flow` by a `CNF` with ``num_probes`` of more than 32 entries), it is the mean of K estimates of complete rows,
    with its standard error (NaN where K is 1).

    Of an energy-based program, which has no latents, log Z is estimated by `log_partition` with K chains, and its
    standard error is that of every row (for each class, where these are given); the estimate of log Z is in expectation
    a lower bound, and `log_partition` alone gives the upper one that closes the bracket. Missing entries are refused
    there, and of a `Dequantized` program. Of an `MNAR` the value bounds log p(x_observed, mask): the law of which
    entries are observed counts, so that it is less than log p(x_observed) of the program within.

    Args:
        rng_key: the key.
        program: the program.
        x: (n, *event_shape), NaN (negative integers) where missing.
        y: (n,) labels of the rows, or one for all, -1 where unknown, of a program with classes, None: all unknown; or
            (n, context_dim) the context of a conditional program.
        num_particles: K, or of each of eight clouds of a row with holes; None for 1000, or for as many estimates as the
            program takes by itself. A program without latents needs none for complete rows.

    Returns:
        Value, standard error and kind.

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: data or labels that the program does not take, or a ``num_particles`` that is not positive;
            or the density of a row is NaN.

    Warns:
        UserWarning: where the weights of some rows of an invertible program are not to be trusted.
    """
    checks.random_key(rng_key)
    check_program(program)
    array, way = rows_and_way(program, x)
    found = _WAYS[way](rng_key, program, array, y, num_particles)
    checks.numbers("log_prob", np.isnan(found.value))
    return found


def class_log_prob(rng_key: jax.Array, program: Any, x: Any, *, num_particles: int = 1000) -> LogProb:
    """log p(x, y) of each row and every class y, as `log_prob` bounds it.

    Args:
        rng_key: the key.
        program: a program with classes.
        x: (n, *event_shape), NaN (negative integers) where missing.
        num_particles: draws of the other latents for each class.

    Returns:
        Value and standard error (n, K), and kind.

    Raises:
        ValueError: data that the program does not take, a ``num_particles`` that is not positive, or no classes.
    """
    takes_labels(program, "program")
    array, _ = rows_and_way(program, x)
    value, stderr = _values(rng_key, program, array, None, num_particles, by_class=True)
    return LogProb(value, stderr, program.likelihood)


def _guided(rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    value, stderr = _values(rng_key, program, array, y, _count(num_particles), by_class=False)
    return LogProb(value, stderr, program.likelihood)


def _completed(rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    count, missing = _count(num_particles), is_missing(array)
    view = given(program, y, len(array))
    found = neighbours.weigh(rng_key, view.chart(), jnp.asarray(array), jnp.asarray(~missing), count)
    return marginal(found.log_weights, found.judged, missing)


def _stepwise(rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    sequence: Any = given(program, y, len(array)).sequential()
    found = log_evidence(rng_key, sequence, array, ~is_missing(array), _count(num_particles))
    return LogProb(found.value, found.stderr, "exact" if found.exact else "estimate")


def _normalised(rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    labels = None if y is None else check_given(program, y, len(array))
    return partition.log_prob(rng_key, program, array, _count(num_particles), labels)


def _own(rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    return LogProb(*program.own_log_prob(rng_key, array, y, num_particles))


def _values(
    rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int, *, by_class: bool
) -> tuple[np.ndarray, np.ndarray]:
    checks.at_least("num_particles", num_particles, 1)
    labels = None if y is None else check_given(program, y, len(array))
    missing = is_missing(array)
    particles = 1 if program.likelihood == "exact" else int(num_particles)
    classes = program.num_classes if isinstance(program, Labelled) else 1
    rows, chunk = streaming.chunk_sizes(len(array), particles, classes * int(np.prod(program.event_shape)))
    padded = -(-len(array) // rows) * rows
    index = np.minimum(np.arange(padded), len(array) - 1)
    batches = array[index].reshape(-1, rows, *program.event_shape)
    observed = (~missing)[index].reshape(batches.shape) if missing.any() else None
    value, stderr = _log_prob(
        rng_key,
        program,
        jnp.asarray(batches),
        None if observed is None else jnp.asarray(observed),
        None if labels is None else jnp.asarray(labels[index].reshape(-1, rows, *labels.shape[1:])),
        particles,
        chunk,
        by_class,
    )
    return np.asarray(value)[: len(array)], np.asarray(stderr)[: len(array)]


@eqx.filter_jit
def _log_prob(
    rng_key: jax.Array,
    program: Any,
    batches: jax.Array,
    observed: jax.Array | None,
    labels: jax.Array | None,
    particles: int,
    chunk: int,
    by_class: bool,
) -> tuple[jax.Array, jax.Array]:
    def rows(item: tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]) -> tuple[jax.Array, jax.Array]:
        key, x, seen, y = item
        view = program if y is None else program.given(y)

        def weigh(key: jax.Array) -> jax.Array:
            if not isinstance(program, Labelled):
                return log_weights(key, view, x, seen, chunk)[1]
            weights = class_log_weights(key, view, x, seen, chunk, program.num_classes)
            return weights.reshape(chunk, -1) if by_class else jax.nn.logsumexp(weights, axis=1)

        def step(sums: streaming.Sums, start: jax.Array) -> tuple[streaming.Sums, None]:
            weights = weigh(jax.random.fold_in(key, start))
            counted = start + jnp.arange(chunk) < particles
            return streaming.add(sums, jnp.where(counted[:, None], weights, -jnp.inf)), None

        like = jnp.zeros(len(x) * (program.num_classes if by_class else 1))
        sums, _ = lax.scan(step, streaming.empty(like), jnp.arange(0, particles, chunk))
        return streaming.log_mean(sums, particles)

    keys = jax.random.split(rng_key, len(batches))
    found = lax.map(rows, (keys, batches, observed, labels))
    if not by_class:
        return found[0].reshape(-1), found[1].reshape(-1)
    # (batch, K * rows) each, the class first
    value, stderr = (
        jnp.swapaxes(part.reshape(len(batches), program.num_classes, -1), 1, 2).reshape(-1, program.num_classes)
        for part in found
    )
    return value, stderr


def _count(num_particles: int | None, usual: int = 1000) -> int:
    count = usual if num_particles is None else num_particles
    checks.at_least("num_particles", count, 1)
    return int(count)


def _estimated(rng_key: jax.Array, program: Any, array: np.ndarray, y: Any, num_particles: int | None) -> LogProb:
    """The mean of a program's own estimates of each row, and its standard error."""
    count = _count(num_particles, program.probes)
    context = None if y is None else check_given(program, y, len(array))
    rows = min(len(array), streaming.estimated_rows(count, int(np.prod(program.event_shape))))
    index = np.minimum(np.arange(-(-len(array) // rows) * rows), len(array) - 1)
    batches = array[index].reshape(-1, rows, *program.event_shape)
    told = None if context is None else jnp.asarray(context[index].reshape(-1, rows, *context.shape[1:]))
    value, stderr = _estimate(rng_key, program, jnp.asarray(batches), told, count)
    return LogProb(np.asarray(value)[: len(array)], np.asarray(stderr)[: len(array)], "estimate")


@eqx.filter_jit
def _estimate(
    rng_key: jax.Array, program: Any, batches: jax.Array, context: jax.Array | None, count: int
) -> tuple[jax.Array, jax.Array]:
    def rows(item: tuple[jax.Array, jax.Array, jax.Array | None]) -> tuple[jax.Array, jax.Array]:
        key, x, told = item
        view = program if told is None else program.given(told)
        return average(view.estimate(key, x, count))

    found = lax.map(rows, (jax.random.split(rng_key, len(batches)), batches, context))
    return found[0].reshape(-1), found[1].reshape(-1)


_WAYS: dict[str, Callable[..., LogProb]] = {
    "guide": _guided,
    "estimates": _estimated,
    "partition": _normalised,
    "completions": _completed,
    "steps": _stepwise,
    "own": _own,
}
