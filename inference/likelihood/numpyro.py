"""log p(x) in NumPyro: exact where the program has no latents, else the importance-weighted bound."""

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
from deepgen.inference.likelihood.weighted import marginal
from deepgen.likelihoods.laws import is_missing
from deepgen.ode.divergence import average
from deepgen.program import (
    Estimates,
    Labelled,
    LogProb,
    ModelsMissingness,
    Program,
    TakesHoles,
    check_given,
    given,
    takes_labels,
)
from deepgen.program.invertible import Invertible, Rounded
from deepgen.program.numpyro import log_joint, propose
from deepgen.program.sequence import Sequential
from deepgen.program.unnormalised import HasUnnormalisedLaw


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

    Where the program estimates its density otherwise (`ScoreModel`: by the divergence of its probability flow along
    random signs), it is the mean of K estimates of complete rows, with its standard error (NaN where K is 1).

    Of an energy-based program, which has no latents, log Z is estimated by `log_partition` with K chains, and its
    standard error is that of every row (for each class, where these are given). Missing entries are refused there, and
    of a `Dequantized` program.

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
        ValueError: data or labels that the program does not take, or a ``num_particles`` that is not positive;
            or the density of a row is NaN.

    Warns:
        UserWarning: where the weights of some rows of an invertible program are not to be trusted.
    """
    found = _of_its_kind(rng_key, program, x, y, num_particles)
    checks.numbers("log_prob", np.isnan(found.value))
    return found


def _of_its_kind(rng_key: jax.Array, program: Program, x: Any, y: Any, num_particles: int | None) -> LogProb:
    if isinstance(program, Estimates):
        return LogProb(*_estimates(rng_key, program, x, y, num_particles), program.likelihood)
    particles = _usual(num_particles)
    if isinstance(program, HasUnnormalisedLaw):
        checks.at_least("num_particles", particles, 1)
        array = program.check_data(x)
        labels = None if y is None else check_given(program, y, len(array))
        return partition.log_prob(rng_key, program, array, particles, labels)
    if isinstance(program, Invertible) and is_missing(program.check_data(x, missing=True)).any():
        return _marginal(rng_key, program, x, y, particles)
    if isinstance(program, Sequential):
        array = program.check_data(x, missing=True)
        seen = ~is_missing(array)
        if not seen.all():
            checks.at_least("num_particles", particles, 1)
            sequence: Any = given(program, y, len(array)).sequential()
            found = log_evidence(rng_key, sequence, array, seen, int(particles))
            return LogProb(found.value, found.stderr, "exact" if found.exact else "estimate")
    value, stderr = _values(rng_key, program, x, y, particles, by_class=False)
    return LogProb(value, stderr, program.likelihood)


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
    value, stderr = _values(rng_key, program, x, None, num_particles, by_class=True)
    return LogProb(value, stderr, program.likelihood)


def _marginal(rng_key: jax.Array, program: Any, x: Any, y: Any, num_particles: int) -> LogProb:
    checks.at_least("num_particles", num_particles, 1)
    array = program.check_data(x, missing=True)
    view, missing = given(program, y, len(array)), is_missing(array)
    found = neighbours.weigh(rng_key, view.chart(), jnp.asarray(array), jnp.asarray(~missing), int(num_particles))
    return marginal(found.log_weights, found.judged, missing)


def _values(
    rng_key: jax.Array, program: Any, x: Any, y: Any, num_particles: int, *, by_class: bool
) -> tuple[np.ndarray, np.ndarray]:
    checks.at_least("num_particles", num_particles, 1)
    array = program.check_data(x, missing=not isinstance(program, Rounded))
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


def _usual(num_particles: int | None) -> int:
    return 1000 if num_particles is None else num_particles


def _estimates(
    rng_key: jax.Array, program: Any, x: Any, y: Any, num_particles: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of a program's own estimates of each row, and its standard error."""
    count = program.probes if num_particles is None else num_particles
    checks.at_least("num_particles", count, 1)
    array = program.check_data(x)
    context = None if y is None else check_given(program, y, len(array))
    rows = min(len(array), streaming.estimated_rows(int(count), int(np.prod(program.event_shape))))
    index = np.minimum(np.arange(-(-len(array) // rows) * rows), len(array) - 1)
    batches = array[index].reshape(-1, rows, *program.event_shape)
    told = None if context is None else jnp.asarray(context[index].reshape(-1, rows, *context.shape[1:]))
    value, stderr = _estimate(rng_key, program, jnp.asarray(batches), told, int(count))
    return np.asarray(value)[: len(array)], np.asarray(stderr)[: len(array)]


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
