"""Langevin chains in torch: pure steps of any of the dynamics, and eager runs of all chains at once."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.langevin import arguments, tuning
from deepgen.inference.langevin.acceptance import Info
from deepgen.inference.langevin.dynamics import Dynamics, flat_shape
from deepgen.inference.langevin.noise.pyro import Noise, draw_noise
from deepgen.inference.langevin.report import Result, Tally, in_a_row, kept, patience
from deepgen.inference.langevin.target.pyro import Evaluate, bare

__all__ = ["draw_noise", "init", "run", "run_with_noise", "step", "step_with_noise"]


def init(dynamics: Dynamics, evaluate: Evaluate, position: Tensor, noise: Noise) -> Any:
    """The state at a position.

    Args:
        dynamics: the kernel.
        evaluate: of ``target``.
        position: (n, d), or (n, d, k) for one-hot rows.
        noise: of ``draw_noise``; what begins with a velocity takes it from there.

    Returns:
        The state of the dynamics.

    Raises:
        ValueError: where the potential or the score is of the wrong shape.
    """
    return dynamics.begin(position.detach(), *evaluate(position), noise[0])


def step_with_noise(
    noise: Noise, dynamics: Dynamics, state: Any, evaluate: Evaluate, step_size: Float[Tensor, "#n"], root: Any = None
) -> tuple[Any, Info]:
    """One step as a function of its noise.

    Args:
        noise: of ``draw_noise``.
        dynamics: the kernel.
        state: of ``init`` or of the step before.
        evaluate: of ``target``.
        step_size: (n) or (1), of a leapfrog: the Langevin step is its square.
        root: of the inverse mass, (n, d), (n, d, d) or with n = 1; None is the identity.

    Returns:
        The new state, and what happened.
    """
    with torch.no_grad():
        return dynamics.step(*noise, state, evaluate, step_size, root)


def step(
    dynamics: Dynamics, state: Any, evaluate: Evaluate, step_size: Float[Tensor, "#n"], root: Any = None
) -> tuple[Any, Info]:
    """One step.

    Args:
        dynamics: the kernel.
        state: of ``init`` or of the step before.
        evaluate: of ``target``.
        step_size: (n) or (1), of a leapfrog: the Langevin step is its square.
        root: of the inverse mass, (n, d), (n, d, d) or with n = 1; None is the identity.

    Returns:
        The new state, and what happened.
    """
    noise = draw_noise(dynamics, state.position)
    return step_with_noise(noise, dynamics, state, evaluate, step_size, root)


def run_with_noise(
    noise_at: Callable[[Any], Noise],
    dynamics: Dynamics,
    position: Tensor,
    *,
    potential_fn: Callable[[Tensor], Tensor] | None = None,
    score_fn: Callable[[Tensor], Tensor] | None = None,
    num_warmup: int = 0,
    num_samples: int,
    thinning: int = 1,
    step_size: Any = 0.1,
    adapt_step_size: bool | None = None,
    adapt_mass_matrix: bool | None = None,
    dense_mass: bool = False,
    target_accept_prob: float | None = None,
    pool_chains: bool = True,
    progress: bool | None = None,
) -> tuple[Tensor, Result]:
    """``run`` as a function of its noise.

    Args:
        noise_at: number -> noise: 0 for the start, then 1, 2, ... for the steps, warm-up first.
        dynamics: as in ``run``.
        position: as in ``run``.
        potential_fn: as in ``run``.
        score_fn: as in ``run``.
        num_warmup: as in ``run``.
        num_samples: as in ``run``.
        thinning: as in ``run``.
        step_size: as in ``run``.
        adapt_step_size: as in ``run``.
        adapt_mass_matrix: as in ``run``.
        dense_mass: as in ``run``.
        target_accept_prob: as in ``run``.
        pool_chains: as in ``run``.
        progress: as in ``run``.

    Returns:
        As ``run``.

    Raises:
        ValueError: as ``run``.
    """
    arguments.check_functions(dynamics.adjusted, potential_fn=potential_fn, score_fn=score_fn)
    steps = torch.as_tensor(step_size, dtype=position.dtype, device=position.device)
    arguments.check_run(
        dynamics,
        tuple(position.shape),
        position.is_floating_point(),
        num_warmup=num_warmup,
        num_samples=num_samples,
        thinning=thinning,
        step_size=steps.numpy(force=True),
    )
    plan = arguments.plan(
        dynamics,
        adapt_step_size=adapt_step_size,
        adapt_mass_matrix=adapt_mass_matrix,
        dense_mass=dense_mass,
        target_accept_prob=target_accept_prob,
    )
    arguments.check_states(dynamics, position.numpy(force=True))
    pool = pool_chains and num_warmup > 0
    evaluate = bare(potential_fn, score_fn, event_shape=tuple(position.shape[1:]))
    flat = position.reshape(flat_shape(dynamics, tuple(position.shape)))
    state, rows = init(dynamics, evaluate, flat, noise_at(0)), len(flat)
    known = torch.isfinite(state.log_density)
    if not dynamics.adjusted:
        known |= torch.isnan(state.log_density)
    finite = known & torch.isfinite(state.gradient).reshape(rows, -1).all(1)
    arguments.check_finite(finite.numpy(force=True))

    hidden = None if progress is None else not progress
    total = num_samples * thinning
    bar = tqdm(total=num_warmup + total, disable=hidden, unit="step", desc="Langevin")
    # validated once, above: inside, a wild proposal must be rejected, not raised as an error, and checks cost time
    with bar, pyro.validation_enabled(False), torch.no_grad():
        vectors = flat.detach() if dynamics.metric else flat.detach().reshape(rows, -1)[:, :1]
        learned = tuning.begin(vectors, steps.expand(rows), pool=pool, dense=plan.dense_mass)
        observing, closing = adapting.schedule(num_warmup, adapt_mass_matrix=plan.adapt_mass_matrix)
        bad, made = torch.zeros((), dtype=torch.int32, device=flat.device), num_warmup + total
        for i in range(num_warmup):
            root = learned.root if plan.adapt_mass_matrix else None
            h = tuning.searched_step_size(learned)
            state, info = step_with_noise(noise_at(i + 1), dynamics, state, evaluate, h, root)
            if plan.adapt_step_size:
                learned = tuning.learn_step_size(learned, info.accept_prob, plan.target_accept_prob, pool=pool)
            if observing[i]:
                learned = tuning.observe(learned, state.position, pool=pool)
            if closing[i]:
                learned = tuning.close_window(learned, step_size=plan.adapt_step_size)
            bar.update()
            bad = in_a_row(bad, info.diverging)
            if bad >= patience(dynamics.adjusted):
                made = i + 1
                break

        h = tuning.learned_step_size(learned)
        root = learned.root if plan.adapt_mass_matrix and num_warmup > 0 else None
        draws = torch.empty((num_samples, *flat.shape), dtype=flat.dtype, device=flat.device)
        potential_energy = torch.empty((num_samples, rows), dtype=flat.dtype, device=flat.device)
        zero = torch.zeros_like(finite, dtype=flat.dtype)
        tally = Tally(zero, zero, torch.zeros_like(finite, dtype=torch.int32))
        for i in range(total if made > num_warmup else 0):
            state, info = step_with_noise(noise_at(num_warmup + i + 1), dynamics, state, evaluate, h, root)
            tally = tally.add(info)
            k, left = divmod(i + 1, thinning)
            if left == 0:
                draws[k - 1], potential_energy[k - 1] = state.position, -state.log_density
            bar.update()
            bad = in_a_row(bad, info.diverging)
            if bad >= patience(dynamics.adjusted):
                made = num_warmup + i + 1
                break
    wanted, counted = num_warmup + total, max(made - num_warmup, 0)
    left = kept(dynamics.adjusted, made, wanted, num_warmup, thinning)
    arguments.warn_of_divergence(
        dynamics,
        tally.diverging.numpy(force=True),
        counted,
        stopped=(made, wanted, left) if made < wanted else None,
    )
    return draws[:left].reshape(left, *position.shape), Result(
        accept_prob=tally.accept_prob / max(counted, 1),
        accept_rate=tally.accepted / max(counted, 1),
        divergences=tally.diverging,
        step_size=h.expand(rows),
        root=learned.root,
        potential_energy=potential_energy[:left],
        initial_finite=finite,
        state=state,
    )


def run(
    dynamics: Dynamics,
    position: Tensor,
    *,
    potential_fn: Callable[[Tensor], Tensor] | None = None,
    score_fn: Callable[[Tensor], Tensor] | None = None,
    num_warmup: int = 0,
    num_samples: int,
    thinning: int = 1,
    step_size: Any = 0.1,
    adapt_step_size: bool | None = None,
    adapt_mass_matrix: bool | None = None,
    dense_mass: bool = False,
    target_accept_prob: float | None = None,
    pool_chains: bool = True,
    progress: bool | None = None,
) -> tuple[Tensor, Result]:
    """Chains of a Langevin kernel, all at once, on a bare potential or score.

    Adjusted dynamics learn step size and mass in the warm-up, fixed after it, and leave exp(-potential) invariant;
    unadjusted ones do not, and their draws are approximate. Only every ``thinning``-th state is ever stored.

    A run whose step size is hopeless stops early, with a ``DivergenceWarning``, and gives the draws up to there:
    without an acceptance test where no chain is finite any more, with one after 100 steps in a row at which the
    proposals of all chains diverged.

    Args:
        dynamics: ``Overdamped``, ``Underdamped``, ``Stochastic`` or ``Discrete``.
        position: (n, *event) where to start; zeros and ones for discrete dynamics, one-hot along the last axis for
            categorical ones.
        potential_fn: (n, *event) -> (n,), nats, minus the log density up to a constant; each element's value depends on
            its own position only. Adjusted dynamics need it.
        score_fn: (n, *event) -> (n, *event), the gradient of the log density. None takes that of ``potential_fn``;
            where both are given the score drives and the potential judges, so adjusted dynamics are exact whatever the
            score.
        num_warmup: iterations that are not kept, in which adjusted dynamics learn.
        num_samples: draws to keep.
        thinning: iterations for each draw kept.
        step_size: a number or (n,), of a leapfrog: the Langevin step is its square.
        adapt_step_size: whether the warm-up learns the step size; None: where there is an acceptance test.
        adapt_mass_matrix: whether it learns the metric; None: likewise.
        dense_mass: whether the metric is a full matrix instead of a diagonal one.
        target_accept_prob: the acceptance probability to adapt to; None is the dynamics' own.
        pool_chains: whether all n are chains of one target and learn together, so that none stands still.
            False: each learns for itself.
        progress: whether to show a bar; None: on a terminal only.

    Returns:
        The draws, (num_samples, n, *event), fewer where the run stopped, and a report.

    Raises:
        ValueError: for an argument out of range, a function's result of the wrong shape, or a start outside the
            support.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations"
        (1996); and those of the dynamics.
    """
    like = position.new_empty(flat_shape(dynamics, tuple(position.shape)), requires_grad=False)
    return run_with_noise(
        lambda i: draw_noise(dynamics, like),
        dynamics,
        position,
        potential_fn=potential_fn,
        score_fn=score_fn,
        num_warmup=num_warmup,
        num_samples=num_samples,
        thinning=thinning,
        step_size=step_size,
        adapt_step_size=adapt_step_size,
        adapt_mass_matrix=adapt_mass_matrix,
        dense_mass=dense_mass,
        target_accept_prob=target_accept_prob,
        pool_chains=pool_chains,
        progress=progress,
    )
