"""Draws down a ladder of noise by a NumPyro program."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.inference.imputation import result
from deepgen.inference.imputation.descent import chunks


def descend(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
    *,
    method: str,
) -> result.Draws:
    """Independent draws of all rows, see `impute`; the program's ``complete`` makes them."""
    chains, samples = options["num_chains"], options["num_samples"]
    count, size = chains * samples, int(np.prod(x.shape[1:]))
    group = chunks.together(count, len(x), size)
    filled = jnp.where(observed, x, jnp.zeros((), x.dtype))
    keys = jax.random.split(rng_key, -(-count // group))
    drawn = np.asarray(_draws(keys, program, filled, observed, group, method, options["num_steps"]))
    shape = (chains, samples, *x.shape)
    return result.Draws(drawn.reshape(-1, *x.shape)[:count].reshape(shape), {}, chunks.stats(count, len(x)), {})


@eqx.filter_jit
def _draws(
    keys: jax.Array, program: Any, x: jax.Array, observed: jax.Array, group: int, method: str, num_steps: int
) -> jax.Array:
    rows, seen = (jnp.tile(part, (group, *(1,) * (x.ndim - 1))) for part in (x, observed))
    return lax.map(lambda key: program.complete(key, rows, seen, method=method, num_steps=num_steps), keys)
