"""What the programs of this room have in common in NumPyro: declaring, showing data to an encoder, decoding."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.likelihoods import laws
from deepgen.models.vae.hierarchy import Level
from deepgen.program.said import is_complete


def features(observation: Any, fill: jax.Array, x: Any) -> tuple[jax.Array, jax.Array]:
    """The features that an encoder is shown.

    Args:
        observation: the law of a datum.
        fill: (*feature_shape) what is shown where x is missing.
        x: (n, *event_shape), NaN (negative integers) where missing.

    Returns:
        The features and whether each is observed, (n, *feature_shape).
    """
    x = jnp.asarray(x)
    shown = observation.features(x).astype(fill.dtype)
    if is_complete():
        return shown, jnp.ones(shown.shape, bool)
    absent = jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.floating) else x < 0
    absent = observation.feature_mask(absent)
    return jnp.where(absent, fill, shown), ~absent


def outputs(observation: Any, decoder: Any, z: jax.Array) -> jax.Array:
    """A decoder's numbers in the shape in which the law takes them.

    Args:
        observation: the law of a datum.
        decoder: the network.
        z: (..., latent_dim).

    Returns:
        (..., *outputs_shape).

    Raises:
        ValueError: another number of numbers than the law takes.
    """
    found = decoder(z)
    return found.reshape(laws.output_shape(observation, found.shape, z.shape[:-1]))


def levels(program: Any, x: jax.Array, y: jax.Array | None = None) -> tuple[Level, ...]:
    """`levels_given`, compiled, as NumPy arrays."""
    return jax.tree.map(np.asarray, _levels(program, x, y))


def levels_given(program: Any, x: jax.Array, y: jax.Array | None) -> tuple[Level, ...]:
    """A program's ``levels``, given labels where there are some."""
    return program.levels(x) if y is None else program.levels(x, y)


_levels = eqx.filter_jit(levels_given)
