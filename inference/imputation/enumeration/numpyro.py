"""Completions weighed by a NumPyro program."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.imputation import result
from deepgen.inference.imputation.enumeration import completions


def weigh(sequence: Any, x: np.ndarray, observed: np.ndarray) -> completions.Weighed:
    """The exact log density of every completion of the rows.

    Args:
        sequence: the factors of the program.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.

    Returns:
        The densities.

    Raises:
        ValueError: entries that are not discrete, or rows with too many completions.
    """
    completions.refuse(observed, sequence.values())
    return completions.weigh(
        lambda rows, owner: _log_prob(sequence, jnp.asarray(rows), jnp.asarray(owner)), x, observed, sequence.values()
    )


def enumerate_missing(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """All completions weighed exactly, see `impute`."""
    sequence, seen = program.sequential(), np.asarray(observed)
    weighed = weigh(sequence, np.asarray(x), seen)
    uniforms = jax.random.uniform(rng_key, (options["num_chains"], options["num_samples"], len(x)))
    return completions.draws(weighed, np.asarray(x), seen, sequence.values(), np.asarray(uniforms))


@eqx.filter_jit
def _log_prob(sequence: Any, x: jax.Array, rows: jax.Array) -> jax.Array:
    return sequence.log_prob(x, rows)
