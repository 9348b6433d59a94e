"""Proposals for discrete states that follow the gradient of a log density extended to the reals.

A state is binary, x in {0, 1}^d, or categorical as one-hot rows, (*batch, d, k). The gradient g of the log density l at
x estimates what each change would gain: d_i = (1 - 2 x_i) g_i for a flip, d_ij = g_ij - sum_k x_ik g_ik for a change to
j. A proposal prefers gains by exp(d/2), which is locally balanced, and a Metropolis test makes it exact whatever the
estimate. All leading axes are independent of each other.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device
from jaxtyping import Float

from deepgen.inference.hmc.hamiltonian import State
from deepgen.inference.langevin import acceptance
from deepgen.inference.langevin.acceptance import Info
from deepgen.math.sigmoid import log_sigmoid

Evaluate = Callable[[Any], tuple[Any, Any]]


class Noise(NamedTuple):
    """All the randomness of one step."""

    uniform: Any
    """of the state's shape, uniforms in (0, 1)"""
    accept: Any
    """(*batch) uniforms in [0, 1); a kernel without an acceptance test does not look at them"""


def gumbel(uniform: Any) -> Any:
    """Standard Gumbel variables: -log(-log(u)); log(p) plus these is largest at j with probability p_j.

    Args:
        uniform: in [0, 1); zero counts as the smallest normal number.

    Returns:
        Of the same shape.
    """
    xp = array_namespace(uniform)
    tiny = float(xp.finfo(uniform.dtype).smallest_normal)
    # one below 1 by half an epsilon still has a finite Gumbel; 1 itself, which rounding may make, has none
    top = 1 - float(xp.finfo(uniform.dtype).eps) / 2
    return -xp.log(-xp.log(xp.clip(uniform, tiny, top)))


def gains_binary(x: Float[Any, "*batch d"], gradient: Float[Any, "*batch d"]) -> Float[Any, "*batch d"]:
    """The gain that each flip promises, (1 - 2 x) g, to first order; exact where l is linear in each x_i.

    Args:
        x: (*batch, d) zeros and ones.
        gradient: (*batch, d), at x.

    Returns:
        (*batch, d) nats.
    """
    return (1 - 2 * x) * gradient


def gains_categorical(x: Float[Any, "*batch d k"], gradient: Float[Any, "*batch d k"]) -> Float[Any, "*batch d k"]:
    """The gain that each change promises, g_ij - sum_k x_ik g_ik; zero for the value that is there.

    Args:
        x: (*batch, d, k) one-hot rows.
        gradient: (*batch, d, k), at x.

    Returns:
        (*batch, d, k) nats.
    """
    xp = array_namespace(x)
    return gradient - xp.sum(x * gradient, axis=-1, keepdims=True)


def log_softmax(x: Any) -> Any:
    """x - log sum exp x over the last axis.

    Args:
        x: (*batch, m); -inf is impossible, and never all of them.

    Returns:
        (*batch, m).
    """
    xp = array_namespace(x)
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


class Binary:
    """Binary states, (*batch, d) zeros and ones."""

    event_ndim = 1

    @staticmethod
    def changes(x: Any, gradient: Any) -> Any:
        """Log preference of each single flip, d/2.

        Args:
            x: (*batch, d).
            gradient: (*batch, d).

        Returns:
            (*batch, d).
        """
        return 0.5 * gains_binary(x, gradient)

    @staticmethod
    def change(x: Any, chosen: Any) -> Any:
        """The state after the flips chosen.

        Args:
            x: (*batch, d).
            chosen: (*batch, d) one where a flip is chosen, zero elsewhere.

        Returns:
            (*batch, d).
        """
        return x + chosen - 2 * x * chosen

    @staticmethod
    def undone(x: Any, x_new: Any, chosen: Any) -> Any:
        """The change that leads back: the same flips."""
        return chosen

    @staticmethod
    def flips(x: Any, gradient: Any, uniform: Any, step_size: Any) -> Any:
        """All elements at once, each flipped with its own probability.

        Args:
            x: (*batch, d).
            gradient: (*batch, d).
            uniform: (*batch, d).
            step_size: (*batch, 1) or a number, h.

        Returns:
            (*batch, d) the new state.
        """
        xp = array_namespace(x)
        logit = Binary.changes(x, gradient) - 0.5 / step_size**2
        # u < sigmoid(logit), with the logistic variable of u so that small probabilities keep their digits
        flipped = xp.log(uniform) - xp.log1p(-uniform) < logit
        return xp.where(flipped, 1 - x, x)

    @staticmethod
    def log_flips(x: Any, x_new: Any, gradient: Any, step_size: Any) -> Any:
        """The log probability that ``flips`` leads from x to x_new.

        Args:
            x: (*batch, d).
            x_new: (*batch, d).
            gradient: (*batch, d), at x.
            step_size: (*batch, 1) or a number, h.

        Returns:
            (*batch) nats.
        """
        xp = array_namespace(x)
        logit = Binary.changes(x, gradient) - 0.5 / step_size**2
        return xp.sum(log_sigmoid(xp.where(x_new != x, logit, -logit)), axis=-1)


class Categorical:
    """Categorical states as one-hot rows, (*batch, d, k)."""

    event_ndim = 2

    @staticmethod
    def changes(x: Any, gradient: Any) -> Any:
        """Log preference of each single change, d/2; the values that are there are no change, -inf.

        Args:
            x: (*batch, d, k).
            gradient: (*batch, d, k).

        Returns:
            (*batch, d, k).
        """
        xp = array_namespace(x)
        gains = 0.5 * gains_categorical(x, gradient)
        return xp.where(x > 0.5, xp.full_like(x, -math.inf), gains)

    @staticmethod
    def change(x: Any, chosen: Any) -> Any:
        """The state after the change chosen.

        Args:
            x: (*batch, d, k).
            chosen: (*batch, d, k) one at the element and its new value, zero elsewhere.

        Returns:
            (*batch, d, k).
        """
        xp = array_namespace(x)
        touched = xp.sum(chosen, axis=-1, keepdims=True)
        return x * (1 - touched) + chosen

    @staticmethod
    def undone(x: Any, x_new: Any, chosen: Any) -> Any:
        """The change that leads back: the old value of the element that was changed."""
        xp = array_namespace(x)
        return x * xp.sum(chosen, axis=-1, keepdims=True)

    @staticmethod
    def flips(x: Any, gradient: Any, uniform: Any, step_size: Any) -> Any:
        """All elements at once, each changed with its own probabilities, or left.

        Args:
            x: (*batch, d, k).
            gradient: (*batch, d, k).
            uniform: (*batch, d, k).
            step_size: (*batch, 1, 1) or a number, h.

        Returns:
            (*batch, d, k) the new state.
        """
        return one_hot(Categorical._logits(x, gradient, step_size) + gumbel(uniform))

    @staticmethod
    def log_flips(x: Any, x_new: Any, gradient: Any, step_size: Any) -> Any:
        """The log probability that ``flips`` leads from x to x_new.

        Args:
            x: (*batch, d, k).
            x_new: (*batch, d, k).
            gradient: (*batch, d, k), at x.
            step_size: (*batch, 1, 1) or a number, h.

        Returns:
            (*batch) nats.
        """
        xp = array_namespace(x)
        log_p = log_softmax(Categorical._logits(x, gradient, step_size))
        return xp.sum(x_new * log_p, axis=(-2, -1))

    @staticmethod
    def _logits(x: Any, gradient: Any, step_size: Any) -> Any:
        # one-hot rows that differ are at squared distance 2
        return 0.5 * gains_categorical(x, gradient) - (1 - x) / step_size**2


def one_hot(scores: Any) -> Any:
    """One where the last axis is largest, zero elsewhere.

    Args:
        scores: (*batch, m).

    Returns:
        (*batch, m), of the same dtype.
    """
    xp = array_namespace(scores)
    index = xp.argmax(scores, axis=-1, keepdims=True)
    places = xp.arange(scores.shape[-1], dtype=index.dtype, device=device(scores))
    return xp.astype(places == index, scores.dtype)


def change_one(noise: Noise, state: State, evaluate: Evaluate, kind: Any) -> tuple[State, Info]:
    """A step of Gibbs with gradients: one element changed, chosen by its promised gain, and a Metropolis test.

    q(change | x) is the softmax of d/2 over all single changes. Where l is linear in each element, d is exact and
    nearly all proposals are accepted. It leaves exp(l) on the discrete states invariant, and costs one gradient.

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, gradient).
        kind: ``Binary`` or ``Categorical``.

    Returns:
        The new state, and what happened.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions" (2021); Zanella, "Informed proposals for local MCMC in discrete spaces" (2020).
    """
    shape = state.position.shape
    batch = shape[: len(shape) - kind.event_ndim]

    def preferences(x: Any, gradient: Any) -> Any:
        return log_softmax(array_namespace(x).reshape(kind.changes(x, gradient), (*batch, -1)))

    xp = array_namespace(state.position)
    there = preferences(state.position, state.gradient)
    flat = one_hot(there + gumbel(xp.reshape(noise.uniform, (*batch, -1))))
    chosen = xp.reshape(flat, shape)
    x = kind.change(state.position, chosen)
    value, gradient = evaluate(x)
    undone = xp.reshape(kind.undone(state.position, x, chosen), (*batch, -1))
    ratio = value - state.log_density + picked(preferences(x, gradient), undone) - picked(there, flat)
    return _decided(noise, State(x, value, gradient), state, ratio, kind)


def picked(values: Any, chosen: Any) -> Any:
    """The value where ``chosen`` is one, over the last axis; what stands elsewhere may be infinite.

    Args:
        values: (*batch, m).
        chosen: (*batch, m) a one and zeros.

    Returns:
        (*batch).
    """
    xp = array_namespace(values)
    return xp.sum(xp.where(chosen > 0.5, values, xp.zeros_like(values)), axis=-1)


def change_many(
    noise: Noise, state: State, evaluate: Evaluate, step_size: Any, kind: Any, *, adjusted: bool = True
) -> tuple[State, Info]:
    """A step of the discrete Langevin proposal: every element changes by itself, then a Metropolis test.

    q(x' | x) = prod_i softmax_j(d_ij / 2 - |e_j - x_i|^2 / (2 e)) with e = h^2, where |e_j - x_i|^2 is 1 for a flip of
    a bit and 2 for a change of a one-hot row. Adjusted it leaves exp(l) on the discrete states invariant at every step
    size; unadjusted only approximately, as h -> 0. It costs one gradient.

    Args:
        noise: of one step.
        state: where the step begins.
        evaluate: position -> (log density, gradient).
        step_size: (*#batch) or a number, h.
        kind: ``Binary`` or ``Categorical``.
        adjusted: whether the Metropolis test is made.

    Returns:
        The new state, and what happened.

    References:
        Zhang, Liu and Liu, "A Langevin-like sampler for discrete distributions" (2022).
    """
    h = step_size if isinstance(step_size, int | float) else step_size[(..., *(None,) * kind.event_ndim)]
    x = kind.flips(state.position, state.gradient, noise.uniform, h)
    value, gradient = evaluate(x)
    there = kind.log_flips(state.position, x, state.gradient, h)
    back = kind.log_flips(x, state.position, gradient, h)
    proposal = State(x, value, gradient)
    if not adjusted:
        return proposal, acceptance.unadjusted(value, _sound(proposal, kind))
    return _decided(noise, proposal, state, value - state.log_density + back - there, kind)


def _sound(state: State, kind: Any) -> Any:
    xp = array_namespace(state.position)
    return xp.all(xp.isfinite(state.gradient), axis=tuple(range(-kind.event_ndim, 0)))


def _decided(noise: Noise, proposal: State, state: State, ratio: Any, kind: Any) -> tuple[State, Info]:
    xp = array_namespace(state.position)
    info = acceptance.metropolis(noise.accept, ratio, _sound(proposal, kind))
    wide = info.accepted[(..., *(None,) * kind.event_ndim)]
    chosen = State(
        xp.where(wide, proposal.position, state.position),
        xp.where(info.accepted, proposal.log_density, state.log_density),
        xp.where(wide, proposal.gradient, state.gradient),
    )
    return chosen, info
