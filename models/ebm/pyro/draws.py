"""Chains of an energy-based program in Pyro: draws, and what they say of a fit."""

from typing import Any

import numpy as np
import torch

from deepgen.models.ebm import recipe
from deepgen.program.pyro import isolated, refuse_nan, tensor


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

    Raises:
        ValueError: energies that are NaN: where they are, chains do not move.
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
        found = run.x[0, :, 0]
        refuse_nan("energy", law.log_prob(found))
    return found


def diagnose(program: Any, x: np.ndarray) -> list[Warning]:
    """A warning where chains from the base and from the data do not come to the same energies, else nothing.

    Args:
        program: a program with ``distribution``.
        x: (n, *event_shape), checked, NaN where missing.
    """
    complete = x[~np.isnan(x).reshape(len(x), -1).any(1)][: recipe.DIAGNOSED]
    if not len(complete):
        return []
    law, count = program.distribution(), len(complete)
    data, half = tensor(program, complete), recipe.ROUND // 2
    # torch's generator stays as it was
    with torch.random.fork_rng(devices=[data.device] if data.is_cuda else []), torch.no_grad(), isolated():
        torch.manual_seed(0)
        ends = torch.cat([law.base.sample((count,)), data])

        def advance() -> tuple[np.ndarray, np.ndarray]:
            nonlocal ends
            run = law.kernel.run(law, ends[:, None], num_warmup=half, num_samples=1, thinning=half, progress=False)
            ends, energies = run.x[0, :, 0], -run.log_density[0, :, 0]
            found = energies.cpu().numpy().astype(np.float64)
            return found[:count], found[count:]

        return recipe.watch(advance)
