r"""Metropolis-within-Gibbs with the guide as proposal: what is proposed, and with what probability it is accepted.

Every step draws latents z' for those of now, z, and then the missing entries from p(x_missing | z).

- ``gibbs`` (Mattei & Frellsen 2018): z' ~ q(z | x) at the row as it is completed now, accepted with the ratio
  :math:`p(x, z')\, q(z \mid x) / p(x, z)\, q(z' \mid x)`. Leaves p(z, x_missing | x_observed) as it is.
- ``pseudo-gibbs`` (Rezende, Mohamed & Wierstra 2014): the same, always accepted. Its law is another one unless the
  guide is the posterior of every completed row.
- ``adaptive-gibbs`` (AC-MWG of Simkus & Gutmann 2023): the missing entries are integrated out of the ratio, and the
  proposal is :math:`(1 - \epsilon)\, q(z \mid x^h) + \epsilon\, p(z)`, with :math:`x^h` drawn evenly from what the
  chain has imputed before. Only imputations from latents that the chain has left may be drawn, so that the proposal
  does not follow where the chain is now; the prior's share bounds the ratio of target and proposal, and the proposal
  changes ever less. Hence the chain's law tends to p(z | x_observed) (Roberts & Rosenthal 2007).
"""

from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float, Int

EPSILON = 0.05
"""The share of proposals that come from the prior in the adaptive method."""


class Rule(NamedTuple):
    """What distinguishes the three.

    Attributes:
        corrected: whether proposals may be rejected.
        adaptive: whether the missing entries are integrated out of the ratio and proposals come from the past.
    """

    corrected: bool
    adaptive: bool


RULES = {
    "gibbs": Rule(corrected=True, adaptive=False),
    "pseudo-gibbs": Rule(corrected=False, adaptive=False),
    "adaptive-gibbs": Rule(corrected=True, adaptive=True),
}


class Noise(NamedTuple):
    """The uniforms of one step, each (rows,) in [0, 1).

    Attributes:
        source: which of the imputations of before the guide is shown.
        mixture: whether the prior proposes.
        accept: whether the proposal is accepted.
    """

    source: Any
    mixture: Any
    accept: Any


def log_mixture(
    log_guide: Float[Any, "*rows"], log_prior: Float[Any, "*rows"], epsilon: float = EPSILON
) -> Float[Any, "*rows"]:
    """log((1 - epsilon) q(z) + epsilon p(z)), the density of the adaptive proposal.

    Args:
        log_guide: log q(z | x^h), nats.
        log_prior: log p(z), nats.
        epsilon: the share of the prior, in (0, 1).

    Returns:
        Nats.

    >>> float(log_mixture(np.zeros(1), np.zeros(1), 0.3)[0])
    0.0
    """
    xp = array_api_compat.array_namespace(log_guide)
    return xp.logaddexp(log_guide + float(np.log1p(-epsilon)), log_prior + float(np.log(epsilon)))


def log_ratio(target: Float[Any, "2 *rows"], proposal: Float[Any, "2 *rows"]) -> Float[Any, "*rows"]:
    """The logarithm of the acceptance ratio of an independent proposal, p(z') q(z) / p(z) q(z').

    Args:
        target: the log target of the proposed latents and of those of now, up to a constant, nats.
        proposal: the log density of the proposal of the same two, nats.

    Returns:
        Nats; -inf where the proposal is impossible or its target is not a number.
    """
    xp = array_api_compat.array_namespace(target)
    ratio = (target[0] - target[1]) - (proposal[0] - proposal[1])
    return xp.where(xp.isnan(ratio), xp.full_like(ratio, -xp.inf), ratio)


def accepts(uniform: Float[Any, "*rows"], ratio: Float[Any, "*rows"]) -> Bool[Any, "*rows"]:
    """Whether a proposal with this log ratio is accepted.

    Args:
        uniform: in [0, 1).
        ratio: of `log_ratio`.

    Returns:
        Booleans, true with probability `accept_prob`.
    """
    return uniform < accept_prob(ratio)


def accept_prob(ratio: Float[Any, "*rows"]) -> Float[Any, "*rows"]:
    """min(1, ratio), of its logarithm."""
    xp = array_api_compat.array_namespace(ratio)
    return xp.exp(xp.minimum(ratio, xp.zeros_like(ratio)))


def place(uniform: Float[Any, " rows"], available: Int[Any, " rows"]) -> Int[Any, " rows"]:
    """One of the first ``available`` places of the history, each as probable as the others.

    Args:
        uniform: in [0, 1).
        available: at least one.

    Returns:
        Integers in [0, available).
    """
    xp = array_api_compat.array_namespace(uniform)
    found = xp.astype(xp.floor(uniform * xp.astype(available, uniform.dtype)), available.dtype)
    # a float32 uniform just below one times a large number rounds up
    return xp.minimum(found, available - 1)


def released(accepted: Bool[Any, " rows"], available: Int[Any, " rows"], length: Any) -> Int[Any, " rows"]:
    """How much of the history may be drawn from after a step.

    Args:
        accepted: whether the chain moved in this step.
        available: before the step.
        length: of the history before this step's imputation, all of it made from latents that the chain has left where
            it moved.

    Returns:
        All of the history where the chain moved, else as before.
    """
    xp = array_api_compat.array_namespace(available)
    return xp.where(accepted, xp.zeros_like(available) + length, available)
