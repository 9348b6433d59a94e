"""Gibbs sampling with the guide as proposal in Pyro: eager steps over all rows and chains."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine
from tqdm import tqdm

from deepgen.inference.imputation import result
from deepgen.inference.imputation.gibbs import metropolis
from deepgen.inference.imputation.gibbs.metropolis import Noise, Rule
from deepgen.inference.imputation.resampling import pyro as resampling
from deepgen.program.pyro import decode, isolated, log_joint, propose


class Rows(NamedTuple):
    """What is known of the rows, each as often as there are chains.

    Attributes:
        program: what has ``model`` and ``guide``.
        x: (rows, *event_shape), any admissible value where missing.
        observed: booleans of that shape.
    """

    program: Any
    x: torch.Tensor
    observed: torch.Tensor


class State(NamedTuple):
    """Where the chains are.

    Attributes:
        latents: by site, (rows, ...).
        x: (rows, *event_shape), completed by what was drawn given the latents.
        log_joint: (rows,) log p(x_observed, latents), nats.
    """

    latents: dict[str, torch.Tensor]
    x: torch.Tensor
    log_joint: torch.Tensor


def draw_noise(like: torch.Tensor) -> Noise:
    """The uniforms of one step.

    Args:
        like: (rows,), for its shape, dtype and device.

    Returns:
        The uniforms.
    """
    return Noise(*(torch.rand_like(like) for _ in range(3)))


def init(rows: Rows, latents: Mapping[str, torch.Tensor]) -> State:
    """The state at these latents, the missing entries drawn given them.

    Args:
        rows: the rows.
        latents: by site, (rows, ...).

    Returns:
        The state.
    """
    return State(dict(latents), _impute(rows, latents), _value(rows, latents))


def step_with_noise(
    noise: Noise, rows: Rows, state: State, source: torch.Tensor, rule: Rule
) -> tuple[State, torch.Tensor, torch.Tensor]:
    """One step of every chain: latents proposed and accepted or not, then the missing entries given them.

    Args:
        noise: its uniforms.
        rows: the rows.
        state: of the chains.
        source: (rows, *event_shape) the completed rows that the guide is shown: those of ``state``, or earlier ones.
        rule: which of the methods.

    Returns:
        The new state, whether each proposal was accepted, and with what probability it was.
    """
    model, guide = rows.program.model, rows.program.guide
    prior = poutine.block(model, hide=["x"])
    proposed, _ = propose(guide, source)
    if rule.adaptive:
        from_prior, _ = propose(prior, rows.x)
        proposed = _where(noise.mixture < metropolis.EPSILON, from_prior, proposed)
    if rule.corrected:
        both = {name: torch.stack([proposed[name], state.latents[name]]) for name in proposed}
        proposal = log_joint(guide, both, source, num_particles=2)
        if rule.adaptive:
            proposal = metropolis.log_mixture(proposal, log_joint(prior, both, rows.x, num_particles=2))
            target = torch.stack([_value(rows, proposed), state.log_joint])
        else:
            target = log_joint(model, both, state.x, num_particles=2)
        ratio = metropolis.log_ratio(target, proposal)
    else:
        ratio = torch.zeros_like(state.log_joint)
    accepted = metropolis.accepts(noise.accept, ratio)
    latents = _where(accepted, proposed, state.latents)
    value = torch.where(accepted, target[0], target[1]) if rule.adaptive else _value(rows, latents)
    return State(latents, _impute(rows, latents), value), accepted, metropolis.accept_prob(ratio)


def run(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    start: Mapping[str, torch.Tensor],
    *,
    rule: Rule,
    num_warmup: int,
    num_samples: int,
    progress: bool | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Chains from a start.

    Args:
        program: what has ``model`` and ``guide``.
        x: (n, *event_shape), anything where missing.
        observed: booleans of x's shape.
        start: the latents by site, (chains, n, ...); of the adaptive method two starts for each chain, the second of
            which makes the imputation with which its history begins.
        rule: which of the methods.
        num_warmup: iterations that are not kept.
        num_samples: draws to keep.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The completed rows (draw, chain, n, *event_shape), the latents (draw, chain, n, ...), log p(x_observed, latents)
        (draw, chain, n) and the mean acceptance probability of what is kept (chain, n).
    """
    chains = len(next(iter(start.values()))) // (1 + rule.adaptive)
    first, second = (
        {name: value[part].reshape(-1, *value.shape[2:]) for name, value in start.items()}
        for part in (slice(chains), slice(chains, None))
    )
    complete = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
    bar = tqdm(
        total=num_warmup + num_samples, disable=None if progress is None else not progress, unit="step", desc="Gibbs"
    )
    with bar, torch.no_grad(), isolated():
        rows = Rows(program, *(torch.cat([array] * chains) for array in (complete, observed)))
        state = init(rows, first)
        each = torch.arange(len(state.x), device=x.device)
        # the adaptive method proposes from all that it has imputed: its draws are the last of its history
        size = 1 + num_warmup + num_samples if rule.adaptive else num_samples
        imputed = state.x.new_empty((size, *state.x.shape))
        if rule.adaptive:
            imputed[0] = _impute(rows, second)
        kept = {name: value.new_empty((num_samples, *value.shape)) for name, value in first.items()}
        values = state.log_joint.new_empty((num_samples, len(each)))
        available = torch.ones_like(each)
        total = torch.zeros_like(state.log_joint)
        for i in range(num_warmup + num_samples):
            noise = draw_noise(state.log_joint)
            source = imputed[metropolis.place(noise.source, available), each] if rule.adaptive else state.x
            state, accepted, accept_prob = step_with_noise(noise, rows, state, source, rule)
            available = metropolis.released(accepted, available, i + 1)
            k = max(i - num_warmup, 0)
            imputed[i + 1 if rule.adaptive else k] = state.x
            for name, value in state.latents.items():
                kept[name][k] = value
            values[k] = state.log_joint
            if i >= num_warmup:
                total += accept_prob
            bar.update()
    shape = (num_samples, chains, len(x))
    latents = {name: value.reshape(*shape, *value.shape[2:]) for name, value in kept.items()}
    completed = imputed[-num_samples:].reshape(*shape, *imputed.shape[2:])
    return completed, latents, values.reshape(shape), (total / num_samples).reshape(shape[1:])


def gibbs(
    program: Any,
    x: torch.Tensor,
    observed: torch.Tensor,
    options: Mapping[str, int],
    progress: bool | None,
    start: Mapping[str, torch.Tensor] | None = None,
    *,
    method: str,
) -> result.Draws:
    """One of the methods of ``metropolis.RULES``, see `impute`; from ``start`` as in `run` where it is given."""
    rule = metropolis.RULES[method]
    if start is None:
        start = resampling.start(program, x, observed, options["num_chains"] * (1 + rule.adaptive))
    completed, latents, values, accept_prob = run(
        program,
        x,
        observed,
        start,
        rule=rule,
        num_warmup=options["num_warmup"],
        num_samples=options["num_samples"],
        progress=progress,
    )
    by_chain = {name: value.transpose(0, 1).cpu().numpy() for name, value in latents.items()}
    stats, said = result.chain_stats(
        values.transpose(0, 1).cpu().numpy(),
        acceptance_rate=accept_prob.cpu().numpy() if rule.corrected else None,
    )
    return result.Draws(completed.transpose(0, 1).cpu().numpy(), by_chain, stats, said)


def _where(
    rows: torch.Tensor, first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {name: resampling.where(rows, value, second[name]) for name, value in first.items()}


def _value(rows: Rows, latents: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return log_joint(rows.program.model, latents, rows.x, rows.observed)


def _impute(rows: Rows, latents: Mapping[str, torch.Tensor]) -> torch.Tensor:
    drawn = decode(rows.program.model, latents, len(rows.x))
    return torch.where(rows.observed, rows.x, drawn.to(rows.x.dtype))
