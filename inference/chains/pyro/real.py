"""Kernels over rows of real numbers in torch: steps at a temperature, and long runs."""

from typing import Any, ClassVar

import torch

from deepgen.inference.chains import arguments
from deepgen.inference.chains.pyro.walking import Run, Step, densities, evaluate
from deepgen.inference.hmc import pyro as hmc
from deepgen.inference.langevin import overdamped


class HamiltonianSteps:
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

    def __init__(self, step_size: float = 0.3, num_steps: int = 4):
        arguments.check_kernel(step_size, num_steps)
        self.step_size, self.num_steps = float(step_size), int(num_steps)

    def __repr__(self) -> str:
        return f"HamiltonianSteps(step_size={self.step_size}, num_steps={self.num_steps})"

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        return hmc.draw_noise(x.reshape(len(x), -1))

    def tempered(self, law: Any, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """log base(x) - temperature energy(x), (n,)."""
        return _base(law, x) - temperature * law.energy(x)

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
        size = torch.as_tensor(self.step_size if step_size is None else step_size, dtype=x.dtype, device=x.device)
        end, info = hmc.step_with_noise(noise, state, log_density, size.reshape(1), scale[None] ** 2, self.num_steps)
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
        arguments.check_run(num_warmup, num_samples, num_steps, thinning)
        spread = _spread(law)
        flat = start.reshape(*start.shape[:2], -1)
        seen = None if observed is None else observed.reshape(1, start.shape[1], -1)
        target = _Clamped(law, flat, seen, spread)
        draws, report = hmc.run(
            target,
            flat / spread,
            num_warmup=num_warmup,
            num_samples=num_samples,
            num_steps=num_steps,
            thinning=thinning,
            progress=progress,
        )
        x = target.data(draws).reshape(num_samples, *start.shape)
        # that of the target counts what stands in the place of observed entries
        density = -report.potential_energy if observed is None else densities(law, x)
        return Run(x, density, report.accept_prob, report.step_size, report.divergences)


class LangevinSteps:
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

    def __init__(self, step_size: float = 0.2, noise_scale: float = 1.0, max_gradient: float | None = None):
        arguments.check_langevin(step_size, noise_scale, max_gradient)
        self.step_size, self.noise_scale, self.max_gradient = float(step_size), float(noise_scale), max_gradient

    def __repr__(self) -> str:
        return (
            f"LangevinSteps(step_size={self.step_size}, noise_scale={self.noise_scale}, "
            f"max_gradient={self.max_gradient})"
        )

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        return torch.randn_like(x.reshape(len(x), -1))

    def tempered(self, law: Any, x: torch.Tensor, temperature: Any) -> torch.Tensor:
        """log base(x) - temperature energy(x), (n,)."""
        return _base(law, x) - temperature * law.energy(x)

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
        _, gradient = evaluate(lambda x: self.tempered(law, x, temperature), x)
        size = self.step_size if step_size is None else step_size
        spread, rows = _spread(law), (len(x), -1)
        score = spread * gradient.reshape(rows)
        if self.max_gradient is not None:
            score = score.clamp(-self.max_gradient, self.max_gradient)
        moved = overdamped.propose(x.reshape(rows) / spread, score, size, self.noise_scale * noise)
        moved = (spread * moved).reshape(x.shape)
        return Step(moved if observed is None else torch.where(observed, x, moved), x.new_ones(len(x)))


class _Clamped:
    """The log density of (chains, n, d) in units of the base's spread, observed entries in place.

    What stands where an entry is observed is given a normal law of its own, so that it does not wander off.
    """

    def __init__(self, law: Any, start: torch.Tensor, observed: torch.Tensor | None, spread: torch.Tensor):
        self.law, self.start, self.observed, self.spread = law, start, observed, spread

    def data(self, position: torch.Tensor) -> torch.Tensor:
        moved = position * self.spread
        return moved if self.observed is None else torch.where(self.observed, self.start, moved)

    def __call__(self, position: torch.Tensor) -> torch.Tensor:
        rows = self.data(position).reshape(-1, *self.law.event_shape)
        value = self.law.log_prob(rows).reshape(position.shape[:-1])
        if self.observed is None:
            return value
        away = torch.where(self.observed, position - self.start / self.spread, torch.zeros_like(position))
        return value - 0.5 * (away**2).sum(-1)


def _spread(law: Any) -> torch.Tensor:
    return law.base.variance.sqrt().reshape(-1)


def _base(law: Any, x: torch.Tensor) -> torch.Tensor:
    # a proposal may be NaN: that is for the acceptance test to reject, not for the base to refuse
    real = torch.isfinite(x)
    return law.base.log_prob(x.where(real, 0.0)).where(real.reshape(len(x), -1).all(1), torch.nan)
