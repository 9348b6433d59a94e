"""Chains of an energy-based program in Pyro: draws, and what they say of a fit."""

from typing import Any

import numpy as np
import torch

from deepgen.models.ebm import recipe
from deepgen.program.pyro import isolated, tensor


def draw(program: Any, num_samples: int, num_warmup: int, num_iterations: int, num_steps: int) -> torch.Tensor:
    """The ends of chains from the base, one draw each.

    Args:
        program: what has ``distribution``.
        num_samples: how many chains.
        num_warmup: iterations in which step sizes are adapted.
        num_iterations: iterations after that.
        num_steps: leapfrog steps, flips or sweeps of an iteration.

    Returns:
        (num_samples, *event_shape).
    """
    law = program.distribution()
    with torch.no_grad(), isolated():
        run = law.kernel.run(
            law,
            law.base.sample((num_samples, 1)),
            num_warmup=num_warmup,
            num_samples=1,
            num_steps=num_steps,
            thinning=num_iterations,
            progress=False,
        )
    return run.x[0, :, 0]


def diagnose(program: Any, x: np.ndarray) -> list[Warning]:
    """A warning where chains from the base and from the data do not come to the same energies, else nothing.

    Args:
        program: a program with ``distribution``.
        x: (n, *event_shape), checked, NaN where missing.
    """
    complete = x[~np.isnan(x).reshape(len(x), -1).any(1)][: recipe.DIAGNOSED]
    if not len(complete):
        return []
    ends = _ends(program, tensor(program, complete))
    from_base, from_data = (part.cpu().numpy().astype(np.float64) for part in ends)
    return recipe.diagnose(from_base, from_data, recipe.WARMUP + recipe.STEPS)


def _ends(program: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The energies -log f at the ends of chains from the base and from the data; torch's generator stays as it was."""
    law = program.distribution()
    found = []
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.no_grad(), isolated():
        torch.manual_seed(0)
        for given in (None, x):
            first = law.base.sample((len(x),)) if given is None else given
            steps, warmup = recipe.STEPS, recipe.WARMUP
            start = first[:, None]
            run = law.kernel.run(law, start, num_warmup=warmup, num_samples=1, thinning=steps, progress=False)
            found.append(-run.log_density[0, :, 0])
    return found[0], found[1]
