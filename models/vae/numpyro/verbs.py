"""What can be asked of a VAE in NumPyro: reconstructions, paths between data, and which latents are in use."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen import checks
from deepgen.models.vae import activity, interpolation
from deepgen.models.vae.numpyro import parts
from deepgen.program.numpyro import propose


def reconstruct(rng_key: jax.Array, program: Any, x: Any) -> jax.Array:
    """E[x' | z] at one draw z ~ q(z | x) of each row, through all levels.

    Args:
        rng_key: the key.
        program: the VAE, of one level or more.
        x: (n, *event_shape); missing entries allowed.

    Returns:
        (n, *event_shape).

    Raises:
        ValueError: data that the program does not take.
    """
    return _reconstruct(rng_key, program, jnp.asarray(program.check_data(x, missing=True)))


def interpolate(
    program: Any, start: Any, end: Any, num_points: int = 8, *, kind: str = "spherical", level: int = 1
) -> jax.Array:
    """E[x | z] along a path between the posterior means of two (batches of) data.

    Args:
        program: the VAE, of one level or more.
        start: (n, *event_shape).
        end: (n, *event_shape).
        num_points: how many points, both ends counted.
        kind: ``"spherical"`` (White 2016) or ``"linear"``.
        level: the level of the path, from 1, the one that x depends on. The levels below the path follow it at the
            means of p(z_k | z_{k+1}), so that its ends are then what that level keeps of the data.

    Returns:
        (num_points, n, *event_shape).

    Raises:
        ValueError: fewer than two points, an unknown kind or level, or data that the program does not take.
    """
    checks.at_least("num_points", num_points, 2)
    checks.one_of("kind", kind, interpolation.KINDS)
    checks.one_of("level", level, range(1, len(program.sites) + 1))
    a, b = (jnp.asarray(program.check_data(x, missing=True)) for x in (start, end))
    checks.equal_shapes("start and end", a.shape, b.shape)
    return _interpolate(program, a, b, num_points, kind, level)


def active_units(program: Any, x: Any, *, threshold: float = 0.01) -> activity.ActiveUnits:
    """Which latents of which level the posterior of ``x`` uses (Burda, Grosse & Salakhutdinov 2016).

    Args:
        program: the VAE, of one level or more.
        x: (n, *event_shape), two rows or more.
        threshold: the variance of a posterior mean above which a latent is active.

    Returns:
        The activity of every latent.

    Raises:
        ValueError: data that the program does not take.
    """
    return activity.of_levels(parts.levels(program, jnp.asarray(program.check_data(x, missing=True))), threshold)


@eqx.filter_jit
def _reconstruct(rng_key: jax.Array, program: Any, x: jax.Array) -> jax.Array:
    latents, _ = propose(rng_key, program.guide, x)
    return program.decode(latents[program.sites[0]])


@eqx.filter_jit
def _interpolate(program: Any, start: jax.Array, end: jax.Array, num_points: int, kind: str, level: int) -> jax.Array:
    weights = jnp.linspace(0.0, 1.0, num_points, dtype=program.fill.dtype)
    first, last = (program.levels(x)[level - 1].loc for x in (start, end))
    path = interpolation.interpolate(first, last, weights, kind)
    return program.decode(path if level == 1 else program.descend(path, level))
