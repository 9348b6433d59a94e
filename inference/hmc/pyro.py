"""Lockstep Hamiltonian Monte Carlo in torch: eager steps over the whole batch, one autograd call a leapfrog step."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.hmc import hamiltonian
from deepgen.inference.hmc.arguments import check_finite, check_log_density, check_run, check_step_size
from deepgen.inference.hmc.hamiltonian import Info, Noise, Result, State

__all__ = ["Info", "Noise", "Result", "State", "draw_noise", "init", "run", "run_with_noise", "step", "step_with_noise"]


def init(log_density: Callable[[Tensor], Tensor], position: Float[Tensor, "*batch d"]) -> State:
    """The state at a position: its log density and gradient.

    Args:
        log_density: (*batch, d) -> (*batch), nats; each element's value may depend on its own position only.
        position: (*batch, d).

    Returns:
        The state.

    Raises:
        ValueError: where the log density does not return one number an element.
    """
    return State(position.detach(), *_evaluate(log_density, position))


def draw_noise(position: Float[Tensor, "*batch d"]) -> Noise:
    """The randomness of one step.

    Args:
        position: (*batch, d), for its shape, dtype and device.

    Returns:
        Normals for the momentum, uniforms for acceptance, one uniform for the length.
    """
    # the length steers a Python loop: on the host, a device need not be waited for
    momentum, accept = torch.randn_like(position), torch.rand_like(position[..., 0])
    return Noise(momentum, accept, torch.rand((), dtype=position.dtype, device="cpu"))


def step_with_noise(
    noise: Noise,
    state: State,
    log_density: Callable[[Tensor], Tensor],
    step_size: Float[Tensor, "*#batch"],
    inverse_mass: Float[Tensor, "*#batch d"],
    num_steps: int,
    jitter: float = 0.5,
) -> tuple[State, Info]:
    """One step of Hamiltonian Monte Carlo as a function of its noise.

    Args:
        noise: of ``draw_noise``.
        state: of ``init`` or of the step before.
        log_density: (*batch, d) -> (*batch), nats.
        step_size: (*batch), of the leapfrog; axes of size 1 are shared.
        inverse_mass: (*batch, d), likewise.
        num_steps: the mean number of leapfrog steps; each costs one gradient.
        jitter: 0 for always ``num_steps``, 1 for anything from 1 to 2 num_steps - 1, uniformly.

    Returns:
        The new state, and what happened.
    """
    with torch.no_grad():
        start, p_start = state, hamiltonian.momentum(noise.momentum, inverse_mass)
        length = int(hamiltonian.trajectory_length(noise.length, num_steps, jitter))
        end, p_end = start, p_start
        for _ in range(length):
            end, p_end = hamiltonian.leapfrog(lambda q: _evaluate(log_density, q), end, p_end, step_size, inverse_mass)
        return hamiltonian.metropolis(noise.accept, start, p_start, end, p_end, inverse_mass, torch.tensor(length))


def step(
    state: State,
    log_density: Callable[[Tensor], Tensor],
    step_size: Float[Tensor, "*#batch"],
    inverse_mass: Float[Tensor, "*#batch d"],
    num_steps: int,
    jitter: float = 0.5,
) -> tuple[State, Info]:
    """One step of Hamiltonian Monte Carlo: leaves the law exp(log_density) of every element invariant.

    Args:
        state: of ``init`` or of the step before.
        log_density: (*batch, d) -> (*batch), nats.
        step_size: (*batch), of the leapfrog; axes of size 1 are shared.
        inverse_mass: (*batch, d), likewise.
        num_steps: the mean number of leapfrog steps.
        jitter: as in ``step_with_noise``.

    Returns:
        The new state, and what happened.
    """
    noise = draw_noise(state.position)
    return step_with_noise(noise, state, log_density, step_size, inverse_mass, num_steps, jitter)


def run_with_noise(
    noise_at: Callable[[int], Noise],
    log_density: Callable[[Tensor], Tensor],
    position: Tensor,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int = 8,
    jitter: float = 0.5,
    step_size: Any = 0.1,
    target_accept_prob: float = 0.8,
    thinning: int = 1,
    adapt_mass_matrix: bool = True,
    pool_chains: bool = True,
    collect: Callable[[int, Tensor], Any] | None = None,
    progress: bool | None = None,
) -> tuple[Any, Result]:
    """``run`` as a function of its noise.

    Args:
        noise_at: iteration (counted from 0, warm-up first) -> the noise of that step.
        log_density: as in ``run``.
        position: as in ``run``.
        num_warmup: as in ``run``.
        num_samples: as in ``run``.
        num_steps: as in ``run``.
        jitter: as in ``run``.
        step_size: as in ``run``.
        target_accept_prob: as in ``run``.
        thinning: as in ``run``.
        adapt_mass_matrix: as in ``run``.
        pool_chains: as in ``run``.
        collect: (number of the kept draw, its position) -> what to keep of it.
        progress: as in ``run``.

    Returns:
        As ``run``.

    Raises:
        ValueError: as ``run``.
    """
    check_run(
        tuple(position.shape),
        position.is_floating_point(),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_steps=num_steps,
        jitter=jitter,
        target_accept_prob=target_accept_prob,
        thinning=thinning,
    )
    batch_shape = tuple(position.shape[:-1])
    steps = torch.as_tensor(step_size, dtype=position.dtype, device=position.device)
    check_step_size(steps.numpy(force=True), batch_shape)
    pool = pool_chains and num_warmup > 0
    state = init(log_density, position)
    finite = torch.isfinite(state.log_density) & torch.isfinite(state.gradient).all(-1)
    check_finite(finite.numpy(force=True))

    hidden = None if progress is None else not progress
    bar = tqdm(total=num_warmup + num_samples * thinning, disable=hidden, unit="step", desc="HMC")
    # validated once, above: inside, a wild proposal must be rejected, not raised as an error, and checks cost time
    with bar, pyro.validation_enabled(False), torch.no_grad():
        learned = adapting.adaptation(position, steps.expand(batch_shape), pool=pool)
        observing, closing = adapting.schedule(num_warmup, adapt_mass_matrix=adapt_mass_matrix)
        for i in range(num_warmup):
            step_now = learned.averaging.log_step_size.exp()
            noise = noise_at(i)
            state, info = step_with_noise(noise, state, log_density, step_now, learned.inverse_mass, num_steps, jitter)
            learned = adapting.adapt_step_size(learned, info.accept_prob, target_accept_prob, pool=pool)
            if observing[i]:
                learned = adapting.observe(learned, state.position, pool=pool)
            if closing[i]:
                learned = adapting.close_window(learned)
            bar.update()

        fixed, inverse_mass = adapting.adapted_step_size(learned), learned.inverse_mass
        potential_energy = state.log_density.new_empty((num_samples, *state.log_density.shape))
        accept_prob, accepted = torch.zeros_like(state.log_density), torch.zeros_like(state.log_density)
        divergences = torch.zeros_like(finite, dtype=torch.int32)
        draws: Any = None
        for i in range(num_samples * thinning):
            noise = noise_at(num_warmup + i)
            state, info = step_with_noise(noise, state, log_density, fixed, inverse_mass, num_steps, jitter)
            accept_prob += info.accept_prob
            accepted += info.accepted
            divergences += info.diverging
            k, left = divmod(i + 1, thinning)
            if left == 0:
                potential_energy[k - 1] = -state.log_density
                kept = state.position if collect is None else collect(k - 1, state.position)
                draws = _store(draws, k - 1, kept, num_samples)
            bar.update()
    total = num_samples * thinning
    return draws, Result(
        accept_prob=accept_prob / total,
        accept_rate=accepted / total,
        divergences=divergences,
        step_size=fixed.expand(batch_shape),
        inverse_mass=inverse_mass.expand(position.shape),
        potential_energy=potential_energy,
        initial_finite=finite,
        state=state,
    )


def run(
    log_density: Callable[[Tensor], Tensor],
    position: Tensor,
    *,
    num_warmup: int,
    num_samples: int,
    num_steps: int = 8,
    jitter: float = 0.5,
    step_size: Any = 0.1,
    target_accept_prob: float = 0.8,
    thinning: int = 1,
    adapt_mass_matrix: bool = True,
    pool_chains: bool = True,
    collect: Callable[[Tensor], Any] | None = None,
    progress: bool | None = None,
) -> tuple[Any, Result]:
    """Draws from many independent targets at once, by Hamiltonian Monte Carlo in lockstep.

    Every element of the batch has its own target, step size and diagonal mass; the length of the trajectory is drawn
    anew each iteration and shared. The step sizes and masses are learned in the warm-up and fixed after it, so what is
    kept comes from kernels that leave exp(log_density) invariant.

    Args:
        log_density: (chains, ..., d) -> (chains, ...), nats, up to a constant; each element's value may depend on its
            own position only.
        position: (chains, ..., d) where to start.
        num_warmup: iterations that learn and are not kept; 0 keeps ``step_size`` and unit mass.
        num_samples: draws to keep.
        num_steps: the mean number of leapfrog steps of an iteration, each one gradient.
        jitter: 0 for always ``num_steps``, 1 for anything from 1 to 2 num_steps - 1, uniformly.
        step_size: of the leapfrog, at the start: a number or (chains, ...).
        target_accept_prob: the acceptance probability that the warm-up aims at.
        thinning: iterations for each draw kept.
        adapt_mass_matrix: whether the diagonal mass is learned or 1.
        pool_chains: whether elements along the first axis are chains of one target and learn together, with a step
            for those in a tail too. It changes how fast the warm-up learns, not what is sampled.
        collect: position -> a tensor or a dictionary of tensors to keep of a draw, instead of its position.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The draws, (num_samples, chains, ..., d) or what ``collect`` returned with num_samples in front, and a report.

    Raises:
        ValueError: for an argument out of range, a log density of the wrong shape, or a start outside the support.

    References:
        Neal, "MCMC using Hamiltonian dynamics" (2011); Hoffman and Gelman, "The No-U-Turn sampler" (2014).
    """
    return run_with_noise(
        lambda i: draw_noise(position),
        log_density,
        position,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_steps=num_steps,
        jitter=jitter,
        step_size=step_size,
        target_accept_prob=target_accept_prob,
        thinning=thinning,
        adapt_mass_matrix=adapt_mass_matrix,
        pool_chains=pool_chains,
        collect=None if collect is None else lambda k, q: collect(q),
        progress=progress,
    )


def _evaluate(log_density: Callable[[Tensor], Tensor], position: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        position = position.detach().requires_grad_()
        value = log_density(position)
        check_log_density(tuple(value.shape), tuple(position.shape[:-1]))
        (gradient,) = torch.autograd.grad(value.sum(), position)
    return value.detach(), gradient


def _store(stores: Any, k: int, kept: Any, num_samples: int) -> Any:
    if isinstance(kept, dict):
        stores = stores or dict.fromkeys(kept)
        return {name: _store(stores[name], k, value, num_samples) for name, value in kept.items()}
    stores = kept.new_empty((num_samples, *kept.shape)) if stores is None else stores
    stores[k] = kept
    return stores
