r"""Gibbs with gradients: which of many binary entries to flip, said by one gradient.

Notation: x in {0, 1}^d; f(x) the log density; :math:`d_i = (1 - 2 x_i)\, \partial f / \partial x_i`, the first-order
estimate of what flipping entry i gains.
"""

from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Bool, Float


def gains(x: Float[Any, "n d"], gradient: Float[Any, "n d"]) -> Float[Any, "n d"]:
    """d_i, nats.

    Args:
        x: zeros and ones.
        gradient: of the log density.
    """
    return (1 - 2 * x) * gradient


def log_proposal(gained: Float[Any, "n d"], free: Bool[Any, "n d"]) -> Float[Any, "n d"]:
    r"""log q(i | x), with :math:`q(i \mid x) \propto \exp(d_i / 2)` over the free entries.

    Args:
        gained: d_i.
        free: which entries may be flipped; a row without any has all of them, and its flips are to be undone.

    Returns:
        Nats, minus infinity where not free.
    """
    xp = array_namespace(gained)
    free = free | ~xp.any(free, axis=-1, keepdims=True)
    half = xp.where(free, gained / 2, -xp.inf * xp.ones_like(gained))
    shifted = half - xp.max(half, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def chosen(log_q: Float[Any, "n d"], uniform: Float[Any, "n d"]) -> Float[Any, "n d"]:
    """The entry to flip, drawn from q by the largest of perturbed logarithms, as zeros and a one.

    Args:
        log_q: of `log_proposal`.
        uniform: in [0, 1).
    """
    xp = array_namespace(log_q)
    tiny = 1e-20
    gumbel = -xp.log(-xp.log(uniform + tiny) + tiny)
    index = xp.argmax(log_q + gumbel, axis=-1)
    return xp.astype(xp.arange(log_q.shape[-1])[None, :] == index[:, None], log_q.dtype)


def accept_prob(
    change: Float[Any, " n"], forward: Float[Any, "n d"], backward: Float[Any, "n d"], flip: Float[Any, "n d"]
) -> Float[Any, " n"]:
    r"""The Metropolis-Hastings acceptance :math:`\min(1, e^{f(x') - f(x)} q(i \mid x') / q(i \mid x))`.

    Args:
        change: f(x') - f(x), nats.
        forward: log q(. | x).
        backward: log q(. | x').
        flip: which entry was flipped, of `chosen`.

    Returns:
        Probabilities.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions" (2021).
    """
    xp = array_namespace(change)
    zero = xp.zeros_like(forward)
    back, forth = (xp.sum(xp.where(flip > 0, log_q, zero), axis=-1) for log_q in (backward, forward))
    ratio = change + back - forth
    return xp.exp(xp.where(ratio < 0, ratio, xp.zeros_like(ratio)))
