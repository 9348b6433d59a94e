"""The kernels as one kind of thing: how much noise a step takes, how a chain begins, what a step does.

A loop that knows a ``Dynamics`` can run any of them, in either engine. The settings here are fixed for a run; what the
warm-up learns, step size and metric, is an argument of a step.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from deepgen.inference.hmc.hamiltonian import State
from deepgen.inference.langevin import discrete, overdamped, stochastic, underdamped
from deepgen.inference.langevin.acceptance import Info
from deepgen.inference.langevin.overdamped import Evaluate

Shape = tuple[int, ...]


@runtime_checkable
class Dynamics(Protocol):
    """What a loop needs to know of a kernel."""

    @property
    def adjusted(self) -> bool:
        """Whether an acceptance test makes the stated law invariant."""

    @property
    def kind(self) -> Any:
        """The kind of discrete states, or None for reals."""

    @property
    def metric(self) -> bool:
        """Whether a step takes a metric."""

    @property
    def target_accept_prob(self) -> float | None:
        """The acceptance probability to which the step size is adapted; None where there is none to adapt to."""

    @property
    def gaussian(self) -> bool:
        """Whether the noise of a step is normal; else it is uniform in (0, 1)."""

    def noise_shape(self, event: Shape) -> Shape:
        """The shape of a step's noise for one element, given the shape of one state."""

    def begin(self, position: Any, log_density: Any, gradient: Any, noise: Any) -> Any:
        """The state at a position; ``noise`` is that of one step, for dynamics that need some to begin."""

    def step(
        self, noise: Any, accept: Any, state: Any, evaluate: Evaluate, step_size: Any, root: Any
    ) -> tuple[Any, Info]:
        """One step."""


@dataclass(frozen=True)
class Overdamped:
    """ULA, or adjusted MALA: see ``overdamped.ula_step`` and ``overdamped.mala_step``."""

    adjusted: bool = True
    kind = None
    metric = True
    gaussian = True

    @property
    def target_accept_prob(self) -> float | None:
        """The optimum in high dimension (Roberts and Rosenthal, 1998)."""
        return 0.574 if self.adjusted else None

    def noise_shape(self, event: Shape) -> Shape:
        """A normal for each dimension."""
        return event

    def begin(self, position: Any, log_density: Any, gradient: Any, noise: Any) -> State:
        """The position with its gradient."""
        return State(position, log_density, gradient)

    def step(
        self, noise: Any, accept: Any, state: State, evaluate: Evaluate, step_size: Any, root: Any
    ) -> tuple[State, Info]:
        """One step."""
        take = overdamped.mala_step if self.adjusted else overdamped.ula_step
        return take(overdamped.Noise(noise, accept), state, evaluate, step_size, root)


@dataclass(frozen=True)
class Underdamped:
    """BAOAB, or adjusted OBABO: see ``underdamped.baoab_step`` and ``underdamped.obabo_step``."""

    adjusted: bool = True
    friction: float = 1.0
    num_steps: int = 1
    """OBABO steps to a trajectory"""
    kind = None
    metric = True
    gaussian = True

    @property
    def target_accept_prob(self) -> float | None:
        """High, for each rejection turns the velocity round."""
        return 0.8 if self.adjusted else None

    def noise_shape(self, event: Shape) -> Shape:
        """A normal for each dimension and each refreshment."""
        return (2 * self.num_steps if self.adjusted else 1, *event)

    def begin(self, position: Any, log_density: Any, gradient: Any, noise: Any) -> underdamped.State:
        """The position with its gradient and a standard normal velocity."""
        return underdamped.State(position, log_density, gradient, noise[..., 0, :])

    def step(
        self, noise: Any, accept: Any, state: underdamped.State, evaluate: Evaluate, step_size: Any, root: Any
    ) -> tuple[underdamped.State, Info]:
        """One step."""
        take = underdamped.obabo_step if self.adjusted else underdamped.baoab_step
        return take(underdamped.Noise(noise, accept), state, evaluate, step_size, root, self.friction)


@dataclass(frozen=True)
class Stochastic:
    """SGLD, or preconditioned pSGLD: see ``stochastic.sgld_step`` and ``stochastic.psgld_step``."""

    delay: float = 1.0
    power: float = 0.55
    preconditioned: bool = False
    decay: float = 0.99
    damping: float = 1e-5
    scale: float = 1.0
    adjusted = False
    target_accept_prob = None
    kind = None
    metric = False
    gaussian = True

    def noise_shape(self, event: Shape) -> Shape:
        """A normal for each dimension."""
        return event

    def begin(self, position: Any, log_density: Any, gradient: Any, noise: Any) -> stochastic.State:
        """The position with its gradient and the square of it."""
        return stochastic.begin(position, log_density, gradient, scale=self.scale)

    def step(
        self, noise: Any, accept: Any, state: stochastic.State, evaluate: Evaluate, step_size: Any, root: Any
    ) -> tuple[stochastic.State, Info]:
        """One step."""
        given = overdamped.Noise(noise, accept)
        if not self.preconditioned:
            return stochastic.sgld_step(given, state, evaluate, step_size, delay=self.delay, power=self.power)
        return stochastic.psgld_step(
            given,
            state,
            evaluate,
            step_size,
            delay=self.delay,
            power=self.power,
            decay=self.decay,
            damping=self.damping,
            scale=self.scale,
        )


@dataclass(frozen=True)
class Discrete:
    """Gibbs with gradients, or with ``many`` the discrete Langevin proposal: see ``discrete``."""

    kind: Any = discrete.Binary
    many: bool = False
    adjusted: bool = True
    metric = False
    gaussian = False

    @property
    def target_accept_prob(self) -> float | None:
        """That of the overdamped kernel, whose proposal this one imitates; Gibbs with gradients has no step size."""
        return 0.574 if self.many and self.adjusted else None

    def noise_shape(self, event: Shape) -> Shape:
        """A uniform for each entry of a state."""
        return event

    def begin(self, position: Any, log_density: Any, gradient: Any, noise: Any) -> State:
        """The position with its gradient."""
        return State(position, log_density, gradient)

    def step(
        self, noise: Any, accept: Any, state: State, evaluate: Evaluate, step_size: Any, root: Any
    ) -> tuple[State, Info]:
        """One step."""
        given = discrete.Noise(noise, accept)
        if self.many:
            return discrete.change_many(given, state, evaluate, step_size, self.kind, adjusted=self.adjusted)
        return discrete.change_one(given, state, evaluate, self.kind)


def event_ndim(dynamics: Dynamics) -> int:
    """How many axes a state has after the batch: 1, or 2 for one-hot rows."""
    return 1 if dynamics.kind is None else dynamics.kind.event_ndim


def flat_shape(dynamics: Dynamics, shape: Shape) -> Shape:
    """The shape in which the dynamics sees (n, *event): (n, d), or (n, d, k) for one-hot rows.

    Args:
        dynamics: the kernel.
        shape: (n, *event).

    Returns:
        The flat shape; its size is the same.
    """
    keep = event_ndim(dynamics) - 1
    tail = shape[len(shape) - keep :]
    size = 1
    for length in shape[1 : len(shape) - keep]:
        size *= length
    return (shape[0], size, *tail)
