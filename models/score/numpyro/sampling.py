"""Draws along scores in NumPyro, each method one compiled loop: down the reverse diffusion, or down a ladder."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from deepgen.inference.langevin import ladder, overdamped
from deepgen.models.score import levels, sdes

__all__ = ["Clamp", "annealed_langevin", "predictor_corrector", "reverse_diffusion"]

Scaled = Callable[[jax.Array, jax.Array], jax.Array]


class Clamp(NamedTuple):
    """Entries that are known.

    Attributes:
        x: (n, d) data, any number where missing.
        observed: (n, d) booleans.
    """

    x: Any
    observed: Any


def reverse_diffusion(rng_key: jax.Array, sde: sdes.Diffusion, scaled: Scaled, x: jax.Array, num_steps: int) -> Any:
    """Draws by Euler and Maruyama down the reverse diffusion, and the last noise taken away.

    Args:
        rng_key: the key.
        sde: the diffusion.
        scaled: (x, t) to σ s(x, t).
        x: (n, d) draws of the prior.
        num_steps: from t = 1 to t_min.

    Returns:
        (n, d).
    """
    times = jnp.asarray(sdes.grid(sde, num_steps), x.dtype)

    def step(x: jax.Array, at: Any) -> tuple[jax.Array, None]:
        key, t, t_next = at
        noise = jax.random.normal(key, x.shape, x.dtype)
        return sdes.reverse_step(sde, x, t, t_next, scaled(x, t), noise), None

    x, _ = lax.scan(step, x, (jax.random.split(rng_key, num_steps), times[:-1], times[1:]))
    return sdes.denoised(sde, x, times[-1], scaled(x, times[-1]))


def predictor_corrector(
    rng_key: jax.Array, rungs: levels.Rungs, scaled: Scaled, x: jax.Array, clamp: Clamp | None = None
) -> jax.Array:
    """Draws down a ladder: to each level by the reverse diffusion, there corrected by a Langevin step; then denoised.

    Known entries are those of the data at the level's own noise.

    Song et al. 2021, algorithms 2 and 4, and their section on imputation.

    Args:
        rng_key: the key.
        rungs: the ladder.
        scaled: (x, ρ) to ρ s(x, ρ).
        x: (n, d) at the first level's noise.
        clamp: what is known.

    Returns:
        (n, d).
    """
    rho = jnp.asarray(rungs.rho, x.dtype)

    def step(x: jax.Array, at: Any) -> tuple[jax.Array, None]:
        key, now, after = at
        keys = jax.random.split(key, 4)
        x = ladder.predict(x, scaled(x, now) / now, now, after, jax.random.normal(keys[0], x.shape, x.dtype))
        x = _clamped(keys[1], x, after, clamp)
        noise = jax.random.normal(keys[2], x.shape, x.dtype)
        x = overdamped.propose(x, scaled(x, after) / after, levels.corrector_step(after, x), noise)
        return _clamped(keys[3], x, after, clamp), None

    start_key, run_key = jax.random.split(rng_key)
    x = _clamped(start_key, x, rho[0], clamp)
    x, _ = lax.scan(step, x, (jax.random.split(run_key, len(rho) - 1), rho[:-1], rho[1:]))
    return _end(x, scaled, rho[-1], clamp)


def annealed_langevin(
    rng_key: jax.Array, rungs: levels.Rungs, scaled: Scaled, x: jax.Array, clamp: Clamp | None = None
) -> jax.Array:
    """Draws down a ladder by Langevin steps on each of its levels, then denoised.

    Song & Ermon 2019, Generative modeling by estimating gradients of the data distribution.

    Args:
        rng_key: the key.
        rungs: the ladder and its steps.
        scaled: (x, ρ) to ρ s(x, ρ).
        x: (n, d) at the first level's noise.
        clamp: what is known: data noised to each level anew at each step.

    Returns:
        (n, d).
    """
    rho, steps = jnp.asarray(rungs.rho, x.dtype), jnp.asarray(rungs.step_size, x.dtype)

    def level(x: jax.Array, at: Any) -> tuple[jax.Array, None]:
        key, now, size = at

        def step(x: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
            clamp_key, move_key = jax.random.split(key)
            x = _clamped(clamp_key, x, now, clamp)
            noise = jax.random.normal(move_key, x.shape, x.dtype)
            return overdamped.propose(x, scaled(x, now) / now, levels.rows(size, x), noise), None

        return lax.scan(step, x, jax.random.split(key, levels.LANGEVIN_STEPS))

    last_key, run_key = jax.random.split(rng_key)
    x, _ = lax.scan(level, x, (jax.random.split(run_key, len(rho)), rho, steps))
    return _end(_clamped(last_key, x, rho[-1], clamp), scaled, rho[-1], clamp)


def _clamped(rng_key: jax.Array, x: jax.Array, rho: jax.Array, clamp: Clamp | None) -> jax.Array:
    if clamp is None:
        return x
    return jnp.where(clamp.observed, clamp.x + rho * jax.random.normal(rng_key, x.shape, x.dtype), x)


def _end(x: jax.Array, scaled: Scaled, rho: jax.Array, clamp: Clamp | None) -> jax.Array:
    x = ladder.denoise(x, scaled(x, rho) / rho, rho)
    return x if clamp is None else jnp.where(clamp.observed, clamp.x, x)
