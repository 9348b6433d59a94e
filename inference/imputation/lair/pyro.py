"""Latent-adaptive importance resampling in Pyro, all rows at once."""

from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine

from deepgen.inference.imputation import importance, result
from deepgen.inference.imputation.lair import mixture
from deepgen.inference.imputation.resampling import pyro as resampling
from deepgen.program.pyro import decode, isolated, log_joint, propose


def lair(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Latent-adaptive importance resampling, see `impute`."""
    steps = mixture.iterations(options["num_particles"], options["num_chains"])
    latents, weights = adapt(program, x, observed, options["num_chains"], steps)
    proposals = resampling.Proposals(latents, importance.smooth(weights.T.cpu().numpy()))
    draws = resampling.resample(program, proposals, options["num_samples"])
    return draws._replace(attrs={**draws.attrs, "num_proposals": proposals.num_particles})


def adapt(
    program: Any, x: torch.Tensor, observed: torch.Tensor, num_chains: int, steps: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All proposals of all iterations, and their weights.

    Args:
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them: in the first iteration it is shown these.
        observed: booleans of x's shape.
        num_chains: K, how many imputations a row carries.
        steps: how many iterations.

    Returns:
        The latents by site, (steps * (K + R), n, ...), and their log weights (steps * (K + R), n), nats.
    """
    model, guide, prior = program.model, program.guide, poutine.block(program.model, hide=["x"])
    n, complete = len(x), torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    seen, known, source = (torch.cat([array] * num_chains) for array in (observed, complete, x))
    size = num_chains + mixture.PRIOR
    found = []
    with torch.no_grad(), isolated():
        for _ in range(steps):
            from_guide, _ = propose(guide, source)
            from_prior, _ = propose(prior, complete, mixture.PRIOR)
            latents = {
                name: torch.cat([value.reshape(num_chains, n, *value.shape[1:]), from_prior[name]])
                for name, value in from_guide.items()
            }
            at_each = {name: torch.cat([value] * num_chains, dim=1) for name, value in latents.items()}
            log_guide = log_joint(guide, at_each, source, num_particles=size)
            weights = mixture.log_weights(
                log_joint(model, latents, complete, observed, size),
                log_guide.reshape(size, num_chains, n),
                log_joint(prior, latents, complete, num_particles=size),
            )
            noise = resampling.gumbel(weights.expand(num_chains, size, n))
            index = mixture.choose(weights, noise)
            chosen = {
                name: value[index, torch.arange(n, device=x.device)].reshape(num_chains * n, *value.shape[2:])
                for name, value in latents.items()
            }
            drawn = decode(model, chosen, num_chains * n)
            source = torch.where(seen, known, drawn.to(x.dtype))
            found.append((latents, weights))
    latents = {name: torch.cat([part[0][name] for part in found]) for name in found[0][0]}
    return latents, torch.cat([part[1] for part in found])
