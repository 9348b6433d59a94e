"""The evidence of rows with holes under a NumPyro program that decides step by step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.imputation.enumeration import numpyro as enumeration
from deepgen.inference.imputation.sequential import clouds
from deepgen.inference.imputation.sequential import numpyro as sequential
from deepgen.inference.likelihood.evidence import ways
from deepgen.inference.likelihood.evidence.ways import Evidence


def log_evidence(
    rng_key: jax.Array, sequence: Any, x: np.ndarray, observed: np.ndarray, num_particles: int
) -> Evidence:
    """log p(x_observed): exact where the missing entries come last or can be enumerated, else by particles.

    Args:
        rng_key: the key.
        sequence: the factors of the program, or its mixture of them.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        num_particles: of each of the `ways.CLOUDS` clouds of a row that needs them.

    Returns:
        The evidence.

    Raises:
        ValueError: steps observed in part, where the law of their entries is joint.
    """
    found = ways.ways(sequence, observed)
    keys = jax.random.split(rng_key)

    def completed(key: jax.Array, rows: np.ndarray, *run: int) -> clouds.Clouds:
        own = sequence.taken(jnp.asarray(rows))
        each = sequential.complete_all(key, own, jnp.asarray(x[rows]), jnp.asarray(observed[rows]), *run)
        return clouds.mix(each)

    def last(rows: np.ndarray) -> tuple[Any, Any]:
        return completed(keys[0], rows, 1).log_evidence[0], 0.0

    def few(rows: np.ndarray) -> tuple[Any, Any]:
        own = sequence.taken(jnp.asarray(rows))
        return enumeration.weigh(own, x[rows], observed[rows]).evidence(), 0.0

    def estimated(rows: np.ndarray) -> tuple[Any, Any]:
        return clouds.log_evidence(completed(keys[1], rows, num_particles, ways.CLOUDS).log_evidence.astype(float))

    return ways.gather(len(x), [(found.last, last), (found.few, few), (found.estimated, estimated)])
