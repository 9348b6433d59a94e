"""What kernels over data give in torch, and several steps of one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Step(NamedTuple):
    """What one step gives.

    Attributes:
        x: (n, *event_shape).
        accept_prob: (n,).
    """

    x: torch.Tensor
    accept_prob: torch.Tensor


class Run(NamedTuple):
    """What a long run gives.

    Attributes:
        x: (num_samples, chains, n, *event_shape).
        log_density: (num_samples, chains, n), nats, up to the constant.
        accept_prob: (chains, n), the mean after the warm-up.
        step_size: (chains, n) as adapted, or None where there is none.
        diverging: (chains, n) how many trajectories diverged, or None.
    """

    x: torch.Tensor
    log_density: torch.Tensor
    accept_prob: torch.Tensor
    step_size: torch.Tensor | None
    diverging: torch.Tensor | None


def steps(
    kernel: Any,
    law: Any,
    x: torch.Tensor,
    num_steps: int,
    temperature: Any = 1.0,
    step_size: Any = None,
    observed: torch.Tensor | None = None,
) -> Step:
    """Several steps of a kernel.

    Args:
        kernel: one of this module's.
        law: the law.
        x: (n, *event_shape) where to start.
        num_steps: how many.
        temperature: what multiplies the energy.
        step_size: instead of the kernel's own, or None.
        observed: booleans of the entries that stay, or None.

    Returns:
        Where the chains are, and their mean acceptance probability.
    """
    total = x.new_zeros(len(x))
    for _ in range(num_steps):
        x, accept_prob = kernel.step(kernel.draw_noise(law, x), law, x, temperature, step_size, observed)
        total.add_(accept_prob, alpha=1 / num_steps)
    return Step(x, total)


@torch.no_grad()
def densities(law: Any, x: torch.Tensor) -> torch.Tensor:
    """log f of draws, (num_samples, *lead), one draw after the other.

    Args:
        law: the law.
        x: (num_samples, *lead, *event_shape).
    """
    return torch.stack([law.log_prob(draws) for draws in x])


def evaluate(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The values (n,) of a function of rows, and its gradient, without a graph.

    Args:
        function: from (n, ...) to (n,).
        x: the rows.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = function(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient
