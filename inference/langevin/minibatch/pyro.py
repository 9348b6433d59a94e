"""Stochastic gradient kernels for ``pyro.infer.MCMC``."""

from collections.abc import Callable
from typing import Any

from deepgen import checks
from deepgen.inference.langevin.adapter.pyro import Adapter
from deepgen.inference.langevin.dynamics import Stochastic
from deepgen.inference.langevin.slopes.pyro import Slopes
from deepgen.inference.langevin.space import refusals
from deepgen.inference.langevin.space.pyro import Functions, Reals

__all__ = ["PSGLD", "SGLD"]


class SGLD(Adapter):
    """Stochastic gradient Langevin dynamics: ``ULA`` with the gradient of a mini-batch and a decaying step.

    x' = x + (e_t/2) g + sqrt(e_t) z with E g = grad log p(x) and e_t = step_size^2 (1 + t / delay)^-power. It does not
    sample the stated law: discretisation and the mini-batches' noise both widen it, by an amount that decays with the
    steps.

    Args:
        model: a Pyro model with a ``plate`` of a ``subsample_size``; each step draws a mini-batch of its own, and the
            plate scales its density to that of all data.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain; needs
            ``initial_params``.
        step_size: h of the first step: the Langevin step is its square.
        delay: steps before the decay sets in.
        power: of the decay; in (0.5, 1] the bias vanishes, 0 keeps the step and a bias.
        init_strategy: of the engine's, for the start; None is ``init_to_uniform``.

    Raises:
        ValueError: both a model and functions, or neither; a number out of range; a discrete latent.

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics" (2011); Teh, Thiery and Vollmer,
        "Consistency and fluctuations for stochastic gradient Langevin dynamics" (2016).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        step_size: float = 0.01,
        delay: float = 1000.0,
        power: float = 0.55,
        init_strategy: Any = None,
    ) -> None:
        _check(delay, power)
        dynamics = Stochastic(delay=delay, power=power)
        super().__init__(_space(model, potential_fn, init_strategy), lambda categories: dynamics, step_size)


class PSGLD(Adapter):
    """``SGLD`` with the RMSprop preconditioner G = 1 / (damping + sqrt(V)), V a running mean of squared gradients.

    x' = x + (e_t/2) G g + sqrt(e_t G) z. Beside the biases of ``SGLD`` it leaves out the divergence of G, as its paper
    does: it does not sample the stated law.

    Args:
        model: a Pyro model with a ``plate`` of a ``subsample_size``; each step draws a mini-batch of its own, and the
            plate scales its density to that of all data.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain; needs
            ``initial_params``.
        step_size: h of the first step: the Langevin step is its square.
        delay: steps before the decay sets in.
        power: of the decay; in (0.5, 1] the bias vanishes, 0 keeps the step and a bias.
        decay: of the running mean, in (0, 1).
        damping: its inverse is the largest G.
        num_data: what the gradient is divided by in V; the number of data makes it that of one datum.
        init_strategy: of the engine's, for the start; None is ``init_to_uniform``.

    Raises:
        ValueError: both a model and functions, or neither; a number out of range; a discrete latent.

    References:
        Li, Chen, Carlson and Carin, "Preconditioned stochastic gradient Langevin dynamics for deep neural networks"
        (2016).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        step_size: float = 0.01,
        delay: float = 1000.0,
        power: float = 0.55,
        decay: float = 0.99,
        damping: float = 1e-5,
        num_data: int = 1,
        init_strategy: Any = None,
    ) -> None:
        _check(delay, power)
        checks.positive("damping", damping)
        checks.at_least("num_data", num_data, 1)
        if not 0 < decay < 1:
            raise checks.problem(
                "decay", got=decay, expected="a number strictly between 0 and 1", fix="0.99 is the usual one."
            )
        dynamics = Stochastic(
            delay=delay, power=power, preconditioned=True, decay=decay, damping=damping, scale=float(num_data)
        )
        super().__init__(_space(model, potential_fn, init_strategy), lambda categories: dynamics, step_size)


def _check(delay: float, power: float) -> None:
    checks.positive("delay", delay)
    checks.positive("power", power, zero=True)


def _space(model: Any, potential_fn: Any, init_strategy: Any) -> Any:
    refusals.one_of_two(model, {"potential_fn": potential_fn})
    return (
        Functions(potential_fn)
        if model is None
        else Reals(Slopes(model, adjusted=False), init_strategy, subsamples=True)
    )
