"""Kernels over rows of zeros and ones in torch: steps at a temperature, and long runs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from tqdm import tqdm

from deepgen.inference.chains import arguments
from deepgen.inference.chains.pyro.walking import Run, Step, densities, evaluate, steps
from deepgen.inference.langevin import discrete
from deepgen.inference.langevin.noise.pyro import uniform

__all__ = ["BlockGibbs", "FlipSteps"]


@dataclass(frozen=True)
class FlipSteps:
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
        entries = int(np.prod(x.shape[1:]))
        return discrete.Noise(uniform(x, (len(x), entries)), uniform(x, (len(x),)))

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

        def guided(q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, gradient = evaluate(lambda q: self.tempered(law, q.reshape(x.shape), temperature), q)
            if observed is not None:
                # a flip that promises so great a loss is never proposed
                gradient = torch.where(observed.reshape(q.shape), (2 * q - 1) * arguments.NEVER, gradient)
            return value, gradient

        with torch.no_grad():
            end, info = discrete.change_one(noise, discrete.State(flat, *guided(flat)), guided, discrete.Binary)
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
        """Chains of ``num_steps`` flips an iteration, see `HamiltonianSteps.run`."""
        return _run(self, law, start, num_warmup, num_samples, num_steps, thinning, observed, progress)


@dataclass(frozen=True)
class BlockGibbs:
    """Gibbs sampling of all hidden units given the visible ones, then of these given those. It keeps the law.

    For energies of a restricted Boltzmann machine, with ``hidden_logits``, ``visible_logits`` and ``tempered``, on a
    base of independent zeros and ones. A temperature multiplies the joint energy of both kinds of units, not the free
    energy.

    References:
        Hinton, "Training products of experts by minimizing contrastive divergence" (2002).
    """

    exact: ClassVar[bool] = True
    tuned: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def draw_noise(self, law: Any, x: torch.Tensor) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        visible = int(np.prod(x.shape[1:]))
        return uniform(x, (len(x), law.energy.hidden_dim)), uniform(x, (len(x), visible))

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
        with torch.no_grad():
            energy = law.energy
            hidden = _below(noise[0], energy.hidden_logits(x, temperature))
            logits = law.base.base_dist.logits.reshape(-1) + energy.visible_logits(hidden, temperature)
            moved = _below(noise[1], logits).reshape(x.shape)
        return Step(moved if observed is None else torch.where(observed, x, moved), x.new_ones(len(x)))

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
        return _run(self, law, start, num_warmup, num_samples, num_steps, thinning, observed, progress)


def _below(uniform: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Ones where a uniform is below the probability, else zeros, in the memory of the probabilities."""
    probs = torch.sigmoid(logits)
    return torch.lt(uniform, probs, out=probs)


def _run(
    kernel: Any,
    law: Any,
    start: torch.Tensor,
    num_warmup: int,
    num_samples: int,
    num_steps: int,
    thinning: int,
    observed: torch.Tensor | None,
    progress: bool | None,
) -> Run:
    arguments.check_run(num_warmup, num_samples, num_steps, thinning)
    chains, n = start.shape[:2]
    x = start.reshape(chains * n, *start.shape[2:])
    seen = None if observed is None else observed.expand(start.shape).reshape(x.shape)
    kept, total = x.new_zeros((num_samples, *x.shape)), x.new_zeros(len(x))
    hidden, iterations = None if progress is None else not progress, num_warmup + num_samples * thinning
    for i in tqdm(range(iterations), disable=hidden, unit="step", desc=type(kernel).__name__):
        x, prob = steps(kernel, law, x, num_steps, observed=seen)
        # what is not kept is overwritten by the draw that is
        kept[max(i - num_warmup, 0) // thinning] = x
        if i >= num_warmup:
            total = total + prob / (num_samples * thinning)
    density = densities(law, kept)
    return Run(
        kept.reshape(num_samples, *start.shape), density.reshape(-1, chains, n), total.reshape(chains, n), None, None
    )
