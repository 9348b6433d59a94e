"""The constant of an unnormalised law in Pyro."""

import math
from typing import Any

import numpy as np
import torch

from deepgen.inference.chains import pyro as chains
from deepgen.inference.likelihood.ais import annealing
from deepgen.inference.likelihood.partition import estimate
from deepgen.inference.likelihood.partition.estimate import LogPartition
from deepgen.program import LogProb
from deepgen.program.pyro import isolated
from deepgen.program.unnormalised import HasUnnormalisedLaw

__all__ = ["LogPartition", "log_partition", "log_prob"]


def log_partition(
    program: Any,
    *,
    num_chains: int = 500,
    num_temperatures: int = 500,
    num_steps: int = 1,
    bracket: bool = True,
) -> LogPartition:
    r"""log Z of an energy-based program by annealed importance sampling from its base, and back.

    With :math:`f_0 = \mathrm{base}` and :math:`f_T = \mathrm{base}\, e^{-E}`, tempered between them as the law's kernel
    tempers it (the energy for most, the joint energy of visible and hidden units for a restricted Boltzmann machine),

    .. math:: \log Z \approx \log \frac1K \sum_k \prod_{t=1}^{T} \frac{f_t(x_{t-1})}{f_{t-1}(x_{t-1})},
        \quad x_0 \sim \mathrm{base},\ x_t \sim T_t(\cdot \mid x_{t-1})

    in expectation from below. Chains from the law back to the base give an upper bound, as far as they begin at draws
    of the law: they begin at the ends of long runs. Step sizes come from a pilot run of its own.

    Args:
        program: the program.
        num_chains: K, in each direction.
        num_temperatures: T.
        num_steps: steps of the kernel at each temperature.
        bracket: whether chains are run back, too.

    Returns:
        The estimate, its standard error, and the upper bound.

    Raises:
        ValueError: another program, or an argument out of range.

    References:
        Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks" (2008); Burda, Grosse and
        Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood using reverse annealing" (2015).
    """
    estimate.check_run(num_chains, num_temperatures, num_steps)
    estimate.check_program(program, HasUnnormalisedLaw)
    law, temperatures = program.distribution(), annealing.sigmoid_schedule(num_temperatures).tolist()
    back = temperatures[::-1]
    with torch.no_grad(), isolated():
        sizes = [math.log(annealing.FIRST_STEP_SIZE)] * (num_temperatures - 1)
        if law.kernel.tuned:
            _, sizes = _anneal(law, law.base.sample((num_chains,)), temperatures, sizes, num_steps, adapting=True)
        first = law.base.sample((num_chains,))
        forward, _ = _anneal(law, first, temperatures, sizes, num_steps, adapting=False)
        if not bracket:
            return estimate.of_weights(forward, None)
        backward, _ = _anneal(law, program.draw(num_chains), back, sizes[::-1], num_steps, adapting=False)
    return estimate.of_weights(forward, -backward)


def log_prob(program: Any, x: np.ndarray, num_chains: int, labels: np.ndarray | None = None) -> LogProb:
    """log p(x) of rows, with log Z estimated once for all of them; see ``deepgen.inference.likelihood``.

    Args:
        program: an energy-based program.
        x: (n, *event_shape), complete and checked.
        num_chains: of the estimate.
        labels: (n,) classes, -1 where unknown, whose laws have a constant each; None for the law of all.

    Returns:
        Values whose errors are the same number, that of log Z.
    """
    if labels is None:
        found = log_partition(program, num_chains=max(num_chains, 2), bracket=False)
        with torch.no_grad(), isolated():
            law = program.distribution()
            density = law.log_prob(torch.as_tensor(x).to(law.base.sample()))
        value = density.cpu().numpy().astype(float) - found.value
        return LogProb(value, np.full(len(value), found.stderr), "estimate")
    value, stderr = np.zeros(len(x)), np.zeros(len(x))
    for label in np.unique(labels):
        view, rows = program.given(labels[labels == label][:1]), labels == label
        value[rows], stderr[rows], _ = log_prob(view, x[rows], num_chains)
    return LogProb(value, stderr, "estimate")


def _anneal(
    law: Any, x: torch.Tensor, temperatures: list[float], log_step_sizes: list[float], num_steps: int, *, adapting: bool
) -> tuple[np.ndarray, list[float]]:
    """The log weights (K,) along the way from each temperature to the next, and the log step sizes (T - 1,) used."""
    kernel, weight, searched, used = law.kernel, x.new_zeros(len(x)), log_step_sizes[0], []

    def gain(x: torch.Tensor, here: float, there: float) -> torch.Tensor:
        return kernel.tempered(law, x, there) - kernel.tempered(law, x, here)

    for i, stored in enumerate(log_step_sizes):
        here, there = temperatures[i : i + 2]
        log_size = searched if adapting else stored
        weight = weight + gain(x, here, there)
        x, prob = chains.steps(kernel, law, x, num_steps, there, math.exp(log_size) if kernel.tuned else None)
        if adapting:
            searched = float(annealing.adapted(prob.new_full((1, 1), searched), prob[:, None]))
        used.append(log_size)
    return (weight + gain(x, *temperatures[-2:])).cpu().numpy(), used
