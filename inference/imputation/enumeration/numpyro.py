"""Completions weighed by a NumPyro program."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.imputation import result
from deepgen.inference.imputation.enumeration import completions
from deepgen.program.numpyro import log_joint


def enumerate_missing(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """All completions weighed exactly, see `impute`."""
    values, seen = program.sequential().values(), np.asarray(observed)
    completions.refuse(seen, values)
    uniforms = jax.random.uniform(rng_key, (options["num_chains"], options["num_samples"], len(x)))
    return completions.draws(
        lambda rows: np.asarray(_log_prob(program, jnp.asarray(rows))),
        np.asarray(x),
        seen,
        values,
        np.asarray(uniforms),
    )


@eqx.filter_jit
def _log_prob(program: Any, x: jax.Array) -> jax.Array:
    return log_joint(program.model, {}, x)
