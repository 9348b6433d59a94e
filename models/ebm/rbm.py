r"""The restricted Boltzmann machine with weight W (H, D), visible bias b (D,), hidden bias c (H,).

Its hidden units are counted with equal weights, :math:`p(h) = 2^{-H}`, so that at temperature 0 it is its base alone:

.. math:: E_t(v) = -\log \mathbb{E}_{h} \exp\left(t\,(b^\top v + c^\top h + h^\top W v)\right)
    = -t\, b^\top v - \sum_j \left[\mathrm{softplus}(t\,(c + W v)_j) - \log 2\right]
"""

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float
from scipy.special import log_expit, logsumexp

from deepgen import checks
from deepgen.math.sigmoid import log_sigmoid

MOST = 20
"""How many units on the smaller side are summed out exactly, at most."""


def hidden_logits(
    v: Float[Any, "n d"], weight: Float[Any, "h d"], hidden_bias: Float[Any, " h"], temperature: Any
) -> Any:
    """The logits of the hidden units given the visible ones: t (c + W v).

    Args:
        v: zeros and ones.
        weight: W.
        hidden_bias: c.
        temperature: t.

    Returns:
        (n, h).
    """
    return temperature * (hidden_bias + v @ weight.T)


def visible_logits(
    h: Float[Any, "n h"], weight: Float[Any, "h d"], visible_bias: Float[Any, " d"], temperature: Any
) -> Any:
    """What is added to the base's logits given the hidden units: t (b + W' h).

    Args:
        h: zeros and ones.
        weight: W.
        visible_bias: b.
        temperature: t.

    Returns:
        (n, d).
    """
    return temperature * (visible_bias + h @ weight)


def free_energy(
    v: Float[Any, "n d"],
    weight: Float[Any, "h d"],
    visible_bias: Float[Any, " d"],
    hidden_bias: Float[Any, " h"],
    temperature: Any = 1.0,
) -> Float[Any, " n"]:
    """E_t(v), nats.

    Args:
        v: zeros and ones.
        weight: W.
        visible_bias: b.
        hidden_bias: c.
        temperature: t.
    """
    xp = array_namespace(v)
    hidden = -log_sigmoid(-hidden_logits(v, weight, hidden_bias, temperature)) - math.log(2.0)
    return -temperature * (v @ visible_bias) - xp.sum(hidden, axis=-1)


def log_partition(
    weight: Float[np.ndarray, "h d"],
    visible_bias: Float[np.ndarray, " d"],
    hidden_bias: Float[np.ndarray, " h"],
    base_logits: Float[np.ndarray, " d"],
) -> float:
    r"""log Z = log sum over v of base(v) exp(-E(v)), summed exactly over the smaller side's states.

    Over the hidden units, each visible one is summed in closed form:

    .. math:: Z = 2^{-H} \sum_h e^{c^\top h} \prod_i \frac{1 + e^{a_i + b_i + (W^\top h)_i}}{1 + e^{a_i}}

    Args:
        weight: W.
        visible_bias: b.
        hidden_bias: c.
        base_logits: a, of the base.

    Returns:
        Nats, in float64.

    Raises:
        ValueError: more than ``MOST`` units on both sides.
    """
    weight, visible_bias, hidden_bias, base_logits = (
        np.asarray(value, dtype=np.float64) for value in (weight, visible_bias, hidden_bias, base_logits)
    )
    hidden, visible = weight.shape
    if min(hidden, visible) > MOST:
        raise checks.problem(
            "program",
            got=f"{visible} visible and {hidden} hidden units",
            expected=f"at most {MOST} on one side, whose states are all visited",
            fix="Estimate it with log_partition.",
        )
    base = log_expit(-base_logits).sum()
    parts = []
    for states in _states(min(hidden, visible)):
        if hidden <= visible:
            logits = base_logits + visible_logits(states, weight, visible_bias, 1.0)
            parts.append(states @ hidden_bias - log_expit(-logits).sum(-1) + base - hidden * math.log(2.0))
        else:
            density = base + states @ base_logits
            parts.append(density - free_energy(states, weight, visible_bias, hidden_bias))
    return float(logsumexp(np.concatenate(parts)))


def _states(units: int, chunk: int = 2**12) -> Any:
    for start in range(0, 2**units, chunk):
        index = np.arange(start, min(start + chunk, 2**units))
        yield ((index[:, None] >> np.arange(units)) & 1).astype(np.float64)
