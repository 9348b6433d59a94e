"""Draws from the guide with their importance weights in Pyro: resampled, and as the starts of chains."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from deepgen.inference.imputation import importance, methods, result
from deepgen.inference.likelihood.pyro import log_weights
from deepgen.program import ModelsMissingness
from deepgen.program.pyro import decode, isolated


class Proposals(NamedTuple):
    """Weighted draws of the latents of each row.

    Attributes:
        latents: by site, (k, n, ...).
        judged: their smoothed weights.
    """

    latents: Mapping[str, torch.Tensor]
    judged: importance.Weights

    @property
    def num_particles(self) -> int:
        """How many a row has."""
        return self.judged.weights.shape[1]


def propose(program: Any, x: torch.Tensor, observed: torch.Tensor, num_particles: int) -> Proposals:
    """Draws from the guide, weighted by p(x_observed, latents) / q(latents | x).

    Args:
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them.
        observed: booleans of x's shape.
        num_particles: how many for each row.

    Returns:
        The draws.
    """
    with torch.no_grad(), isolated():
        latents, weights = _propose(program, x, observed, num_particles)
    return Proposals(latents, importance.smooth(weights.T.cpu().numpy()))


def resample(program: Any, proposals: Proposals, num_samples: int, num_chains: int = 1) -> result.Draws:
    """Draws by weight, and the data given them.

    Args:
        program: the program.
        proposals: weighted draws.
        num_samples: how many for each chain.
        num_chains: all independent of each other, given the proposals.

    Returns:
        The draws, with the weights' statistics.

    Warns:
        UserWarning: where the weights of some rows are not to be trusted.
    """
    with torch.no_grad(), isolated():
        chosen = _choose(proposals, num_chains * num_samples)
        x = _x(program, chosen, len(proposals.judged.weights))
    stats, said = result.weight_stats(proposals.judged, proposals.num_particles)
    if isinstance(program, ModelsMissingness):
        said["missingness"] = f"not at random: weighted by {type(program.mechanism).__name__}"
    shape = (num_chains, num_samples)
    latents = {name: value.reshape(*shape, *value.shape[1:]).cpu().numpy() for name, value in chosen.items()}
    return result.Draws(x.reshape(*shape, *x.shape[1:]).cpu().numpy(), latents, stats, said)


def sir(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Sampling importance resampling, see `impute`."""
    proposals = propose(program, x, observed, options["num_particles"])
    return resample(program, proposals, options["num_samples"])


def start(program: Any, x: torch.Tensor, observed: torch.Tensor, num_chains: int) -> dict[str, torch.Tensor]:
    """A start for each chain: one of some draws from the guide, chosen by its importance weight.

    Where the posterior has several modes a chain rarely crosses between them, so the starts must be spread over them.

    Args:
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them.
        observed: booleans of x's shape.
        num_chains: how many for each row.

    Returns:
        The latents by site, (num_chains, n, ...).
    """
    kept: dict[str, torch.Tensor] = {}
    best = torch.full((num_chains, len(x)), -torch.inf, device=x.device)
    with torch.no_grad(), isolated():
        for _ in range(methods.STARTS):
            latents, weights = log_weights(program, x, observed, num_chains)
            # the largest of weight times Gumbel noise is a draw by weight
            score = weights + gumbel(weights)
            better = score > best
            kept = {name: where(better, value, kept.get(name, value)) for name, value in latents.items()}
            best = torch.maximum(score, best)
    return kept


def start_from(proposals: Proposals, num_chains: int) -> dict[str, torch.Tensor]:
    """A start for each chain: one of the proposals, chosen by its weight.

    Args:
        proposals: weighted draws.
        num_chains: how many for each row.

    Returns:
        The latents by site, (num_chains, n, ...).
    """
    return _choose(proposals, num_chains)


def where(rows: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The first where a row says so, else the second; both have further axes."""
    return torch.where(rows.reshape(*rows.shape, *(1,) * (first.ndim - rows.ndim)), first, second)


def gumbel(like: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise of a tensor's shape, dtype and device."""
    return -torch.log(torch.empty_like(like).exponential_())


def _choose(proposals: Proposals, count: int) -> dict[str, torch.Tensor]:
    rows = len(proposals.judged.weights)
    device = next(iter(proposals.latents.values())).device
    uniforms = torch.rand(rows, count, device=device).cpu().numpy()
    index = torch.as_tensor(importance.resample(proposals.judged.weights, uniforms), device=device)
    return {name: value[index.T, torch.arange(rows)] for name, value in proposals.latents.items()}


def _propose(
    program: Any, x: torch.Tensor, observed: torch.Tensor, num_particles: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    chunk = 64
    found = [
        log_weights(program, x, observed, min(chunk, num_particles - start)) for start in range(0, num_particles, chunk)
    ]
    latents = {name: torch.cat([part[0][name] for part in found]) for name in found[0][0]}
    return latents, torch.cat([part[1] for part in found])


def _x(program: Any, latents: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    """The data given the latents, of which they may be one that then is taken out."""
    if isinstance(program, ModelsMissingness):
        return latents.pop("x_missing")
    return _decode(program, latents, size)


def _decode(program: Any, latents: Mapping[str, torch.Tensor], size: int) -> torch.Tensor:
    count, chunk = len(next(iter(latents.values()))), 64
    parts = []
    for first in range(0, count, chunk):
        some = {name: value[first : first + chunk] for name, value in latents.items()}
        parts.append(decode(program.model, some, size, min(chunk, count - first)))
    return torch.cat(parts)
