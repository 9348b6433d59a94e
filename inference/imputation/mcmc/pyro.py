"""Hamiltonian Monte Carlo over the latents given the observed entries, in Pyro."""

from collections.abc import Mapping
from typing import Any

import torch

from deepgen.inference.hmc import pyro as hmc
from deepgen.inference.imputation import methods, result
from deepgen.inference.imputation.resampling import pyro as resampling
from deepgen.program.latents import pyro as latents
from deepgen.program.pyro import decode, isolated, log_joint


def mcmc(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
    start: Mapping[str, torch.Tensor] | None = None,
) -> result.Draws:
    """Hamiltonian Monte Carlo, see `impute`; from ``start``, (chains, n, ...) by site, where it is given."""
    layout = _layout(program, x)
    if start is None:
        start = resampling.start(program, x, observed, options["num_chains"])
    complete = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    with isolated():
        draws, report = hmc.run(
            _Target(program, layout, complete, observed),
            layout.flatten(start),
            num_warmup=options["num_warmup"],
            num_samples=options["num_samples"],
            num_steps=options["num_steps"],
            collect=_Collect(program, layout),
            progress=progress,
        )
    kept = {name: value.transpose(0, 1).cpu().numpy() for name, value in draws.items()}
    stats, said = result.chain_stats(
        -report.potential_energy.transpose(0, 1).cpu().numpy(),
        acceptance_rate=report.accept_prob.cpu().numpy(),
        step_size=report.step_size.cpu().numpy(),
        diverging=report.divergences.cpu().numpy(),
    )
    return result.Draws(kept.pop("x"), kept, stats, said)


def has_discrete_latents(program: Any, x: torch.Tensor) -> bool:
    """Whether some latent of the program is discrete.

    Args:
        program: the program.
        x: (n, *event_shape), missing entries as the guide wants them.

    Returns:
        True where there is no gradient along it.
    """
    return any(site["fn"].support.is_discrete for site in latents.sites(program, x))


def _layout(program: Any, x: torch.Tensor) -> latents.Layout:
    sites = latents.sites(program, x)
    for site in sites:
        methods.refuse_discrete(site["name"], site["fn"].support.is_discrete)
    return latents.layout(sites)


class _Target:
    """log p(x_observed, latents) of (chains, n, d), on the unconstrained space."""

    def __init__(self, program: Any, layout: latents.Layout, x: torch.Tensor, observed: torch.Tensor):
        self.program, self.layout, self.x, self.observed = program, layout, x, observed

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        values, log_det = self.layout.unflatten(position)
        return log_joint(self.program.model, values, self.x, self.observed, len(position)) + log_det


class _Collect:
    """What to keep of a draw: the data drawn given the latents, and the latents."""

    def __init__(self, program: Any, layout: latents.Layout):
        self.program, self.layout = program, layout

    def __call__(self, position: torch.Tensor) -> dict[str, Any]:
        values, _ = self.layout.unflatten(position)
        return {"x": decode(self.program.model, values, position.shape[1], len(position)), **values}
