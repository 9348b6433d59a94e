"""Kernels on discrete states for ``pyro.infer.MCMC``."""

from collections.abc import Callable
from typing import Any

from deepgen.inference.langevin import discrete
from deepgen.inference.langevin.adapter.pyro import Adapter
from deepgen.inference.langevin.dynamics import Discrete
from deepgen.inference.langevin.space import refusals
from deepgen.inference.langevin.space.pyro import Functions, States

__all__ = ["DiscreteLangevin", "GibbsWithGradients"]


class GibbsWithGradients(Adapter):
    """Gibbs with gradients: one element changes at a step, chosen by the gain that the gradient promises.

    q(change | x) is the softmax of d/2, d the first-order estimate of what each change gains, and a Metropolis test
    makes the law exact. One step costs one gradient.

    Args:
        model: a Pyro model whose latents are all ``Bernoulli``, or all one-hot rows of one length
            (``OneHotCategorical``, or ``Multinomial`` with total_count=1); its density must be defined, and
            have a gradient, at floating zeros and ones.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain; needs
            ``initial_params`` of zeros and ones.
        one_hot: with ``potential_fn``, whether the last axis of each array of the state is a one-hot row.

    Raises:
        ValueError: both a model and a function, or neither; a latent that is neither bits nor one-hot rows.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions" (2021).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        one_hot: bool = False,
    ) -> None:
        super().__init__(_space(model, potential_fn, one_hot), _gibbs, 1.0)


class DiscreteLangevin(Adapter):
    """The discrete Langevin proposal: every element may change at a step, each by itself, then a Metropolis test.

    q(x' | x) is proportional to exp(grad log p(x) . (x' - x) / 2 - |x' - x|^2 / (2 e)) with e = step_size^2. It leaves
    the law invariant at every step size; one step costs one gradient.

    Args:
        model: a Pyro model whose latents are all ``Bernoulli``, or all one-hot rows of one length
            (``OneHotCategorical``, or ``Multinomial`` with total_count=1); its density must be defined, and
            have a gradient, at floating zeros and ones.
        potential_fn: instead of a model, state -> () nats, minus the log density of one chain; needs
            ``initial_params`` of zeros and ones.
        one_hot: with ``potential_fn``, whether the last axis of each array of the state is a one-hot row.
        step_size: h, e being its square; large steps change many elements at once.
        adapt_step_size: whether the warm-up learns the step size, by dual averaging.
        target_accept_prob: the acceptance probability that it is adapted to.

    Raises:
        ValueError: both a model and a function, or neither; a number out of range; a latent that is neither bits nor
            one-hot rows.

    References:
        Zhang, Liu and Liu, "A Langevin-like sampler for discrete distributions" (2022).
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        potential_fn: Callable[..., Any] | None = None,
        one_hot: bool = False,
        step_size: float = 0.5,
        adapt_step_size: bool = True,
        target_accept_prob: float = 0.574,
    ) -> None:
        super().__init__(
            _space(model, potential_fn, one_hot),
            _langevin,
            step_size,
            adapt_step_size=adapt_step_size,
            target_accept_prob=target_accept_prob,
        )


def _gibbs(categories: int) -> Discrete:
    return Discrete(discrete.Categorical if categories else discrete.Binary)


def _langevin(categories: int) -> Discrete:
    return Discrete(discrete.Categorical if categories else discrete.Binary, many=True)


def _space(model: Any, potential_fn: Any, one_hot: bool) -> Any:
    refusals.one_of_two(model, {"potential_fn": potential_fn})
    return Functions(potential_fn, one_hot=one_hot) if model is None else States(model)
