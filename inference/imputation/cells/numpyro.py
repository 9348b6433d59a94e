"""Hamiltonian Monte Carlo on the numbers behind rows of levels, in NumPyro."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.imputation import result
from deepgen.inference.imputation.cells import interval
from deepgen.inference.imputation.hamiltonian import numpyro as hamiltonian
from deepgen.inference.imputation.neighbours import numpyro as neighbours
from deepgen.inference.imputation.neighbours.mixture import STARTS


def between_levels(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Hamiltonian Monte Carlo on missing and observed numbers together, see `impute`.

    Chains start at weighted completions of the cells' middles, and anywhere in the cells.
    """
    key_start, key_within, key_run = jax.random.split(rng_key, 3)
    chart, low, high = program.cells(x, observed)
    seen, chains = observed.reshape(low.shape), options["num_chains"]
    middle = chart.to_data(interval.within(jnp.zeros_like(low), low, high)[0])
    chosen = neighbours.weigh(key_start, chart, middle, observed, STARTS, chains).chosen
    start = jnp.where(seen, jax.random.normal(key_within, chosen.shape, low.dtype), jnp.asarray(chosen, low.dtype))
    draws, stats, said = hamiltonian.chains(
        key_run, _Target(chart, low, high), start, _Collect(chart, low, high), options, progress
    )
    y = draws["y"]
    return result.Draws(np.asarray(program.rounded(jnp.asarray(y))), {"dequantized": y}, stats, said)


class _Target(eqx.Module):
    """The log density of (chains, n, D), in coordinates without bounds."""

    chart: Any
    low: jax.Array
    high: jax.Array

    def __call__(self, position: jax.Array) -> jax.Array:
        v, log_slopes = interval.within(position, self.low, self.high)
        return self.chart.log_prob(v) + log_slopes.sum(-1)


class _Collect(eqx.Module):
    """What to keep of a draw: the numbers, and the log density of their coordinates."""

    chart: Any
    low: jax.Array
    high: jax.Array

    def __call__(self, rng_key: jax.Array, position: jax.Array) -> dict[str, Any]:
        v, _ = interval.within(position, self.low, self.high)
        return {"y": self.chart.to_data(v), "log_prob": self.chart.log_prob(v)}
