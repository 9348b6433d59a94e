"""Draws along scores in Pyro, each method one loop: down the reverse diffusion, or down a ladder."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepgen.inference.langevin import ladder, overdamped
from deepgen.models.score import levels, sdes

__all__ = ["Clamp", "annealed_langevin", "predictor_corrector", "reverse_diffusion"]

Scaled = Callable[[Tensor, Tensor], Tensor]


class Clamp(NamedTuple):
    """Entries that are known.

    Attributes:
        x: (n, d) data, any number where missing.
        observed: (n, d) booleans.
    """

    x: Any
    observed: Any


def reverse_diffusion(sde: sdes.Diffusion, scaled: Scaled, x: Tensor, num_steps: int) -> Any:
    """Draws by Euler and Maruyama down the reverse diffusion, and the last noise taken away.

    Args:
        sde: the diffusion.
        scaled: (x, t) to σ s(x, t).
        x: (n, d) draws of the prior.
        num_steps: from t = 1 to t_min.

    Returns:
        (n, d).
    """
    times = torch.as_tensor(sdes.grid(sde, num_steps), dtype=x.dtype, device=x.device)
    for t, t_next in pairwise(times):
        x = sdes.reverse_step(sde, x, t, t_next, scaled(x, t), torch.randn_like(x))
    return sdes.denoised(sde, x, times[-1], scaled(x, times[-1]))


def predictor_corrector(rungs: levels.Rungs, scaled: Scaled, x: Tensor, clamp: Clamp | None = None) -> Tensor:
    """Draws down a ladder: to each level by the reverse diffusion, there corrected by a Langevin step; then denoised.

    Known entries are those of the data at the level's own noise.

    Song et al. 2021, algorithms 2 and 4, and their section on imputation.

    Args:
        rungs: the ladder.
        scaled: (x, ρ) to ρ s(x, ρ).
        x: (n, d) at the first level's noise.
        clamp: what is known.

    Returns:
        (n, d).
    """
    rho = torch.as_tensor(rungs.rho, dtype=x.dtype, device=x.device)
    x = _clamped(x, rho[0], clamp)
    for now, after in pairwise(rho):
        x = ladder.predict(x, scaled(x, now) / now, now, after, torch.randn_like(x))
        x = _clamped(x, after, clamp)
        noise = torch.randn_like(x)
        x = overdamped.propose(x, scaled(x, after) / after, levels.corrector_step(after, x), noise)
        x = _clamped(x, after, clamp)
    return _end(x, scaled, rho[-1], clamp)


def annealed_langevin(rungs: levels.Rungs, scaled: Scaled, x: Tensor, clamp: Clamp | None = None) -> Tensor:
    """Draws down a ladder by Langevin steps on each of its levels, then denoised.

    Song & Ermon 2019, Generative modeling by estimating gradients of the data distribution.

    Args:
        rungs: the ladder and its steps.
        scaled: (x, ρ) to ρ s(x, ρ).
        x: (n, d) at the first level's noise.
        clamp: what is known: data noised to each level anew at each step.

    Returns:
        (n, d).
    """
    rho, steps = (torch.as_tensor(part, dtype=x.dtype, device=x.device) for part in (rungs.rho, rungs.step_size))
    for now, size in zip(rho, steps, strict=True):
        for _ in range(levels.LANGEVIN_STEPS):
            x = _clamped(x, now, clamp)
            x = overdamped.propose(x, scaled(x, now) / now, levels.rows(size, x), torch.randn_like(x))
    return _end(_clamped(x, rho[-1], clamp), scaled, rho[-1], clamp)


def _clamped(x: Tensor, rho: Tensor, clamp: Clamp | None) -> Tensor:
    if clamp is None:
        return x
    return torch.where(clamp.observed, clamp.x + rho * torch.randn_like(x), x)


def _end(x: Tensor, scaled: Scaled, rho: Tensor, clamp: Clamp | None) -> Tensor:
    x = ladder.denoise(x, scaled(x, rho) / rho, rho)
    return x if clamp is None else torch.where(clamp.observed, clamp.x, x)
