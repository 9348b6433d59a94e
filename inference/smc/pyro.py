"""Sequential Monte Carlo in PyTorch: pure steps, and runs of all rows at once."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int

from deepgen.inference.smc import genealogy, weights
from deepgen.inference.smc.arguments import check, check_inputs, check_start
from deepgen.inference.smc.resampling import SCHEMES
from deepgen.inference.smc.trees import leaves, tree_map
from deepgen.program.pyro import isolated

__all__ = ["Info", "Particles", "State", "draw_uniforms", "init", "smc", "step", "step_with_uniforms", "take"]


class State(NamedTuple):
    """Weighted particles.

    Attributes:
        particles: arrays (*batch, n, ...).
        log_weights: (*batch, n), normalised.
        log_evidence: (*batch), nats.
    """

    particles: Any
    log_weights: Any
    log_evidence: Any


class Info(NamedTuple):
    """What happened in a step.

    Attributes:
        ess: (*batch) effective sample sizes before it.
        resampled: (*batch) whether there was resampling.
        ancestors: (*batch, n) of each particle, which one before the step it comes from.
    """

    ess: Any
    resampled: Any
    ancestors: Any


class Particles(NamedTuple):
    """The outcome of a run over T inputs.

    Attributes:
        particles: arrays (*batch, n, ...), at the end.
        log_weights: (*batch, n), normalised, of the particles and of their histories.
        log_evidence: (*batch) estimates of log Z, nats, of which exp is unbiased.
        ess: (T + 1, *batch) effective sample sizes, at the start and after each step.
        resampled: (T, *batch) whether the particles were resampled before each step.
        lineage: (T + 1, *batch, n) of each particle at the end, which one it was then.
        history: what was collected along the lineages, arrays (T + 1, *batch, n, ...).
    """

    particles: Any
    log_weights: Any
    log_evidence: Any
    ess: Any
    resampled: Any
    lineage: Any
    history: Any


def init(particles: Any, log_weights: Float[torch.Tensor, "*batch n"]) -> State:
    """The state of particles that have been weighed for the first time.

    Args:
        particles: arrays (*batch, n, ...).
        log_weights: not normalised.

    Returns:
        The state, its evidence the mean weight.
    """
    return State(particles, *weights.reweigh(weights.even(log_weights), log_weights))


def draw_uniforms(like: Float[torch.Tensor, "*batch n"]) -> Float[torch.Tensor, "*batch n"]:
    """The uniforms of one resampling."""
    return torch.rand_like(like)


def step_with_uniforms(
    uniforms: Float[torch.Tensor, "*batch n"],
    state: State,
    move: Callable[[Any, Any], tuple[Any, torch.Tensor]],
    item: Any,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
) -> tuple[State, Info]:
    """One step as a function of the uniforms of its resampling: resample where uneven, move, weigh.

    Args:
        uniforms: in [0, 1).
        state: of ``init`` or of the step before.
        move: particles and item to moved particles and log factors (*batch, n).
        item: what ``move`` is given besides.
        resampling: a scheme of ``resampling.SCHEMES``.
        ess_threshold: as a share of the number of particles.

    Returns:
        The new state, and what happened.
    """
    count = state.log_weights.shape[-1]
    ess = weights.effective_sample_size(state.log_weights)
    wanted = weights.too_uneven(ess, count, ess_threshold)
    particles, log_weights, _ = state
    ancestors = torch.arange(count, device=log_weights.device).expand(log_weights.shape)
    if wanted.any():
        index = SCHEMES[resampling](torch.exp(log_weights), uniforms)
        ancestors = torch.where(wanted[..., None], index, ancestors)
        log_weights = torch.where(wanted[..., None], weights.even(log_weights), log_weights)
        particles = take(particles, ancestors)
    particles, log_factors = move(particles, item)
    log_weights, increment = weights.reweigh(log_weights, log_factors)
    return State(particles, log_weights, state.log_evidence + increment), Info(ess, wanted, ancestors)


def step(
    state: State,
    move: Callable[[Any, Any], tuple[Any, torch.Tensor]],
    item: Any,
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
) -> tuple[State, Info]:
    """One step: resample where uneven, move, weigh.

    Args:
        state: of ``init`` or of the step before.
        move: particles and item to moved particles and log factors (*batch, n).
        item: what ``move`` is given besides.
        resampling: a scheme of ``resampling.SCHEMES``.
        ess_threshold: as a share of the number of particles.

    Returns:
        The new state, and what happened.
    """
    return step_with_uniforms(draw_uniforms(state.log_weights), state, move, item, resampling, ess_threshold)


def take(particles: Any, index: Int[torch.Tensor, "*batch m"]) -> Any:
    """The particles at these indices.

    Args:
        particles: arrays (*batch, n, ...).
        index: which of them.

    Returns:
        torch.Tensors (*batch, m, ...).
    """
    batch = index.shape[:-1]
    rows = math.prod(batch)

    def one(leaf: torch.Tensor) -> torch.Tensor:
        count = leaf.shape[len(batch)]
        flat = index.reshape(rows, -1) + count * torch.arange(rows, device=index.device)[:, None]
        values = leaf.reshape(rows * count, *leaf.shape[len(batch) + 1 :])
        return values[flat.reshape(-1)].reshape(*index.shape, *leaf.shape[len(batch) + 1 :])

    return tree_map(one, particles)


def smc(
    start: Callable[..., Any],
    move: Callable[..., Any],
    inputs: Any,
    *,
    num_particles: int = 1000,
    batch_shape: tuple[int, ...] = (),
    resampling: str = "systematic",
    ess_threshold: float = 0.5,
    collect: Callable[[Any], Any] | None = None,
) -> Particles:
    r"""A particle filter, or any other sequence of weighted moves, for one series or many at once.

    Particles start, and for each input they are resampled where their effective sample size has fallen below a share of
    their number, moved and weighed. For a state-space model with :math:`z_t \sim p(z_t \mid z_{t-1})` and
    :math:`y_t \sim p(y_t \mid z_t)` a move draws z_t and its log factor is :math:`\log p(y_t \mid z_t)`, as in the
    filter of Gordon, Salmond & Smith 1993. Then ``log_evidence`` estimates :math:`\log p(y_{1:T})`. For a proposal q
    the factor is :math:`p(y_t \mid z_t)\, p(z_t \mid z_{t-1}) / q(z_t \mid z_{t-1}, y_t)`.

    >>> import torch, pyro.distributions as dist
    >>> def start(shape):
    ...     return dist.Normal(0.0, 2.0).sample(shape), torch.zeros(shape)
    >>> def move(z, y):
    ...     z = dist.Normal(0.9 * z, 1.0).sample()
    ...     return z, dist.Normal(z, 0.5).log_prob(y)
    >>> found = smc(start, move, torch.tensor([0.3, 0.1, -0.4]), num_particles=500)
    >>> found.ess.shape
    torch.Size([4])

    Args:
        start: (\*batch_shape, num_particles) to particles, a tree of arrays that begin with these axes, and log
            weights of this shape, zeros where nothing is observed yet. A function, or a module.
        move: (particles, item) to moved particles and log factors of that shape.
        inputs: arrays (T, ...), of which each step is given one entry.
        num_particles: how many for each row.
        batch_shape: of the rows.
        resampling: ``"systematic"``, ``"stratified"``, ``"residual"`` or ``"multinomial"``.
        ess_threshold: the share of ``num_particles`` below which the ESS leads to resampling; 0 never, 1 always.
        collect: from particles to what is to be kept of every step, along the lineages of the particles at the end;
            None keeps nothing.

    Returns:
        The particles at the end with their weights, histories and evidence.

    Raises:
        ValueError: arguments out of range, or particles and weights that do not begin with the axes of the particles.
    """
    check(num_particles, batch_shape, resampling, ess_threshold)
    check_inputs([tuple(leaf.shape) for leaf in leaves(inputs)])
    shape = (*batch_shape, num_particles)
    length = len(leaves(inputs)[0])
    kept = collect if collect is not None else lambda _: None
    infos, histories = [], []
    with torch.no_grad(), isolated():
        state = init(*_checked("start", start(shape), shape))
        histories.append(kept(state.particles))
        for t in range(length):
            item = tree_map(lambda leaf, t=t: leaf[t], inputs)
            state, info = step(
                state, lambda *args: _checked("move", move(*args), shape), item, resampling, ess_threshold
            )
            infos.append(info)
            histories.append(kept(state.particles))
        lineage = [torch.arange(num_particles, device=state.log_weights.device).expand(shape)]
        for info in reversed(infos):
            lineage.append(genealogy.follow(info.ancestors, lineage[-1]))
        lineage.reverse()
        history = tree_map(lambda *leaves: torch.stack(leaves), *map(take, histories, lineage))
        ess = [*(info.ess for info in infos), weights.effective_sample_size(state.log_weights)]
        resampled = [info.resampled for info in infos]
    return Particles(*state, torch.stack(ess), torch.stack(resampled), torch.stack(lineage), history)


def _checked(name: str, found: Any, shape: tuple[int, ...]) -> Any:
    particles, log_weights = found
    check_start(name, tuple(log_weights.shape), [tuple(leaf.shape) for leaf in leaves(particles)], shape)
    return found
