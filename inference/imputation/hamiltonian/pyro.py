"""Hamiltonian Monte Carlo on the missing entries, the observed ones clamped, in Pyro."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deepgen.inference.hmc import pyro as hmc
from deepgen.inference.imputation import result
from deepgen.inference.imputation.hamiltonian import clamping
from deepgen.inference.imputation.neighbours import pyro as neighbours
from deepgen.inference.imputation.neighbours.mixture import STARTS
from deepgen.program.pyro import isolated


def clamped(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
    start: np.ndarray | None = None,
) -> result.Draws:
    """Hamiltonian Monte Carlo on missing entries, see `impute`; from ``start``, (chains, n, D), where it is given."""
    chart = program.chart()
    v, _ = neighbours.coordinates(chart, x, observed)
    seen = observed.reshape(v.shape)
    if start is None:
        start = neighbours.weigh(chart, x, observed, STARTS, options["num_chains"]).chosen
    begin = torch.as_tensor(start, dtype=v.dtype, device=v.device)
    return walk(chart, v, seen, begin, options, progress)


def walk(
    chart: Any,
    v: torch.Tensor,
    seen: torch.Tensor,
    start: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
    target_accept_prob: float = 0.8,
) -> result.Draws:
    """Chains over the missing coordinates of a chart.

    Args:
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
    begin = torch.where(seen, torch.zeros_like(start), start)
    draws, stats, said = chains(
        _Target(chart, v, seen), begin, _Collect(chart, v, seen), options, progress, target_accept_prob
    )
    return result.Draws(draws["x"], {}, stats, said)


def chains(
    target: Any,
    start: torch.Tensor,
    collect: Any,
    options: Mapping[str, int],
    progress: bool | None,
    target_accept_prob: float = 0.8,
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Chains of a target, and what they say of themselves.

    Args:
        target: the log density of positions (chains, n, D).
        start: (chains, n, D).
        collect: what to keep of a draw, ``log_prob`` with it.
        options: ``num_warmup``, ``num_samples`` and ``num_steps``.
        progress: whether to show a bar; None: on a terminal only.
        target_accept_prob: that step sizes are adapted to.

    Returns:
        What was kept, (chains, draws, n, ...), the statistics and attributes of `result.chain_stats`.
    """
    with isolated():
        kept, report = hmc.run(
            target,
            start,
            num_warmup=options["num_warmup"],
            num_samples=options["num_samples"],
            num_steps=options["num_steps"],
            collect=collect,
            target_accept_prob=target_accept_prob,
            progress=progress,
        )
    draws = {name: value.transpose(0, 1).cpu().numpy() for name, value in kept.items()}
    stats, said = result.chain_stats(
        draws["log_prob"],
        acceptance_rate=report.accept_prob.cpu().numpy(),
        step_size=report.step_size.cpu().numpy(),
        diverging=report.divergences.cpu().numpy(),
    )
    return draws, stats, said


class _Target:
    """The log density of (chains, n, D)."""

    def __init__(self, chart: Any, v: torch.Tensor, observed: torch.Tensor):
        self.chart, self.v, self.observed = chart, v, observed

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        value = self.chart.log_prob(clamping.clamp(position, self.v, self.observed))
        return value + clamping.log_filling(position, self.observed)


class _Collect:
    """What to keep of a draw: the completed data, and their log density without the filling."""

    def __init__(self, chart: Any, v: torch.Tensor, observed: torch.Tensor):
        self.chart, self.v, self.observed = chart, v, observed

    def __call__(self, position: torch.Tensor) -> dict[str, Any]:
        v = clamping.clamp(position, self.v, self.observed)
        return {"x": self.chart.to_data(v), "log_prob": self.chart.log_prob(v)}
