"""Programs measured on held-out rows in NumPyro: compared by ArviZ, and split into rate and distortion."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen import checks
from deepgen.evaluation.loo import comparison, estimated, held_out, refuse_mixture, refuse_one
from deepgen.evaluation.rate_distortion import RateDistortion, rate_distortion_table, refuse_unsplit
from deepgen.inference.likelihood import streaming
from deepgen.inference.likelihood.numpyro import log_prob, log_weights
from deepgen.inference.likelihood.weighted import rows_and_way
from deepgen.likelihoods.laws import is_missing
from deepgen.program import Program, TakesHoles, check_program
from deepgen.program.numpyro import log_densities, propose

if TYPE_CHECKING:
    import pandas


def compare(
    rng_key: jax.Array, programs: Mapping[str, Program], x: Any, *, num_particles: int | None = None
) -> "pandas.DataFrame":
    r"""ArviZ's comparison (``az.compare``) of programs by log p(x) of held-out rows.

    Each row's log p(x) is that of ``log_prob``: exact, an estimate, or the importance-weighted bound of K particles,
    whose error differs between programs. Where a row's importance weights have a Pareto k above 0.7 (and few of them
    are effective) its value is too low; the table counts such rows of each program, and a warning says so. The error of
    an energy-based program's log Z is that of all rows together, and no part of ``se`` and ``dse``.

    .. math:: \mathrm{elpd} = \sum_i \log p(x_i), \qquad
        \mathrm{dse} = \sqrt{n \operatorname{Var}_i(\log p_a(x_i) - \log p_b(x_i))}

    Vehtari, Gelman & Gabry 2017 (the comparison); Yao, Vehtari, Simpson & Gelman 2018 (the stacking weights).

    Args:
        rng_key: the key.
        programs: by name, two or more, fitted to other rows.
        x: (n, *event_shape), two rows or more, NaN (negative integers) where missing.
        num_particles: K, as in ``log_prob``; None for 1000, or for as many estimates as a program takes by itself.

    Returns:
        A line for each program, best first, with the columns of ``az.compare``, untrusted_rows and kind.

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: fewer than two programs, an `MNAR` beside what is none, data that a program does not take, or a
            ``num_particles`` that is not positive.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    checks.random_key(rng_key)
    for program in programs.values():
        check_program(program)
    count = 1000 if num_particles is None else int(num_particles)
    checks.at_least("num_particles", count, 1)
    refuse_one(programs)
    refuse_mixture(programs)
    rows = {name: rows_and_way(program, x) for name, program in programs.items()}
    scores = {}
    for name, program in programs.items():
        array, way = rows[name]
        if way != "guide":
            scores[name] = estimated(log_prob(rng_key, program, x, num_particles=num_particles))
            continue
        particles = 1 if program.likelihood == "exact" else count
        batches, observed, n = _batches(program, array, particles)
        weights = _log_weights(rng_key, program, batches, observed, particles)
        scores[name] = held_out(np.asarray(weights).reshape(-1, particles)[:n], program.likelihood)
    return comparison(scores)


def rate_distortion(rng_key: jax.Array, program: Program, x: Any, *, num_particles: int = 100) -> RateDistortion:
    r"""The two parts of a row's -ELBO: what the latents tell of it, and what they leave out.

    .. math:: R = E_q[\log q(z \mid x) - \log p(z)] = KL(q(z \mid x) \,\|\, p(z)), \qquad
        D = -E_q \log p(x \mid z), \qquad R + D = -\mathrm{ELBO} \ge -\log p(x)

    by the mean over draws from the guide, the same for both (Alemi et al. 2018, "Fixing a broken ELBO"). Missing
    entries are left out of D.

    Args:
        rng_key: the key.
        program: the program.
        x: (n, *event_shape), NaN (negative integers) where missing.
        num_particles: draws of each row.

    Returns:
        Both, for each row in nats.

    Raises:
        TypeError: no key, or no program where there should be one.
        ValueError: a program without latents or one that models which entries are observed, data that the program does
            not take, or a ``num_particles`` that is not positive.
    """
    checks.random_key(rng_key)
    check_program(program)
    checks.at_least("num_particles", num_particles, 1)
    refuse_unsplit(program)
    batches, observed, n = _batches(program, rows_and_way(program, x)[0], 1)
    rate, distortion = _rate_distortion(rng_key, program, batches, observed, int(num_particles))
    return RateDistortion(np.asarray(rate).reshape(-1)[:n], np.asarray(distortion).reshape(-1)[:n])


def rate_distortion_curve(
    rng_key: jax.Array, programs: Mapping[Hashable, Program], x: Any, *, num_particles: int = 100
) -> "pandas.DataFrame":
    """Rate and distortion of several programs on the same rows, for instance one for each beta.

    Args:
        rng_key: the key; every program gets the same.
        programs: by beta, or by name.
        x: as in `rate_distortion`.
        num_particles: as in `rate_distortion`.

    Returns:
        What ``evaluation.rate_distortion_table`` gives: means in nats a row, with standard errors.

    Raises:
        ValueError: no programs, and what `rate_distortion` refuses.
    """
    return rate_distortion_table(
        {name: rate_distortion(rng_key, program, x, num_particles=num_particles) for name, program in programs.items()}
    )


def _batches(program: Program, array: np.ndarray, particles: int) -> tuple[jax.Array, jax.Array | None, int]:
    """The rows in batches that fit the memory, the last one filled up; what is observed of them; their number."""
    missing = is_missing(array)
    rows, _ = streaming.chunk_sizes(len(array), particles, int(np.prod(program.event_shape)))
    index = np.minimum(np.arange(-(-len(array) // rows) * rows), len(array) - 1)
    shape = (-1, rows, *program.event_shape)
    observed = jnp.asarray((~missing)[index].reshape(shape)) if missing.any() else None
    return jnp.asarray(array[index].reshape(shape)), observed, len(array)


@eqx.filter_jit
def _log_weights(
    rng_key: jax.Array, program: Any, batches: jax.Array, observed: jax.Array | None, particles: int
) -> jax.Array:
    """(batches, rows, particles)."""
    chunk = min(particles, 64)

    def rows(item: tuple[jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        key, x, seen = item

        def step(_: None, key: jax.Array) -> tuple[None, jax.Array]:
            return None, log_weights(key, program, x, seen, chunk)[1]

        _, found = lax.scan(step, None, jax.random.split(key, -(-particles // chunk)))
        return found.reshape(-1, len(x))[:particles].T

    return lax.map(rows, (jax.random.split(rng_key, len(batches)), batches, observed))


@eqx.filter_jit
def _rate_distortion(
    rng_key: jax.Array, program: Any, batches: jax.Array, observed: jax.Array | None, particles: int
) -> tuple[jax.Array, jax.Array]:
    """(batches, rows) each."""

    def rows(item: tuple[jax.Array, jax.Array, jax.Array | None]) -> tuple[jax.Array, jax.Array]:
        key, x, seen = item
        seen = None if isinstance(program, TakesHoles) else seen
        complete = x if seen is None else jnp.where(seen, x, jnp.zeros((), x.dtype))

        def step(sums: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
            latents, log_q = propose(key, program.guide, x)
            densities = log_densities(program.model, latents, complete, seen)
            distortion = -densities.pop("x")
            return (sums[0] + log_q - sum(densities.values()), sums[1] + distortion), None

        zero = jnp.zeros(len(x))
        (rate, distortion), _ = lax.scan(step, (zero, zero), jax.random.split(key, particles))
        return rate / particles, distortion / particles

    return lax.map(rows, (jax.random.split(rng_key, len(batches)), batches, observed))
