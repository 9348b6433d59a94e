"""Kernels over whole data sets in JAX: pure steps at a temperature, and long runs in one compiled call."""

from typing import Any, ClassVar, NamedTuple

import torch
import numpy as np
from jax import lax

from deepgen.inference.chains import arguments, flips, short_runs
from deepgen.inference.hmc import pyro as hmc

__all__ = ["BlockGibbs", "FlipSteps", "HamiltonianSteps", "LangevinSteps", "Run", "Step", "default", "steps"]


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


class HamiltonianSteps(torch.nn.Module):
    """Hamiltonian Monte Carlo over the entries of each datum; with one leapfrog step it is MALA. It keeps the law.

    Args:
        step_size: of the leapfrog in units of the base's standard deviations; a long run adapts its own.
        num_steps: leapfrog steps of a trajectory.

    Raises:
        ValueError: an argument out of range.

    References:
        Neal, "MCMC using Hamiltonian dynamics" (2011); Roberts and Tweedie, "Exponential convergence of Langevin
        distributions and their discrete approximations" (1996).
    """

    exact: ClassVar[bool] = True
    tuned: ClassVar[bool] = True
    discrete: ClassVar[bool] = False

    step_size: float = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __init__(self, step_size: float = 0.3, num_steps: int = 4):
        arguments.check_kernel(step_size, num_steps)
        self.step_size, self.num_steps = float(step_size), int(num_steps)

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        return hmc.draw_noise(rng_key, x.reshape(len(x), -1))

    def tempered(self, law: Any, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """log base(x) - temperature energy(x), (n,)."""
        return law.base.log_prob(x) - temperature * law.energy(x)

    def step(
        self,
        noise: Any,
        law: Any,
        x: torch.Tensor,
        temperature: Any = 1.0,
        step_size: Any = None,
        observed: torch.Tensor | None = None,
    ) -> Step:
        """One trajectory of each row and its test; ``observed`` entries stay."""
        scale = _spread(law)

        def log_density(q: torch.Tensor) -> torch.Tensor:
            rows = q.reshape(x.shape)
            return self.tempered(law, rows if observed is None else torch.where(observed, x, rows), temperature)

        state = hmc.init(log_density, x.reshape(len(x), -1))
        size = torch.asarray(self.step_size if step_size is None else step_size, x.dtype).reshape(1)
        end, info = hmc.step_with_noise(noise, state, log_density, size, scale[None] ** 2, self.num_steps)
        moved = end.position.reshape(x.shape)
        return Step(moved if observed is None else torch.where(observed, x, moved), info.accept_prob)

    def run(
        self,
       
        law: Any,
        start: torch.Tensor,
        *,
        num_warmup: int,
        num_samples: int,
        num_steps: int = 8,
        thinning: int = 1,
        observed: torch.Tensor | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Chains whose step sizes and masses are adapted in the warm-up.

        Args:
                law: the law.
            start: (chains, n, *event_shape), observed entries in place.
            num_warmup: iterations that learn and are not kept.
            num_samples: draws to keep of each chain.
            num_steps: the mean number of leapfrog steps of an iteration.
            thinning: iterations for each draw.
            observed: (n, *event_shape) booleans of the entries that stay, or None.
            progress: whether to show a bar; None: on a terminal only.

        Returns:
            The draws and what the chains say of themselves.
        """
        arguments.check_run(num_warmup, num_samples, num_steps)
        spread = _spread(law)
        flat = start.reshape(*start.shape[:2], -1)
        seen = None if observed is None else observed.reshape(1, start.shape[1], -1)
        target = _Clamped(law, flat, seen, spread)
        draws, report = hmc.run(
            rng_key,
            target,
            flat / spread,
            num_warmup=num_warmup,
            num_samples=num_samples,
            num_steps=num_steps,
            thinning=thinning,
            progress=progress,
        )
        x = target.data(draws).reshape(num_samples, *start.shape)
        return Run(x, -report.potential_energy, report.accept_prob, report.step_size, report.divergences)


class LangevinSteps(torch.nn.Module):
    r"""Unadjusted Langevin steps, for the short runs that train an energy. Their draws are not of the law.

    .. math:: x' = x + \tfrac{\varepsilon^2}{2} s^2 \nabla \log f(x) + c\, \varepsilon\, s\, \zeta

    Args:
        step_size: epsilon, in units of the base's standard deviations s.
        noise_scale: c; less than 1 for colder chains.
        max_gradient: each entry of s times the gradient is clipped to this; None for no limit.

    Raises:
        ValueError: an argument out of range.

    References:
        Nijkamp, Hill, Zhu and Wu, "Learning non-convergent non-persistent short-run MCMC toward energy-based model"
        (2019); Du and Mordatch, "Implicit generation and modeling with energy-based models" (2019).
    """

    exact: ClassVar[bool] = False
    tuned: ClassVar[bool] = False
    discrete: ClassVar[bool] = False

    step_size: float = eqx.field(static=True)
    noise_scale: float = eqx.field(static=True)
    max_gradient: float | None = eqx.field(static=True)

    def __init__(self, step_size: float = 0.2, noise_scale: float = 1.0, max_gradient: float | None = None):
        arguments.check_langevin(step_size, noise_scale, max_gradient)
        self.step_size, self.noise_scale, self.max_gradient = float(step_size), float(noise_scale), max_gradient

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        return jax.random.normal(rng_key, (len(x), int(np.prod(x.shape[1:]))), x.dtype)

    def tempered(self, law: Any, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """log base(x) - temperature energy(x), (n,)."""
        return law.base.log_prob(x) - temperature * law.energy(x)

    def step(
        self,
        noise: Any,
        law: Any,
        x: torch.Tensor,
        temperature: Any = 1.0,
        step_size: Any = None,
        observed: torch.Tensor | None = None,
    ) -> Step:
        """One step of each row; ``observed`` entries stay."""
        gradient = jax.grad(lambda x: torch.sum(self.tempered(law, x, temperature)))(x)
        size = self.step_size if step_size is None else step_size
        rows = len(x), -1
        flat = short_runs.langevin(
            x.reshape(rows), gradient.reshape(rows), noise, size, _spread(law), self.noise_scale, self.max_gradient
        )
        moved = flat.reshape(x.shape)
        return Step(moved if observed is None else torch.where(observed, x, moved), torch.ones(len(x), x.dtype))


class FlipSteps(torch.nn.Module):
    """Gibbs with gradients over binary entries: one flip proposed a step, by the gradient. It keeps the law.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions" (2021).
    """

    exact: ClassVar[bool] = True
    tuned: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        uniform = jax.random.uniform(rng_key, (len(x), int(np.prod(x.shape[1:])) + 1), x.dtype)
        return uniform[:, :-1], uniform[:, -1]

    def tempered(self, law: Any, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """log base(x) - temperature energy(x), (n,)."""
        return law.base.log_prob(x) - temperature * law.energy(x)

    def step(
        self,
        noise: Any,
        law: Any,
        x: torch.Tensor,
        temperature: Any = 1.0,
        step_size: Any = None,
        observed: torch.Tensor | None = None,
    ) -> Step:
        """One flip of each row, accepted or not; ``observed`` entries stay."""
        flat = x.reshape(len(x), -1)
        free = torch.ones(flat.shape, bool) if observed is None else ~observed.reshape(flat.shape)

        def evaluate(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, pullback = jax.vjp(lambda q: self.tempered(law, q.reshape(x.shape), temperature), flat)
            return value, flips.log_proposal(flips.gains(flat, pullback(torch.ones_like(value))[0]), free)

        value, forward = evaluate(flat)
        flip = flips.chosen(forward, noise[0])
        proposal = torch.where(flip > 0, 1 - flat, flat)
        proposed, backward = evaluate(proposal)
        prob = torch.where(free.any(-1), flips.accept_prob(proposed - value, forward, backward, flip), 0.0)
        moved = torch.where((noise[1] < prob)[:, None], proposal, flat)
        return Step(moved.reshape(x.shape), prob)

    def run(
        self,
       
        law: Any,
        start: torch.Tensor,
        *,
        num_warmup: int,
        num_samples: int,
        num_steps: int = 8,
        thinning: int = 1,
        observed: torch.Tensor | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Chains of ``num_steps`` flips an iteration, see `HamiltonianSteps.run`."""
        return _run(self, rng_key, law, start, num_warmup, num_samples, num_steps * thinning, observed)


class BlockGibbs(torch.nn.Module):
    """Gibbs sampling of all hidden units given the visible ones, then of these given those. It keeps the law.

    For energies of a restricted Boltzmann machine, with ``hidden_logits``, ``visible_logits`` and ``tempered``, on a base
    of independent zeros and ones. A temperature multiplies the joint energy of both kinds of units, not the free energy.

    References:
        Hinton, "Training products of experts by minimizing contrastive divergence" (2002).
    """

    exact: ClassVar[bool] = True
    tuned: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        visible, hidden = int(np.prod(x.shape[1:])), law.energy.hidden_dim
        uniform = jax.random.uniform(rng_key, (len(x), visible + hidden), torch.result_type(float))
        return uniform[:, :hidden], uniform[:, hidden:]

    def tempered(self, law: Any, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """log base(x) plus the log of the hidden units' sum at this temperature, (n,)."""
        return law.base.log_prob(x) - law.energy.tempered(x, temperature)

    def step(
        self,
        noise: Any,
        law: Any,
        x: torch.Tensor,
        temperature: Any = 1.0,
        step_size: Any = None,
        observed: torch.Tensor | None = None,
    ) -> Step:
        """The hidden units, then the visible ones; ``observed`` entries stay."""
        energy = law.energy
        hidden = (noise[0] < jax.nn.sigmoid(energy.hidden_logits(x, temperature))).astype(x.dtype)
        logits = law.base.base_dist.logits.reshape(-1) + energy.visible_logits(hidden, temperature)
        moved = (noise[1] < jax.nn.sigmoid(logits)).astype(x.dtype).reshape(x.shape)
        return Step(moved if observed is None else torch.where(observed, x, moved), torch.ones(len(x), x.dtype))

    def run(
        self,
       
        law: Any,
        start: torch.Tensor,
        *,
        num_warmup: int,
        num_samples: int,
        num_steps: int = 8,
        thinning: int = 1,
        observed: torch.Tensor | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Chains of ``num_steps`` sweeps an iteration, see `HamiltonianSteps.run`."""
        return _run(self, rng_key, law, start, num_warmup, num_samples, num_steps * thinning, observed)


def default(base: Any) -> Any:
    """The kernel for a law on this base: flips of zeros and ones, Hamiltonian steps of real numbers.

    Args:
        base: a distribution.
    """
    return FlipSteps() if base.support.is_discrete else HamiltonianSteps()


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
        rng_key: the key; noise of step i is drawn from it folded with i.
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

    def one(i: Any, carry: Step) -> Step:
        noise = kernel.draw_noise(jax.random.fold_in(rng_key, i), law, carry.x)
        moved, accept_prob = kernel.step(noise, law, carry.x, temperature, step_size, observed)
        return Step(moved, carry.accept_prob + accept_prob / num_steps)

    return lax.fori_loop(0, num_steps, one, Step(x, torch.zeros(len(x), x.dtype)))


class _Clamped(torch.nn.Module):
    """The log density of (chains, n, d) in units of the base's spread, observed entries in place.

    What stands where an entry is observed is given a normal law of its own, so that it does not wander off.
    """

    law: Any
    start: torch.Tensor
    observed: torch.Tensor | None
    spread: torch.Tensor

    def data(self, position: torch.Tensor) -> torch.Tensor:
        moved = position * self.spread
        return moved if self.observed is None else torch.where(self.observed, self.start, moved)

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        rows = self.data(position).reshape(-1, *self.law.event_shape)
        value = self.law.log_prob(rows).reshape(position.shape[:-1])
        if self.observed is None:
            return value
        away = torch.where(self.observed, position - self.start / self.spread, 0.0)
        return value - 0.5 * torch.sum(away**2, axis=-1)


def _spread(law: Any) -> torch.Tensor:
    return torch.sqrt(law.base.variance).reshape(-1)


@eqx.filter_jit
def _run(
    kernel: Any,
   
    law: Any,
    start: torch.Tensor,
    num_warmup: int,
    num_samples: int,
    num_steps: int,
    observed: torch.Tensor | None,
) -> Run:
    arguments.check_run(num_warmup, num_samples, num_steps)
    chains, n = start.shape[:2]
    rows = start.reshape(chains * n, *start.shape[2:])
    seen = None if observed is None else torch.broadcast_to(observed, start.shape).reshape(rows.shape)
    kept = torch.zeros((num_samples, *rows.shape), rows.dtype)

    def iterate(i: Any, carry: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, kept, total = carry
        x, prob = steps(jax.random.fold_in(rng_key, i), kernel, law, x, num_steps, observed=seen)
        # warm-up writes to the first slot, which the first draw overwrites
        kept = kept.at[torch.maximum(i - num_warmup, 0)].set(x)
        return x, kept, torch.where(i < num_warmup, total, total + prob / num_samples)

    _, kept, prob = lax.fori_loop(0, num_warmup + num_samples, iterate, (rows, kept, torch.zeros(len(rows), rows.dtype)))
    density = lax.map(law.log_prob, kept)
    return Run(
        kept.reshape(num_samples, *start.shape), density.reshape(-1, chains, n), prob.reshape(chains, n), None, None
    )
