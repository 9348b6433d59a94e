"""Chains of an energy-based program in NumPyro: draws, and what they say of a fit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.models.ebm import recipe
from deepgen.program.numpyro import refuse_nan


def draw(
    rng_key: jax.Array, program: Any, num_samples: int, num_warmup: int, num_iterations: int, num_steps: int
) -> jax.Array:
    """The ends of chains from the base, one draw each.

    Args:
        rng_key: the key.
        program: what has ``distribution``.
        num_samples: how many chains.
        num_warmup: iterations in which step sizes are adapted.
        num_iterations: iterations after that.
        num_steps: leapfrog steps, flips or sweeps of an iteration.

    Returns:
        (num_samples, *event_shape).

    Raises:
        ValueError: energies that are NaN: where they are, chains do not move.
    """
    found = _ends(rng_key, program, num_samples, num_warmup, num_iterations, num_steps)
    refuse_nan("energy", _log_density(program, found))
    return found


@eqx.filter_jit
def _log_density(program: Any, x: jax.Array) -> jax.Array:
    return program.distribution().log_prob(x)


@eqx.filter_jit
def _ends(
    rng_key: jax.Array, program: Any, num_samples: int, num_warmup: int, num_iterations: int, num_steps: int
) -> jax.Array:
    start_key, run_key = jax.random.split(rng_key)
    law = program.distribution()
    start = law.base.sample(start_key, (num_samples, 1)).astype(float)
    run = law.kernel.run(
        run_key,
        law,
        start,
        num_warmup=num_warmup,
        num_samples=1,
        num_steps=num_steps,
        thinning=num_iterations,
    )
    return run.x[0, :, 0]


def diagnose(program: Any, x: np.ndarray) -> list[Warning]:
    """A warning where chains from the base and from the data do not come to the same energies, else nothing.

    Args:
        program: what has ``distribution``.
        x: (n, *event_shape), checked, NaN where missing.
    """
    complete = x[~np.isnan(x).reshape(len(x), -1).any(1)][: recipe.DIAGNOSED]
    if not len(complete):
        return []
    keys = iter(jax.random.split(jax.random.key(0), recipe.ROUNDS + 1))
    law, count = program.distribution(), len(complete)
    data = jnp.asarray(complete)
    ends = jnp.concatenate([law.base.sample(next(keys), (count,)).astype(data.dtype), data])

    def advance() -> tuple[np.ndarray, np.ndarray]:
        nonlocal ends
        ends, energies = _round(next(keys), program, ends)
        found = np.asarray(energies, dtype=np.float64)
        return found[:count], found[count:]

    return recipe.watch(advance)


@eqx.filter_jit
def _round(rng_key: jax.Array, program: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The ends of chains, half of whose iterations adapt, and their energies -log f."""
    law, half = program.distribution(), recipe.ROUND // 2
    run = law.kernel.run(rng_key, law, x[:, None], num_warmup=half, num_samples=1, thinning=half, progress=False)
    return run.x[0, :, 0], -run.log_density[0, :, 0]
