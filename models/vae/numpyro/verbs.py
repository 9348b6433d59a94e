"""What can be asked of a VAE in NumPyro: reconstructions, paths between data, and which latents are in use."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen import checks
from deepgen.models.vae import activity, interpolation
from deepgen.models.vae.numpyro.program import VAE, encode


def reconstruct(rng_key: jax.Array, program: VAE, x: Any) -> jax.Array:
    """E[x' | z] at one draw z ~ q(z | x) of each row.

    Args:
        rng_key: the key.
        program: the VAE.
        x: (n, *event_shape); missing entries allowed.

    Returns:
        (n, *event_shape).

    Raises:
        ValueError: data that the program does not take.
    """
    return _reconstruct(rng_key, program, jnp.asarray(program.check_data(x, missing=True)))


def interpolate(program: VAE, start: Any, end: Any, num_points: int = 8, *, kind: str = "spherical") -> jax.Array:
    """E[x | z] along a path between the posterior means of two (batches of) data.

    Args:
        program: the VAE.
        start: (n, *event_shape).
        end: (n, *event_shape).
        num_points: how many points, both ends counted.
        kind: ``"spherical"`` (White 2016) or ``"linear"``.

    Returns:
        (num_points, n, *event_shape).

    Raises:
        ValueError: fewer than two points, an unknown kind, or data that the program does not take.
    """
    checks.at_least("num_points", num_points, 2)
    checks.one_of("kind", kind, interpolation.KINDS)
    a, b = (jnp.asarray(program.check_data(x, missing=True)) for x in (start, end))
    checks.equal_shapes("start and end", a.shape, b.shape)
    return _interpolate(program, a, b, num_points, kind)


def active_units(program: VAE, x: Any, *, threshold: float = 0.01) -> activity.ActiveUnits:
    """Which latents the posterior of ``x`` uses (Burda, Grosse & Salakhutdinov 2016).

    Args:
        program: the VAE.
        x: (n, *event_shape), two rows or more.
        threshold: the variance of a posterior mean above which a latent is active.

    Returns:
        The activity of every latent.

    Raises:
        ValueError: data that the program does not take.
    """
    loc, scale = encode(program, jnp.asarray(program.check_data(x, missing=True)))
    return activity.active_units(np.asarray(loc), np.asarray(scale), threshold)


@eqx.filter_jit
def _reconstruct(rng_key: jax.Array, program: VAE, x: jax.Array) -> jax.Array:
    return program.decode(program.posterior_of(x).sample(rng_key))


@eqx.filter_jit
def _interpolate(program: VAE, start: jax.Array, end: jax.Array, num_points: int, kind: str) -> jax.Array:
    weights = jnp.linspace(0.0, 1.0, num_points, dtype=program.fill.dtype)
    return program.decode(interpolation.interpolate(program.encode(start)[0], program.encode(end)[0], weights, kind))
