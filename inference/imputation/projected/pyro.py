"""Projected latent Markov chain Monte Carlo in Pyro: one loop for all chains and rows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.imputation import result
from deepgen.inference.imputation.gibbs import metropolis
from deepgen.inference.imputation.neighbours import pyro as neighbours
from deepgen.inference.imputation.neighbours.mixture import STARTS
from deepgen.inference.imputation.projected import latent
from deepgen.inference.imputation.projected.latent import Noise
from deepgen.program.pyro import isolated


class Rows(NamedTuple):
    """What the chains are about.

    Attributes:
        chart: of the program.
        v: (n, D) the rows in its coordinates, anything finite where missing.
        observed: booleans of that shape.
        spread: (n, D) the standard deviations of auxiliary coordinates.
    """

    chart: Any
    v: torch.Tensor
    observed: torch.Tensor
    spread: torch.Tensor


class State(NamedTuple):
    """Where the chains are.

    Attributes:
        v: (chains, n, D) the completed rows.
        log_prob: (chains, n) log p(v), nats.
    """

    v: torch.Tensor
    log_prob: torch.Tensor


def draw_noise(rows: Rows, like: torch.Tensor) -> Noise:
    """The randomness of one step.

    Args:
        rows: the rows.
        like: (chains, n, D), for its shape, dtype and device.

    Returns:
        The noise.
    """
    normal = like.new_empty((2, *like.shape)).normal_()
    base = rows.chart.base.sample(like.shape[:-1])
    return Noise(
        normal[0], normal[1], base, torch.rand_like(like[..., 0]), torch.rand((), dtype=like.dtype, device=like.device)
    )


def step_with_noise(noise: Noise, rows: Rows, state: State, step_size: torch.Tensor) -> tuple[State, torch.Tensor]:
    """One step of every chain as a function of its noise.

    Args:
        noise: of the step.
        rows: the rows.
        state: of the chains.
        step_size: (chains, n) of the walk; axes of size 1 are shared.

    Returns:
        The new state, and with what probability each proposal was accepted.
    """
    chart, v, observed, spread = rows
    joined = latent.join(noise.auxiliary, state.v, spread, observed)
    z, log_det = chart.to_base(joined)
    z_proposed = latent.propose(noise, z, step_size)
    joined_proposed, log_jacobian = chart.from_base(z_proposed)
    proposed = torch.where(observed, v, joined_proposed)
    value = chart.log_prob(proposed)
    there, here = (latent.log_auxiliary(each, v, spread, observed) for each in (joined_proposed, joined))
    target = torch.stack(
        [latent.log_target(value, there, log_jacobian), latent.log_target(state.log_prob, here, -log_det)]
    )
    log_base = torch.stack([chart.log_base(z_proposed), chart.log_base(z)])
    ratio = metropolis.log_ratio(target, latent.log_proposal(noise, log_base))
    accepted = metropolis.accepts(noise.accept, ratio)
    moved = State(torch.where(accepted[..., None], proposed, state.v), torch.where(accepted, value, state.log_prob))
    return moved, metropolis.accept_prob(ratio)


def run(
    rows: Rows,
    start: torch.Tensor,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int = 1,
    step_size: float = 0.1,
    progress: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Chains from a start.

    Args:
        rows: the rows.
        start: (chains, n, D) completed rows.
        num_warmup: iterations that adapt the walk's step sizes and are not kept.
        num_samples: draws to keep.
        num_steps: steps of an iteration.
        step_size: of the walk, at the start.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The completed rows (draw, chain, n, D), log p of them (draw, chain, n), the mean acceptance probability of all
        steps that are kept (chain, n), and the walk's step sizes (chain, n).
    """
    hidden = None if progress is None else not progress
    bar = tqdm(total=num_warmup + num_samples, disable=hidden, unit="step", desc="PL-MCMC")
    with bar, torch.no_grad(), isolated():
        state = State(start, rows.chart.log_prob(start))
        total = torch.zeros_like(state.log_prob)
        draws = start.new_empty((num_samples, *start.shape))
        values = total.new_empty((num_samples, *total.shape))
        # the chains of a row learn together
        averaging = adapting.dual_averaging(torch.full_like(total[:1], step_size))
        for i in range(num_warmup + num_samples):
            for _ in range(num_steps):
                noise = draw_noise(rows, state.v)
                now = averaging.log_step_size.exp() if i < num_warmup else _settled(averaging)
                state, accept_prob = step_with_noise(noise, rows, state, now)
                if i >= num_warmup:
                    total += accept_prob
                elif noise.far >= latent.FAR:
                    mean = accept_prob.mean(0, keepdim=True)
                    averaging = adapting.dual_averaging_update(averaging, mean, latent.TARGET)
            k = max(i - num_warmup, 0)
            draws[k], values[k] = state.v, state.log_prob
            bar.update()
    return draws, values, total / (num_samples * num_steps), _settled(averaging).expand(total.shape)


def projected(
    program: Any, x: torch.Tensor, observed: torch.Tensor, options: Mapping[str, int], progress: bool | None
) -> result.Draws:
    """Projected latent Markov chain Monte Carlo, see `impute`."""
    chart = program.chart()
    v, _ = neighbours.coordinates(chart, x, observed)
    found = neighbours.weigh(chart, x, observed, STARTS, options["num_chains"])
    spread = torch.as_tensor(latent.SPREAD * found.spread, dtype=v.dtype, device=v.device)
    draws, values, accept_prob, step_size = run(
        Rows(chart, v, observed.reshape(v.shape), spread),
        torch.as_tensor(found.chosen, dtype=v.dtype, device=v.device),
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        num_steps=options["num_steps"],
        progress=progress,
    )
    stats, said = result.chain_stats(
        values.transpose(0, 1).cpu().numpy(),
        acceptance_rate=accept_prob.cpu().numpy(),
        step_size=step_size.cpu().numpy(),
    )
    with torch.no_grad():
        return result.Draws(chart.to_data(draws).transpose(0, 1).cpu().numpy(), {}, stats, said)


def _settled(averaging: adapting.DualAveraging) -> torch.Tensor:
    return torch.where(averaging.count > 0, averaging.log_average, averaging.log_step_size).exp()
