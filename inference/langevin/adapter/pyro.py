"""Pyro's ``MCMCKernel`` over any of the dynamics."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.langevin import arguments, tuning
from deepgen.inference.langevin import pyro as langevin
from deepgen.inference.langevin.dynamics import Dynamics
from deepgen.inference.langevin.space.pyro import Layout

__all__ = ["Adapter"]


class LangevinState(NamedTuple):
    """The state of a kernel; each field but the first has an axis of chains in front."""

    i: int
    """steps taken, the warm-up's included"""
    z: dict[str, Tensor]
    """the states of the chains, unconstrained"""
    potential_energy: Tensor
    """at z, nats"""
    accept_prob: Tensor
    """of the last proposal"""
    mean_accept_prob: Tensor
    """over the warm-up, then over the draws"""
    diverging: Tensor
    """whether the last proposal was thrown out for an energy error above 1000 nats or not finite"""
    energy_error: Tensor
    """of the last proposal, nats"""
    step_size: Tensor
    """a leapfrog step: the Langevin step is its square"""
    chain: Any
    """the state of the dynamics"""
    learned: tuning.Tuning
    """what the warm-up has learned; chains learn together"""


class Adapter(MCMCKernel):
    """A Markov kernel of the dynamics on a space, for ``pyro.infer.MCMC``, which runs one chain at a time.

    Args:
        space: of ``deepgen.inference.langevin.space``.
        dynamics: the kernel, given the number of categories of the space.
        step_size: at the start.
        plan: what the warm-up learns, as arguments of ``arguments.plan``.
    """

    def __init__(self, space: Any, dynamics: Callable[[int], Dynamics], step_size: float, **plan: Any) -> None:
        arguments.check_step_size(np.asarray(step_size), 1)
        self._space, self._dynamics_of, self._step_size = space, dynamics, step_size
        self.dynamics = dynamics(0)
        self._plan = arguments.plan(self.dynamics, **plan)
        self._given: dict[str, Tensor] | None = None
        self._run: _Run | None = None
        super().__init__()

    @property
    def model(self) -> Any:
        """The model, or None."""
        return self._space.model

    @property
    def transforms(self) -> dict[str, Any]:
        """From values of the sites to unconstrained ones."""
        return self._space.transforms

    @property
    def law(self) -> str:
        """Whether the draws' law is "asymptotically exact" or "approximate"."""
        return "asymptotically exact" if self.dynamics.adjusted else "approximate"

    def begin(
        self,
        num_chains: int,
        num_warmup: int,
        params: dict[str, Tensor] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> tuple[LangevinState, Callable[[LangevinState], LangevinState]]:
        """The first state of several chains, and the function that moves it on by one step."""
        z = self._space.start(num_chains, params, args, kwargs)
        self.dynamics = self._dynamics_of(self._space.categories)
        layout = Layout(z, self._space.categories)
        flat = layout.flatten(z)
        arguments.check_states(self.dynamics, flat.numpy(force=True))
        loop = _Loop(self.dynamics, self._plan, layout, self._space, num_warmup, args, kwargs)
        state, finite = loop.first(flat, self._step_size)
        arguments.check_finite(finite.numpy(force=True))
        return state, loop.next

    def constrain(self, z: dict[str, Tensor], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
        """From states, (..., chains, *) each, to values of the model's sites."""
        return self._space.constrain(z, args, kwargs)

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Find a start."""
        given = None if self._given is None else {name: value[None] for name, value in self._given.items()}
        state, advance = self.begin(1, warmup_steps, given, args, kwargs)
        self._run = _Run(state, advance, warmup_steps)

    def cleanup(self) -> None:
        """Warn of divergence, and forget the chain."""
        if self._run is not None and self._run.draws:
            arguments.warn_of_divergence(self.dynamics, np.array([len(self._run.divergences)]), self._run.draws)
        self._given = self._run = None

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Where the chain stands, unconstrained."""
        return self._started.z_of_one()

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        """Where the next chain starts, unconstrained."""
        self._given = params

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state after one step, from where the kernel stands."""
        return self._started.step()

    def logging(self) -> "OrderedDict[str, str]":
        """What stands beside the progress bar."""
        state = self._started.state
        shown = OrderedDict([("step size", f"{float(state.step_size[0]):.2e}")])
        if self.dynamics.adjusted:
            shown["acc. prob"] = f"{float(state.mean_accept_prob[0]):.3f}"
        return shown

    def diagnostics(self) -> dict[str, Any]:
        """The draws that diverged, and the mean acceptance probability."""
        run = self._started
        return {"divergences": run.divergences, "acceptance rate": float(run.state.mean_accept_prob[0])}

    @property
    def _started(self) -> "_Run":
        assert self._run is not None, "setup was not called"
        return self._run


class _Run:
    """A chain of Pyro's MCMC, which keeps its place in the kernel."""

    def __init__(
        self, state: LangevinState, advance: Callable[[LangevinState], LangevinState], num_warmup: int
    ) -> None:
        self.state, self.advance, self.num_warmup = state, advance, num_warmup
        self.divergences: list[int] = []

    @property
    def draws(self) -> int:
        return max(self.state.i - self.num_warmup, 0)

    def z_of_one(self) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.state.z.items()}

    def step(self) -> dict[str, Tensor]:
        self.state = self.advance(self.state)
        if self.draws and bool(self.state.diverging[0]):
            self.divergences.append(self.draws - 1)
        return self.z_of_one()


class _Loop:
    """The steps of several chains on one target."""

    def __init__(
        self,
        dynamics: Dynamics,
        plan: arguments.Plan,
        layout: Layout,
        space: Any,
        num_warmup: int,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        self.dynamics, self.plan, self.layout, self.num_warmup = dynamics, plan, layout, num_warmup
        self.potential, self.score_fn = space.potential(args, kwargs), space.score_fn
        self.observing, self.closing = adapting.schedule(num_warmup, adapt_mass_matrix=plan.adapt_mass_matrix)
        self.vectorised = True

    def evaluate(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """The log density and score of each chain: vectorised where the model allows it, else one after another."""
        position = position.detach()
        if len(position) > 1 and self.vectorised:
            try:
                return torch.func.vmap(self.traced, randomness="different")(position)
            except RuntimeError:
                # what has no batching rule, or decides by a value, is run chain by chain from here on
                self.vectorised = False
        each = [self.one(x) for x in position]
        return torch.stack([value for value, _ in each]), torch.stack([score for _, score in each])

    def traced(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One chain, in functional form."""
        if self.score_fn is not None:
            return self.scored(x)
        gradient, value = torch.func.grad_and_value(lambda y: self.energy(self.layout.one(y)))(x)
        return -value, -gradient

    def one(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One chain, by autograd."""
        if self.score_fn is not None:
            return self.scored(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = self.energy(self.layout.one(leaf))
            (gradient,) = torch.autograd.grad(value, leaf)
        return -value.detach(), -gradient

    def scored(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One chain, the score given."""
        z = self.layout.one(x)
        value = torch.full_like(x[:1].sum(), torch.nan) if self.potential is None else self.energy(z)
        found = self.score_fn(z)
        arguments.check_score(_shapes(found), _shapes(z))
        score = self.layout.flatten({name: value[None] for name, value in found.items()})[0]
        return -value, score

    def energy(self, z: dict[str, Tensor]) -> Tensor:
        """The potential of one chain."""
        value = self.potential(z)
        arguments.check_value("potential_fn", tuple(value.shape), ())
        return value

    def first(self, position: Tensor, step_size: float) -> tuple[LangevinState, Tensor]:
        """The state at a position, and whether energy and score are finite there."""
        rows = len(position)
        chain = langevin.init(self.dynamics, self.evaluate, position, langevin.draw_noise(self.dynamics, position))
        known = torch.isfinite(chain.log_density)
        if not self.dynamics.adjusted:
            known |= torch.isnan(chain.log_density)
        finite = known & torch.isfinite(chain.gradient).reshape(rows, -1).all(1)
        zero = torch.zeros_like(chain.log_density)
        vectors = position.detach() if self.dynamics.metric else position.detach().reshape(rows, -1)[:, :1]
        learned = tuning.begin(vectors, zero + step_size, pool=rows > 1, dense=self.plan.dense_mass)
        state = LangevinState(
            i=0,
            z=self.layout.unflatten(position),
            potential_energy=-chain.log_density,
            accept_prob=zero,
            mean_accept_prob=zero,
            diverging=zero > 0,
            energy_error=zero,
            step_size=zero + step_size,
            chain=chain,
            learned=learned,
        )
        return state, finite

    def next(self, state: LangevinState) -> LangevinState:
        """The state after one step."""
        learned, rows, warming = state.learned, len(state.diverging), state.i < self.num_warmup
        h = (tuning.searched_step_size if warming else tuning.learned_step_size)(learned)
        noise = langevin.draw_noise(self.dynamics, state.chain.position)
        root = learned.root if self.dynamics.metric else None
        chain, info = langevin.step_with_noise(noise, self.dynamics, state.chain, self.evaluate, h, root)
        if warming and self.plan.adapt_step_size:
            target = self.plan.target_accept_prob
            learned = tuning.learn_step_size(learned, info.accept_prob, target, pool=rows > 1)
        if warming and self.observing[state.i]:
            learned = tuning.observe(learned, chain.position, pool=rows > 1)
        if warming and self.closing[state.i]:
            learned = tuning.close_window(learned, step_size=self.plan.adapt_step_size)
        count = state.i + 1 - (0 if warming else self.num_warmup)
        return LangevinState(
            i=state.i + 1,
            z=self.layout.unflatten(chain.position),
            potential_energy=-chain.log_density,
            accept_prob=info.accept_prob,
            mean_accept_prob=state.mean_accept_prob + (info.accept_prob - state.mean_accept_prob) / count,
            diverging=info.diverging,
            energy_error=info.energy_error,
            step_size=h.expand(rows),
            chain=chain,
            learned=learned,
        )


def _shapes(found: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(found, Mapping):
        return {"": tuple(getattr(found, "shape", ()))}
    return {name: tuple(value.shape) for name, value in found.items()}
