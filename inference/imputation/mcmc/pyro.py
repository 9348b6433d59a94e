"""Hamiltonian Monte Carlo over the latents given the observed entries, in Pyro."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pyro import poutine

from deepgen.inference.hmc import pyro as hmc
from deepgen.inference.imputation import methods, result
from deepgen.inference.imputation.resampling import pyro as resampling
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
    latents = {name: value.transpose(0, 1).cpu().numpy() for name, value in draws.items()}
    stats, said = result.chain_stats(
        -report.potential_energy.transpose(0, 1).cpu().numpy(),
        acceptance_rate=report.accept_prob.cpu().numpy(),
        step_size=report.step_size.cpu().numpy(),
        diverging=report.divergences.cpu().numpy(),
    )
    return result.Draws(latents.pop("x"), latents, stats, said)


def has_discrete_latents(program: Any, x: torch.Tensor) -> bool:
    """Whether some latent of the program is discrete.

    Args:
        program: the program.
        x: (n, *event_shape), missing entries as the guide wants them.

    Returns:
        True where there is no gradient along it.
    """
    return any(site["fn"].support.is_discrete for site in _sites(program, x))


class _Layout:
    """How the latents of a row lie in one vector, and how they are constrained."""

    def __init__(self, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], transforms: tuple[Any, ...]):
        self.names, self.shapes, self.transforms = names, shapes, transforms

    def flatten(self, latents: Mapping[str, torch.Tensor]) -> torch.Tensor:
        parts = [t.inv(latents[name]) for name, t in zip(self.names, self.transforms, strict=True)]
        return torch.cat([part.reshape(*part.shape[:2], -1) for part in parts], dim=-1)

    def unflatten(self, vector: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The latents of (chains, n, d), and the log determinant (chains, n) that the change of variables brings."""
        latents, log_det, start = {}, vector.new_zeros(vector.shape[:2]), 0
        for name, shape, transform in zip(self.names, self.shapes, self.transforms, strict=True):
            size = int(np.prod(shape))
            free = vector[..., start : start + size].reshape(*vector.shape[:2], *shape)
            latents[name] = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, latents[name])
            log_det = log_det + jacobian.reshape(*vector.shape[:2], -1).sum(-1)
            start += size
        return latents, log_det


def _sites(program: Any, x: torch.Tensor) -> list[Any]:
    with torch.no_grad(), isolated():
        trace = poutine.trace(program.guide).get_trace(x[:1])
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return [site for site in sites if not poutine.util.site_is_subsample(site)]


def _layout(program: Any, x: torch.Tensor) -> _Layout:
    names, shapes, transforms = [], [], []
    for site in _sites(program, x):
        support = site["fn"].support
        methods.refuse_discrete(site["name"], support.is_discrete)
        transform = torch.distributions.biject_to(support)
        names.append(site["name"])
        shapes.append(tuple(transform.inverse_shape(site["value"].shape[1:])))
        transforms.append(transform)
    return _Layout(tuple(names), tuple(shapes), tuple(transforms))


class _Target:
    """log p(x_observed, latents) of (chains, n, d), on the unconstrained space."""

    def __init__(self, program: Any, layout: _Layout, x: torch.Tensor, observed: torch.Tensor):
        self.program, self.layout, self.x, self.observed = program, layout, x, observed

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        latents, log_det = self.layout.unflatten(position)
        return log_joint(self.program.model, latents, self.x, self.observed, len(position)) + log_det


class _Collect:
    """What to keep of a draw: the data drawn given the latents, and the latents."""

    def __init__(self, program: Any, layout: _Layout):
        self.program, self.layout = program, layout

    def __call__(self, position: torch.Tensor) -> dict[str, Any]:
        latents, _ = self.layout.unflatten(position)
        return {"x": decode(self.program.model, latents, position.shape[1], len(position)), **latents}
