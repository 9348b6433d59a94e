"""Kernels on real numbers for ``numpyro.infer.MCMC``."""

from collections.abc import Callable
from typing import Any

from deepgen import checks
from deepgen.inference.langevin import arguments
from deepgen.inference.langevin.adapter.numpyro import Adapter
from deepgen.inference.langevin.dynamics import Overdamped, Underdamped
from deepgen.inference.langevin.slopes.numpyro import Slopes
from deepgen.inference.langevin.space import refusals
from deepgen.inference.langevin.space.numpyro import Functions, Reals

__all__ = ["MALA", "ULA", "MetropolisedUnderdampedLangevin", "UnderdampedLangevin"]


class ULA(Adapter):
    """The unadjusted Langevin algorithm: x' = x + (e/2) grad log p(x) + sqrt(e) z with e = step_size^2.

    It does not sample the stated law but one whose distance from it is of the order of e: for a Gaussian of variance v
    its variance is v / (1 - e / (4 v)). Take ``MALA`` where that matters.

    Args:
        model: a NumPyro model; its constrained latents are moved through ``biject_to`` of their supports.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain, state being any pytree;
            needs ``init_params``.
        score_fn: state -> the gradient of the log density, of the state's structure; None takes that of
            ``potential_fn``. A score alone is enough.
        step_size: of a leapfrog, h: the Langevin step is e = h^2.
        init_strategy: of the engine's, for the start; None is ``init_to_uniform``.

    Raises:
        ValueError: both a model and functions, or neither; a number out of range; a discrete latent.

    References:
        Roberts and Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations"
        (1996); Durmus and Moulines, "Nonasymptotic convergence analysis for the unadjusted Langevin algorithm" (2017).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        score_fn: Callable[..., Any] | None = None,
        step_size: float = 0.1,
        init_strategy: Any = None,
    ) -> None:
        dynamics = Overdamped(adjusted=False)
        super().__init__(_space(model, potential_fn, score_fn, init_strategy), lambda categories: dynamics, step_size)


class MALA(Adapter):
    """The Metropolis-adjusted Langevin algorithm: ``ULA``'s step, accepted with its exact probability.

    x' = x + (e/2) M^-1 grad log p(x) + sqrt(e) M^-1/2 z, accepted with min(1, p(x') q(x | x') / (p(x) q(x' | x))). It
    leaves the law invariant at every step size; one step costs one gradient. Chains that run together learn one step
    and one mass together, and none of them stands still: the step becomes as small as those in a tail need it.

    Args:
        model: a NumPyro model; its constrained latents are moved through ``biject_to`` of their supports.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain, state being any pytree;
            needs ``init_params``.
        score_fn: state -> the gradient of the log density, of the state's structure; None takes that of
            ``potential_fn``. A score alone is not enough; with both, the draws are exact whatever the score.
        step_size: of a leapfrog, h: the Langevin step is e = h^2. The warm-up starts from it.
        adapt_step_size: whether the warm-up learns the step size, by dual averaging.
        adapt_mass_matrix: whether it learns the mass, from the variances of its draws.
        dense_mass: whether the mass is a full matrix instead of a diagonal one.
        target_accept_prob: the acceptance probability that the step size is adapted to.
        init_strategy: of the engine's, for the start; None is ``init_to_uniform``.

    Raises:
        ValueError: both a model and functions, or neither; a number out of range; a discrete latent.

    References:
        Roberts and Tweedie (1996); Roberts and Rosenthal, "Optimal scaling of discrete approximations to Langevin
        diffusions" (1998), for the acceptance probability of 0.574.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        score_fn: Callable[..., Any] | None = None,
        step_size: float = 0.1,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        dense_mass: bool = False,
        target_accept_prob: float = 0.574,
        init_strategy: Any = None,
    ) -> None:
        dynamics = Overdamped()
        super().__init__(
            _space(model, potential_fn, score_fn, init_strategy, adjusted=True),
            lambda categories: dynamics,
            step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            dense_mass=dense_mass,
            target_accept_prob=target_accept_prob,
        )


class UnderdampedLangevin(Adapter):
    """Underdamped Langevin dynamics in BAOAB steps, unadjusted.

    dx = v dt, dv = grad log p(x) dt - g v dt + sqrt(2 g) dW. It does not sample the stated law but one whose distance
    from it is of the order of step_size^2; on a Gaussian the positions are exact. Take
    ``MetropolisedUnderdampedLangevin`` where the error matters.

    Args:
        model: a NumPyro model; its constrained latents are moved through ``biject_to`` of their supports.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain, state being any pytree;
            needs ``init_params``.
        score_fn: state -> the gradient of the log density, of the state's structure; None takes that of
            ``potential_fn``. A score alone is enough.
        step_size: of a leapfrog, h: the Langevin step is e = h^2.
        friction: g, in units of inverse time: how fast the velocity is forgotten.
        init_strategy: of the engine's, for the start; None is ``init_to_uniform``.

    Raises:
        ValueError: both a model and functions, or neither; a number out of range; a discrete latent.

    References:
        Leimkuhler and Matthews, "Rational construction of stochastic numerical methods for molecular sampling" (2013).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        score_fn: Callable[..., Any] | None = None,
        step_size: float = 0.1,
        friction: float = 1.0,
        init_strategy: Any = None,
    ) -> None:
        checks.positive("friction", friction)
        dynamics = Underdamped(adjusted=False, friction=friction)
        super().__init__(_space(model, potential_fn, score_fn, init_strategy), lambda categories: dynamics, step_size)


class MetropolisedUnderdampedLangevin(Adapter):
    """Underdamped Langevin dynamics in trajectories of OBABO steps, each accepted or turned round.

    The velocity goes on from trajectory to trajectory; where one is rejected, its start is kept and the velocity
    reversed. It leaves the law invariant at every step size; one step costs ``num_steps`` gradients. Chains that run
    together learn together, as those of ``MALA``.

    Args:
        model: a NumPyro model; its constrained latents are moved through ``biject_to`` of their supports.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain, state being any pytree;
            needs ``init_params``.
        score_fn: state -> the gradient of the log density, of the state's structure; None takes that of
            ``potential_fn``. A score alone is not enough; with both, the draws are exact whatever the score.
        step_size: of a leapfrog, h: the Langevin step is e = h^2. The warm-up starts from it.
        friction: g, in units of inverse time: how fast the velocity is forgotten.
        num_steps: OBABO steps of a trajectory; 1 is guided Monte Carlo.
        adapt_step_size: whether the warm-up learns the step size, by dual averaging.
        adapt_mass_matrix: whether it learns the mass, from the variances of its draws.
        dense_mass: whether the mass is a full matrix instead of a diagonal one.
        target_accept_prob: the acceptance probability that the step size is adapted to.
        init_strategy: of the engine's, for the start; None is ``init_to_uniform``.

    Raises:
        ValueError: both a model and functions, or neither; a number out of range; a discrete latent.

    References:
        Horowitz, "A generalized guided Monte Carlo algorithm" (1991); Riou-Durand and Vogrinc, "Metropolis adjusted
        Langevin trajectories: a robust alternative to Hamiltonian Monte Carlo" (2022).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        score_fn: Callable[..., Any] | None = None,
        step_size: float = 0.1,
        friction: float = 1.0,
        num_steps: int = 1,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        dense_mass: bool = False,
        target_accept_prob: float = 0.8,
        init_strategy: Any = None,
    ) -> None:
        checks.positive("friction", friction)
        checks.at_least("num_steps", num_steps, 1)
        dynamics = Underdamped(friction=friction, num_steps=num_steps)
        super().__init__(
            _space(model, potential_fn, score_fn, init_strategy, adjusted=True),
            lambda categories: dynamics,
            step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            dense_mass=dense_mass,
            target_accept_prob=target_accept_prob,
        )


def _space(model: Any, potential_fn: Any, score_fn: Any, init_strategy: Any, *, adjusted: bool = False) -> Any:
    refusals.one_of_two(model, {"potential_fn": potential_fn, "score_fn": score_fn})
    if model is not None:
        return Reals(Slopes(model, adjusted=adjusted), init_strategy)
    arguments.check_functions(adjusted, potential_fn=potential_fn, score_fn=score_fn)
    return Functions(potential_fn, score_fn)
