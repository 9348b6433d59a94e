"""Completions of rows near the program's own draws, weighed by its density, in Pyro."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from deepgen.inference.imputation import importance, result
from deepgen.inference.imputation.neighbours import mixture
from deepgen.program.pyro import isolated

_CHUNK = 64


class Weighed(NamedTuple):
    """Weighted completions of rows.

    Attributes:
        log_weights: (K, n) log p(x_observed, completion) - log q(completion), nats; their mean weight estimates
            p(x_observed) without bias.
        judged: the smoothed weights.
        chosen: (S, n, D) completions drawn by weight, in the chart's coordinates.
        spread: (n, D) the standard deviations of the program's own draws there.
    """

    log_weights: np.ndarray
    judged: importance.Weights
    chosen: np.ndarray
    spread: np.ndarray


def weigh(chart: Any, x: torch.Tensor, observed: torch.Tensor, num_particles: int, num_chosen: int = 0) -> Weighed:
    """Completions of each row by `mixture`, weighed by the program's density.

    Args:
        chart: the program's, of these rows.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        num_particles: K.
        num_chosen: S.

    Returns:
        The weights, and draws by weight.
    """
    v, slopes = coordinates(chart, x, observed)
    seen = observed.reshape(v.shape)
    n, dims = v.shape
    size = mixture.rows_at_once(n, dims, num_particles)
    weights, judged, chosen, spread = [], [], [], []
    with torch.no_grad(), isolated():
        # all rows have one law: its draws serve them all
        shared = _draws(chart, 1) if chart.context is None else None
        for first in range(0, n, size):
            index = np.arange(first, min(first + size, n))
            rows, count = chart.take(index), len(index)
            draws = _draws(rows, count) if shared is None else shared
            fitted = mixture.fit(draws, v[index].double().cpu().numpy(), seen[index].cpu().numpy())
            law = mixture.Mixture(*(torch.as_tensor(part, dtype=v.dtype, device=v.device) for part in fitted))
            completed, found = _weigh(rows, law, v[index], seen[index], num_particles)
            log_weights = mixture.floored(found.double().cpu().numpy())
            weights.append(log_weights)
            spread.append(fitted.spread)
            smoothed = importance.smooth(log_weights.T)
            drawn = importance.resample(smoothed.weights, torch.rand(count, num_chosen).numpy(force=True))
            judged.append(smoothed)
            chosen.append(completed.cpu().numpy()[drawn.T, np.arange(count)])
    whole = importance.Weights(*(np.concatenate(part) for part in zip(*judged, strict=True)))
    log_weights = np.concatenate(weights, axis=1) + slopes.double().cpu().numpy()
    return Weighed(log_weights, whole, np.concatenate(chosen, axis=1), np.concatenate(spread))


def resample(chart: Any, weighed: Weighed, num_samples: int, num_chains: int = 1, device: Any = None) -> result.Draws:
    """The completions drawn by weight, as data.

    Args:
        chart: the program's, of these rows.
        weighed: with num_chains * num_samples chosen.
        num_samples: how many for each chain.
        num_chains: all independent of each other, given the completions.
        device: where the program is.

    Returns:
        The draws, with the weights' statistics.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    with torch.no_grad():
        x = chart.to_data(torch.as_tensor(weighed.chosen, device=device)).cpu().numpy()
    stats, said = result.weight_stats(weighed.judged, len(weighed.log_weights))
    return result.Draws(x.reshape(num_chains, num_samples, *x.shape[1:]), {}, stats, said)


def importance_resampling(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Importance resampling of completions, see `impute`."""
    chart, samples = program.chart(), options["num_samples"]
    weighed = weigh(chart, x, observed, options["num_particles"], samples)
    return resample(chart, weighed, samples, device=x.device)


@torch.no_grad()
def coordinates(chart: Any, x: torch.Tensor, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows in the chart's coordinates, zero where missing, and the log of what a unit of x is there.

    Args:
        chart: the program's.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.

    Returns:
        (n, D), and the sums over observed entries of log |dv/dx|, (n,).
    """
    v, slopes = chart.from_data(x)
    v, slopes = v.reshape(len(v), -1), slopes.reshape(len(v), -1)
    seen = observed.reshape(v.shape)
    return torch.where(seen, v, torch.zeros_like(v)), torch.where(seen, slopes, torch.zeros_like(slopes)).sum(-1)


def _draws(chart: Any, rows: int) -> np.ndarray:
    return chart.from_base(chart.base.sample((mixture.DRAWS, rows)))[0].cpu().numpy()


def _weigh(
    chart: Any, law: mixture.Mixture, v: torch.Tensor, observed: torch.Tensor, num_particles: int
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = []
    for start in range(0, num_particles, _CHUNK):
        shape = (min(_CHUNK, num_particles - start), len(v))
        normal = v.new_empty((*shape, v.shape[1] + mixture.DF)).normal_()
        uniform = torch.rand((2, *shape), dtype=v.dtype, device=v.device)
        noise = mixture.Noise(normal[..., : v.shape[1]], normal[..., v.shape[1] :], *uniform)
        completed, log_q = mixture.complete(noise, law, v, observed)
        parts.append((completed, chart.log_prob(completed) - log_q))
    completed, weights = (torch.cat(part) for part in zip(*parts, strict=True))
    return completed, weights
