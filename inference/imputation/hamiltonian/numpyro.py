"""Hamiltonian Monte Carlo on the missing entries, the observed ones clamped, in NumPyro."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from deepgen.inference.hmc import numpyro as hmc
from deepgen.inference.imputation import result
from deepgen.inference.imputation.hamiltonian import clamping
from deepgen.inference.imputation.neighbours import numpyro as neighbours
from deepgen.inference.imputation.neighbours.mixture import STARTS


def clamped(
    rng_key: jax.Array,
    program: Any,
    x: jax.Array,
    observed: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
    start: np.ndarray | None = None,
) -> result.Draws:
    """Hamiltonian Monte Carlo on missing entries, see `impute`; from ``start``, (chains, n, D), where it is given."""
    key_start, key_run = jax.random.split(rng_key)
    chart = program.chart()
    v, _ = neighbours.coordinates(chart, x, observed)
    seen = observed.reshape(v.shape)
    if start is None:
        start = neighbours.weigh(key_start, chart, x, observed, STARTS, options["num_chains"]).chosen
    return walk(key_run, chart, v, seen, jnp.asarray(start, v.dtype), options, progress)


def walk(
    rng_key: jax.Array,
    chart: Any,
    v: jax.Array,
    seen: jax.Array,
    start: jax.Array,
    options: Mapping[str, int],
    progress: bool | None,
    target_accept_prob: float = 0.8,
) -> result.Draws:
    """Chains over the missing coordinates of a chart.

    Args:
        rng_key: the key.
        chart: what has ``log_prob`` of coordinates (..., n, D) and ``to_data``.
        v: (n, D) the rows' coordinates, anything where missing.
        seen: booleans of that shape.
        start: (chains, n, D).
        options: ``num_warmup``, ``num_samples`` and ``num_steps``.
        progress: whether to show a bar; None: on a terminal only.
        target_accept_prob: that step sizes are adapted to.

    Returns:
        The draws and what the chains say of themselves.
    """
    draws, stats, said = chains(
        rng_key,
        _Target(chart, v, seen),
        jnp.where(seen, 0, start),
        _Collect(chart, v, seen),
        options,
        progress,
        target_accept_prob,
    )
    return result.Draws(draws["x"], {}, stats, said)


def chains(
    rng_key: jax.Array,
    target: Any,
    start: jax.Array,
    collect: Any,
    options: Mapping[str, int],
    progress: bool | None,
    target_accept_prob: float = 0.8,
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Chains of a target, and what they say of themselves.

    Args:
        rng_key: the key.
        target: the log density of positions (chains, n, D).
        start: (chains, n, D).
        collect: what to keep of a draw, ``log_prob`` with it.
        options: ``num_warmup``, ``num_samples`` and ``num_steps``.
        progress: whether to show a bar; None: on a terminal only.
        target_accept_prob: that step sizes are adapted to.

    Returns:
        What was kept, (chains, draws, n, ...), the statistics and attributes of `result.chain_stats`.
    """
    kept, report = hmc.run(
        rng_key,
        target,
        start,
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_steps=options["num_steps"],
        collect=collect,
        target_accept_prob=target_accept_prob,
        progress=progress,
    )
    draws = {name: np.asarray(jnp.swapaxes(value, 0, 1)) for name, value in kept.items()}
    stats, said = result.chain_stats(
        draws["log_prob"],
        acceptance_rate=np.asarray(report.accept_prob),
        step_size=np.asarray(report.step_size),
        diverging=np.asarray(report.divergences),
    )
    return draws, stats, said


class _Target(eqx.Module):
    """The log density of (chains, n, D)."""

    chart: Any
    v: jax.Array
    observed: jax.Array

    def __call__(self, position: jax.Array) -> jax.Array:
        value = self.chart.log_prob(clamping.clamp(position, self.v, self.observed))
        return value + clamping.log_filling(position, self.observed)


class _Collect(eqx.Module):
    """What to keep of a draw: the completed data, and their log density without the filling."""

    chart: Any
    v: jax.Array
    observed: jax.Array

    def __call__(self, rng_key: jax.Array, position: jax.Array) -> dict[str, Any]:
        v = clamping.clamp(position, self.v, self.observed)
        return {"x": self.chart.to_data(v), "log_prob": self.chart.log_prob(v)}
