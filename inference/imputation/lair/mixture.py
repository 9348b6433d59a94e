r"""Latent-adaptive importance resampling (LAIR; Simkus & Gutmann 2023): the weights, and the choice by weight.

A row carries K imputations. Each iteration draws one z from the guide at each of them, and R from the prior; these are
weighted against the mixture that they come from all together (the balance heuristic of Veach & Guibas 1995),

.. math:: w(z) = \frac{p(x_\mathrm{observed}, z)}
    {\frac1{K + R} \left(\sum_k q(z \mid x_\mathrm{observed}, x^k_\mathrm{missing}) + R\, p(z)\right)},

K of them are chosen by weight, and from them the next imputations are drawn. In the end all proposals of all
iterations are resampled by weight. Given the past, every iteration's weights have the mean p(x_observed): the pool is a
weighted sample of p(z | x_observed), exact as it grows, and the prior's share bounds its weights.
"""

from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Float, Int

PRIOR = 1
"""R, the proposals of an iteration that come from the prior."""


def log_weights(
    log_joint: Float[Any, "j n"],
    log_guide: Float[Any, "j k n"],
    log_prior: Float[Any, "j n"],
    num_prior: int = PRIOR,
) -> Float[Any, "j n"]:
    """The logarithm of w of each of the j = k + num_prior proposals of each row.

    Args:
        log_joint: log p(x_observed, z), nats.
        log_guide: log q(z | x^k) at each imputation, nats.
        log_prior: log p(z), nats.
        num_prior: R.

    Returns:
        Nats.
    """
    xp = array_api_compat.array_namespace(log_joint)
    total = log_prior + float(np.log(num_prior))
    for k in range(log_guide.shape[1]):
        total = xp.logaddexp(total, log_guide[:, k])
    return log_joint - total + float(np.log(log_guide.shape[1] + num_prior))


def choose(log_weights: Float[Any, "j n"], gumbel: Float[Any, "k j n"]) -> Int[Any, "k n"]:
    """Independent choices by weight: the largest of weight times Gumbel noise is a draw by weight.

    Args:
        log_weights: of `log_weights`.
        gumbel: standard Gumbel noise.

    Returns:
        k indices of proposals for each row.
    """
    xp = array_api_compat.array_namespace(log_weights)
    return xp.argmax(log_weights[None] + gumbel, axis=1)


def iterations(num_particles: int, num_chains: int, num_prior: int = PRIOR) -> int:
    """How many iterations of K + R proposals make ``num_particles`` or a little more."""
    return -(-num_particles // (num_chains + num_prior))
