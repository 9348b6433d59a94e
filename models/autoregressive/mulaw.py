"""Companding of sound by the µ-law (ITU-T G.711), by which WaveNet takes samples as classes."""

import math
from typing import Any

import array_api_compat
from jaxtyping import Float, Int

from deepgen import checks


def mu_law_encode(x: Float[Any, "*shape"], num_values: int = 256) -> Int[Any, "*shape"]:
    r"""The class of each sample, fine near silence and coarse where it is loud.

    .. math:: f(x) = \mathrm{sign}(x) \frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}, \quad \mu = V - 1, \quad
        k = \mathrm{round}\big(\mu (f(x) + 1) / 2\big)

    Args:
        x: sound within [-1, 1].
        num_values: V.

    Returns:
        Integers 0 … V - 1.

    Raises:
        ValueError: fewer than two values, or sound that is not within [-1, 1].

    >>> import numpy as np
    >>> mu_law_encode(np.array([-1.0, 0.0, 0.01, 1.0])).tolist()
    [0, 128, 157, 255]
    """
    checks.at_least("num_values", num_values, 2)
    xp = array_api_compat.array_namespace(x)
    if not _inside(xp.all(xp.abs(x) <= 1)):
        raise checks.problem(
            "x",
            got=f"values from {xp.min(x)} to {xp.max(x)}",
            expected="sound within [-1, 1]",
            fix="Divide by the largest amplitude, of 16-bit integers by 32768.",
        )
    mu = num_values - 1
    companded = xp.sign(x) * xp.log1p(mu * xp.abs(x)) / math.log1p(mu)
    return xp.astype(xp.clip(xp.round(mu * (companded + 1) / 2), 0, mu), xp.int32)


def mu_law_decode(k: Int[Any, "*shape"], num_values: int = 256) -> Float[Any, "*shape"]:
    r"""The sample in the middle of each class, f^{-1} of `mu_law_encode`.

    .. math:: x = \mathrm{sign}(f) \frac{(1 + \mu)^{|f|} - 1}{\mu}, \quad f = 2 k / \mu - 1

    Args:
        k: integers 0 … V - 1.
        num_values: V.

    Returns:
        Sound within [-1, 1].

    Raises:
        ValueError: fewer than two values.
    """
    checks.at_least("num_values", num_values, 2)
    xp = array_api_compat.array_namespace(k)
    mu = num_values - 1
    companded = 2 * xp.astype(k, xp.float32) / mu - 1
    return xp.sign(companded) * xp.expm1(xp.abs(companded) * math.log1p(mu)) / mu


def _inside(flag: Any) -> bool:
    try:
        return bool(flag)
    except TypeError:
        # traced by jax.jit: there are no values yet
        return True
