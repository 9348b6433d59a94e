"""log p(x) in NumPyro: exact where the program has no latents, else the importance-weighted bound."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen import checks
from deepgen.inference.likelihood import streaming
from deepgen.likelihoods.laws import is_missing
from deepgen.program import LogProb, ModelsMissingness, Program
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
    if isinstance(program, ModelsMissingness):
        observed = None
    complete = x if observed is None else jnp.where(observed, x, jnp.zeros((), x.dtype))

    def one(key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        latents, log_q = propose(key, program.guide, x)
        return latents, log_joint(program.model, latents, complete, observed) - log_q

    return jax.vmap(one)(jax.random.split(rng_key, num_particles))


def log_prob(rng_key: jax.Array, program: Program, x: Any, *, num_particles: int = 1000) -> LogProb:
    r"""log p(x) of each row, of what kind it is and with its Monte Carlo standard error.

    With latents it is the importance-weighted bound of K particles, in chunks of constant memory,

    .. math:: \log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \quad z_k \sim q(z \mid x),

    a lower bound of log p(x) in expectation, which it reaches as K grows (Burda, Grosse & Salakhutdinov 2016). Missing
    entries are integrated out: the value is then that of log p(x_observed).

    Args:
        rng_key: the key.
        program: the program.
        x: (n, *event_shape), NaN (negative integers) where missing.
        num_particles: K; a program without latents needs none.

    Returns:
        Value, standard error and kind.

    Raises:
        ValueError: data that the program does not take, or a ``num_particles`` that is not positive.
    """
    checks.at_least("num_particles", num_particles, 1)
    array = program.check_data(x, missing=True)
    missing = is_missing(array)
    particles = 1 if program.likelihood == "exact" else int(num_particles)
    rows, chunk = streaming.chunk_sizes(len(array), particles, int(np.prod(program.event_shape)))
    padded = -(-len(array) // rows) * rows
    index = np.minimum(np.arange(padded), len(array) - 1)
    batches = array[index].reshape(-1, rows, *program.event_shape)
    observed = (~missing)[index].reshape(batches.shape) if missing.any() else None
    value, stderr = _log_prob(
        rng_key,
        program,
        jnp.asarray(batches),
        None if observed is None else jnp.asarray(observed),
        particles,
        chunk,
    )
    return LogProb(np.asarray(value)[: len(array)], np.asarray(stderr)[: len(array)], program.likelihood)


@eqx.filter_jit
def _log_prob(
    rng_key: jax.Array, program: Any, batches: jax.Array, observed: jax.Array | None, particles: int, chunk: int
) -> tuple[jax.Array, jax.Array]:
    def rows(item: tuple[jax.Array, jax.Array, jax.Array | None]) -> tuple[jax.Array, jax.Array]:
        key, x, seen = item

        def step(sums: streaming.Sums, start: jax.Array) -> tuple[streaming.Sums, None]:
            _, weights = log_weights(jax.random.fold_in(key, start), program, x, seen, chunk)
            counted = start + jnp.arange(chunk) < particles
            return streaming.add(sums, jnp.where(counted[:, None], weights, -jnp.inf)), None

        like = jnp.zeros(len(x))
        sums, _ = lax.scan(step, streaming.empty(like), jnp.arange(0, particles, chunk))
        return streaming.log_mean(sums, particles)

    keys = jax.random.split(rng_key, len(batches))
    value, stderr = lax.map(rows, (keys, batches, observed))
    return value.reshape(-1), stderr.reshape(-1)
