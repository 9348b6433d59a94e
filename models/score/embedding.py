"""How a network is told the level of noise, and how its output is made a score."""

import math
from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float

SLOWEST, FASTEST = 0.1, 10.0
"""Radians a nat of the noise's standard deviation."""


def fourier(rho: Float[Any, " n"], size: int) -> Float[Any, "n size"]:
    r"""Cosines and sines of :math:`\omega_k \log \rho`, the frequencies ω in equal ratios.

    Vaswani et al. 2017 (sinusoidal positions); Tancik et al. 2020 (Fourier features).

    Args:
        rho: (n,) standard deviations.
        size: even.

    Returns:
        (n, size).
    """
    xp = array_namespace(rho)
    half = size // 2
    ratio = math.log(FASTEST / SLOWEST) / max(half - 1, 1)
    kwargs = {"device": rho.device} if hasattr(rho, "device") else {}
    frequencies = SLOWEST * xp.exp(ratio * xp.arange(half, dtype=rho.dtype, **kwargs))
    angles = xp.log(rho)[:, None] * frequencies[None, :]
    return xp.concat([xp.cos(angles), xp.sin(angles)], axis=1)


def scaled_input(x: Any, rho: Any, scale: float) -> Any:
    r"""Noisy data made of unit size, :math:`x / \sqrt{\varsigma^2 + \rho^2}`.

    Args:
        x: (n, *event).
        rho: of the rows, ready to multiply x.
        scale: ς, the data's own standard deviation.

    Returns:
        (n, *event).
    """
    return x / array_namespace(x).sqrt(scale * scale + rho * rho)


def scaled_score(x: Any, rho: Any, scale: float, output: Any) -> Any:
    r"""ρ s from a network's output: the score of N(0, ς² I) noised, plus what the network adds.

    .. math:: \rho s = -\frac{\rho}{\varsigma^2 + \rho^2} x + \frac{\varsigma}{\sqrt{\varsigma^2 + \rho^2}} F

    It is F/ρ where the noise is small, and the prior's score, whatever the network says, where it is large.

    Karras, Aittala, Aila & Laine 2022, Elucidating the design space of diffusion-based generative models.

    Args:
        x: (n, *event).
        rho: of the rows, ready to multiply x.
        scale: ς.
        output: F, of x's shape.

    Returns:
        (n, *event).
    """
    variance = scale * scale + rho * rho
    return -rho / variance * x + scale / array_namespace(x).sqrt(variance) * output
