"""Chains of an energy-based program in NumPyro: draws, and what they say of a fit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.models.ebm import recipe


@eqx.filter_jit
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
    """
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
    from_base, from_data = (np.asarray(part, dtype=np.float64) for part in _ends(program, jnp.asarray(complete)))
    return recipe.diagnose(from_base, from_data, recipe.WARMUP + recipe.STEPS)


@eqx.filter_jit
def _ends(program: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The energies -log f at the ends of chains from the base and from the data."""
    law = program.distribution()
    found = []
    for key, given in zip(jax.random.split(jax.random.key(0)), (None, x), strict=True):
        base_key, run_key = jax.random.split(key)
        first = law.base.sample(base_key, (len(x),)).astype(x.dtype) if given is None else given
        steps, warmup = recipe.STEPS, recipe.WARMUP
        start = first[:, None]
        run = law.kernel.run(run_key, law, start, num_warmup=warmup, num_samples=1, thinning=steps, progress=False)
        found.append(-run.log_density[0, :, 0])
    return found[0], found[1]
