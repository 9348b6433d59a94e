"""log p(x) in Pyro: exact where the program has no latents, else the importance-weighted bound."""

from typing import Any

import numpy as np
import torch

from deepgen import checks
from deepgen.inference.likelihood import streaming
from deepgen.likelihoods.laws import is_missing
from deepgen.program import LogProb, ModelsMissingness, Program
from deepgen.program.pyro import isolated, log_joint, propose, tensor


def log_weights(
    program: Any, x: torch.Tensor, observed: torch.Tensor | None, num_particles: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Draws from the guide and their log weights log p(x_observed, latents) - log q(latents | x).

    Args:
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape); where missing, as the guide wants it.
        observed: booleans of x's shape, or None where all is observed.
        num_particles: S.

    Returns:
        The latents by site, (S, n, ...) each, and the log weights (S, n).
    """
    if isinstance(program, ModelsMissingness):
        observed = None
    complete = x if observed is None else torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    latents, log_q = propose(program.guide, x, num_particles)
    return latents, log_joint(program.model, latents, complete, observed, num_particles) - log_q


def log_prob(program: Program, x: Any, *, num_particles: int = 1000) -> LogProb:
    r"""log p(x) of each row, of what kind it is and with its Monte Carlo standard error.

    With latents it is the importance-weighted bound of K particles, in chunks of constant memory,

    .. math:: \log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \quad z_k \sim q(z \mid x),

    a lower bound of log p(x) in expectation, which it reaches as K grows (Burda, Grosse & Salakhutdinov 2016). Missing
    entries are integrated out: the value is then that of log p(x_observed).

    Args:
        program: the program.
        x: (n, *event_shape), NaN (negative integers) where missing.
        num_particles: K; a program without latents needs none.

    Returns:
        Value, standard error and kind.

    Raises:
        ValueError: data that the program does not take, or a ``num_particles`` that is not positive.
    """
    checks.at_least("num_particles", num_particles, 1)
    array = program.check_data(x, missing=True)
    missing = is_missing(array)
    particles = 1 if program.likelihood == "exact" else int(num_particles)
    rows, chunk = streaming.chunk_sizes(len(array), particles, int(np.prod(program.event_shape)))
    parts = []
    with torch.no_grad(), isolated():
        for start in range(0, len(array), rows):
            batch = tensor(program, array[start : start + rows])
            seen = torch.as_tensor(~missing[start : start + rows], device=batch.device) if missing.any() else None
            parts.append(_log_prob(program, batch, seen, particles, chunk))
    value, stderr = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return LogProb(value, stderr, program.likelihood)


def _log_prob(
    program: Any, x: torch.Tensor, observed: torch.Tensor | None, particles: int, chunk: int
) -> tuple[torch.Tensor, torch.Tensor]:
    sums = streaming.empty(torch.zeros(len(x), device=x.device))
    for start in range(0, particles, chunk):
        _, weights = log_weights(program, x, observed, min(chunk, particles - start))
        sums = streaming.add(sums, weights)
    return streaming.log_mean(sums, particles)
