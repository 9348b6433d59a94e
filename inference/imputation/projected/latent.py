r"""Metropolis-Hastings in the base of an invertible map: what is proposed, and with what probability it is accepted.

The chain's state is v_M, the missing coordinates of a row whose observed ones are v_O. Beside them stand auxiliary
coordinates :math:`y \sim q(y) = N(v_O, s^2)`, drawn anew before each step, and together they are the image of one point
of the base, :math:`(v_M, y) = f(z)`. A proposal z' gives :math:`(v'_M, y') = f(z')`, of which v'_M is kept: the row is
projected back onto what is observed. The target of (v_M, y) is :math:`p(v_M \mid v_O)\, q(y)`, so that of z is

.. math:: \pi(z) \propto p(v_M, v_O)\; q(y)\; \left| \det \frac{\partial f}{\partial z} \right|

and the ratio :math:`\pi(z')\, g(z \mid z') / \pi(z)\, g(z' \mid z)` leaves it as it is. A step is either a symmetric
walk in z or a draw of the base, which knows nothing of z and so can cross between modes.

Cannella, Soltani & Tarokh 2021, Projected latent Markov chain Monte Carlo: conditional sampling of normalizing flows.
There y stays with the chain; drawing it anew is a Gibbs step of the same target.
"""

import math
from typing import Any, NamedTuple

import array_api_compat
from jaxtyping import Bool, Float

FAR = 0.25
"""The share of steps that are draws of the base."""
SPREAD = 0.5
"""The standard deviation of auxiliary coordinates, as a share of that of the program's own draws."""
TARGET = 0.35
"""The acceptance probability of the walk that the warm-up aims at."""


class Noise(NamedTuple):
    """The randomness of one step of all chains.

    Attributes:
        auxiliary: (..., n, D) standard normals.
        walk: (..., n, D) standard normals.
        base: (..., n, D) draws of the base.
        accept: (..., n) uniforms in [0, 1).
        far: () one uniform in [0, 1): whether this step draws from the base.
    """

    auxiliary: Any
    walk: Any
    base: Any
    accept: Any
    far: Any


def join(
    noise: Float[Any, "*c n d"], v: Float[Any, "*c n d"], spread: Float[Any, "*#n d"], observed: Bool[Any, "n d"]
) -> Float[Any, "*c n d"]:
    """The missing coordinates with auxiliary ones in the place of the observed.

    Args:
        noise: standard normals.
        v: the completed rows.
        spread: s of each coordinate.
        observed: booleans.

    Returns:
        (v_M, y).
    """
    xp = array_api_compat.array_namespace(v)
    return xp.where(observed, v + spread * noise, v)


def log_auxiliary(
    joined: Float[Any, "*c n d"], v: Float[Any, "n d"], spread: Float[Any, "*#n d"], observed: Bool[Any, "n d"]
) -> Float[Any, "*c n"]:
    """log q(y) of (v_M, y).

    Args:
        joined: (v_M, y).
        v: the rows, anything where missing.
        spread: s of each coordinate.
        observed: booleans.

    Returns:
        Nats.
    """
    xp = array_api_compat.array_namespace(joined)
    each = -0.5 * ((joined - v) / spread) ** 2 - xp.log(spread) - 0.5 * math.log(2 * math.pi)
    return xp.sum(xp.where(observed, each, xp.zeros_like(each)), axis=-1)


def propose(noise: Noise, z: Float[Any, "*c n d"], step_size: Float[Any, "*#c n"]) -> Float[Any, "*c n d"]:
    """Where the base is tried next.

    Args:
        noise: of the step.
        z: where it is now.
        step_size: the standard deviation of the walk.

    Returns:
        z'.
    """
    xp = array_api_compat.array_namespace(z)
    return xp.where(noise.far < FAR, noise.base, z + step_size[..., None] * noise.walk)


def log_proposal(noise: Noise, log_base: Float[Any, "two *c n"]) -> Float[Any, "two *c n"]:
    """log g of what was proposed and of the way back, up to a constant of both.

    Args:
        noise: of the step.
        log_base: the base's log density of z' and of z, nats.

    Returns:
        Nats: zeros of the walk, which is symmetric.
    """
    xp = array_api_compat.array_namespace(log_base)
    return xp.where(noise.far < FAR, log_base, xp.zeros_like(log_base))


def log_target(
    log_prob: Float[Any, "*c n"], log_q: Float[Any, "*c n"], log_jacobian: Float[Any, "*c n"]
) -> Float[Any, "*c n"]:
    """log of the target in the base.

    Args:
        log_prob: log p(v_M, v_O), nats.
        log_q: log q(y), nats.
        log_jacobian: log |det df/dz|.

    Returns:
        Nats, up to a constant.
    """
    return log_prob + log_q + log_jacobian
