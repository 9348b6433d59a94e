"""Draws down a ladder of noise, corrected by a density, in NumPyro."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen.inference.imputation import result
from deepgen.inference.imputation.corrected import judge
from deepgen.inference.imputation.descent import numpyro as descent
from deepgen.inference.imputation.hamiltonian import numpyro as hamiltonian


def corrected(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Chains over the missing entries that begin at ends of annealed Langevin dynamics, see `impute`.

    A step is one leapfrog step with a fresh momentum and its test: MALA.
    """
    start_key, run_key = jax.random.split(rng_key)
    ends = descent.descend(
        start_key, program, x, observed, {**options, "num_samples": 1}, progress, method="annealed-langevin"
    )
    start = jnp.asarray(ends.x[:, 0], x.dtype).reshape(options["num_chains"], len(x), -1)
    v = jnp.where(observed, x, jnp.zeros((), x.dtype)).reshape(len(x), -1)
    seen, once = observed.reshape(v.shape), {**options, "num_steps": 1}
    draws = hamiltonian.walk(
        run_key, _Data(program, tuple(x.shape[1:])), v, seen, start, once, progress, judge.ACCEPTED
    )
    return draws._replace(attrs={**draws.attrs, **judge.said(program.judge)})


class _Data(eqx.Module):
    """The data as their own coordinates."""

    program: Any
    event_shape: tuple[int, ...] = eqx.field(static=True)

    def log_prob(self, v: jax.Array) -> jax.Array:
        """log p of (..., D) up to a constant."""
        return self.program.log_density(v.reshape(-1, *self.event_shape)).reshape(v.shape[:-1])

    def to_data(self, v: jax.Array) -> jax.Array:
        """The data of (..., D)."""
        return v.reshape(*v.shape[:-1], *self.event_shape)
