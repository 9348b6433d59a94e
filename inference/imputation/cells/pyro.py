"""Hamiltonian Monte Carlo on the numbers behind rows of levels, in Pyro."""

from collections.abc import Mapping
from typing import Any

import torch

from deepgen.inference.imputation import result
from deepgen.inference.imputation.cells import interval
from deepgen.inference.imputation.hamiltonian import pyro as hamiltonian
from deepgen.inference.imputation.neighbours import pyro as neighbours
from deepgen.inference.imputation.neighbours.mixture import STARTS


def between_levels(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
) -> result.Draws:
    """Hamiltonian Monte Carlo on missing and observed numbers together, see `impute`.

    Chains start at weighted completions of the cells' middles, and anywhere in the cells.
    """
    with torch.no_grad():
        chart, low, high = program.cells(x, observed)
        middle = chart.to_data(interval.within(torch.zeros_like(low), low, high)[0])
    seen, chains = observed.reshape(low.shape), options["num_chains"]
    chosen = torch.as_tensor(neighbours.weigh(chart, middle, observed, STARTS, chains).chosen).to(low)
    start = torch.where(seen, torch.randn_like(chosen), chosen)
    draws, stats, said = hamiltonian.chains(
        _Target(chart, low, high), start, _Collect(chart, low, high), options, progress
    )
    y = draws["y"]
    return result.Draws(program.rounded(torch.as_tensor(y)).cpu().numpy(), {"dequantized": y}, stats, said)


class _Target:
    """The log density of (chains, n, D), in coordinates without bounds."""

    def __init__(self, chart: Any, low: torch.Tensor, high: torch.Tensor):
        self.chart, self.low, self.high = chart, low, high

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        v, log_slopes = interval.within(position, self.low, self.high)
        return self.chart.log_prob(v) + log_slopes.sum(-1)


class _Collect:
    """What to keep of a draw: the numbers, and the log density of their coordinates."""

    def __init__(self, chart: Any, low: torch.Tensor, high: torch.Tensor):
        self.chart, self.low, self.high = chart, low, high

    def __call__(self, position: torch.Tensor) -> dict[str, Any]:
        v, _ = interval.within(position, self.low, self.high)
        return {"y": self.chart.to_data(v), "log_prob": self.chart.log_prob(v)}
