"""Step sizes and preconditioner of stochastic gradient Langevin dynamics."""

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float


def polynomial(count: Any, step_size: Any, *, delay: float = 1.0, power: float = 0.55) -> Any:
    """The step size after a number of steps: h_t with e_t = h_t^2 = h^2 (1 + t / delay)^-power.

    The steps sum to infinity and their squares do not where power is in (0.5, 1]: then the chain converges although
    each step is unadjusted and its gradient an estimate. power = 0 keeps the step, and a bias of order h^2.

    Args:
        count: t >= 0, a number or an integer array.
        step_size: h at t = 0.
        delay: how many steps go by before the decay sets in.
        power: of the decay of e.

    Returns:
        h_t.

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics" (2011); Teh, Thiery and Vollmer,
        "Consistency and fluctuations for stochastic gradient Langevin dynamics" (2016).
    """
    return step_size * (1 + count / delay) ** (-0.5 * power)


def mean_square(
    average: Float[Any, "*batch d"], score: Float[Any, "*batch d"], *, decay: float = 0.99, scale: float = 1.0
) -> Float[Any, "*batch d"]:
    """The running mean of squared gradients: a V + (1 - a) (s / scale)^2.

    Args:
        average: (*batch, d), V before.
        score: (*batch, d), the estimate of the full gradient.
        decay: a in (0, 1).
        scale: what the gradient is divided by; the number of data makes it that of one datum.

    Returns:
        (*batch, d), V after.

    References:
        Li, Chen, Carlson and Carin, "Preconditioned stochastic gradient Langevin dynamics for deep neural networks"
        (2016), equation 4.
    """
    one = score / scale
    return decay * average + (1 - decay) * one * one


def rmsprop_root(average: Float[Any, "*batch d"], *, damping: float = 1e-5) -> Float[Any, "*batch d"]:
    """The root of the preconditioner, A with A^2 = G = 1 / (damping + sqrt(V)).

    A step is x' = x + (e/2) G s + sqrt(e) A z, the metric of ``overdamped.propose`` with this root. The divergence of
    G, which would keep the law exact as e -> 0, is left out as in the paper's experiments: a further bias.

    Args:
        average: (*batch, d), V of ``mean_square``.
        damping: lambda, the largest G being its inverse.

    Returns:
        (*batch, d).

    References:
        Li et al. (2016), equation 5 and corollary 2.
    """
    xp = array_namespace(average)
    return 1 / xp.sqrt(damping + xp.sqrt(average))
