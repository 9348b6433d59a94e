"""The ladder of noise that annealed samplers go down, the factor of the data divided out: noise of ρ = σ / α."""

from typing import Any, NamedTuple

import numpy as np

from deepgen.inference.langevin import ladder
from deepgen.models.score import sdes

SNR = 0.16
"""The length of a corrector's drift beside that of its noise."""
LANGEVIN_STEPS = 10
"""Steps on each level of annealed Langevin dynamics."""


class Rungs(NamedTuple):
    """A ladder of noise.

    Attributes:
        rho: (L,) standard deviations, from the largest to the smallest.
        step_size: (L,) of Langevin steps on each.
        start: the standard deviation that a draw begins with.
    """

    rho: np.ndarray
    step_size: np.ndarray
    start: float


def rungs(sde: sdes.Diffusion, num_levels: int) -> Rungs:
    """The geometric ladder of a diffusion, and the step on each of its rungs.

    Song & Ermon 2020, Improved techniques for training score-based generative models (techniques 1, 2 and 4).

    Args:
        sde: the diffusion.
        num_levels: L, at least 2.

    Returns:
        The ladder.
    """
    ends = np.array([1.0, sde.t_min])
    high, low = sde.sigma(ends) / sde.alpha(ends)
    rho = ladder.geometric(float(high), float(low), num_levels)
    steps = ladder.step_sizes(rho, ladder.best_step_size(rho, LANGEVIN_STEPS))
    return Rungs(rho, steps, float(sde.prior_scale / sde.alpha(ends)[0]))


def rows(step_size: Any, x: Any) -> Any:
    """A step size for each row of x."""
    return step_size + 0 * x[:, 0]


def corrector_step(rho: Any, x: Any) -> Any:
    """The step size of a corrector's Langevin step on a level, 2 snr ρ.

    Its drift is to its noise as snr, where the score is as long as that of the noise alone, 1/ρ for each entry. (Song
    et al. 2021 take the lengths of each batch, on which a draw would then depend.)

    Args:
        rho: () of the level.
        x: (n, d).

    Returns:
        (n,).
    """
    return rows(2 * SNR * rho, x)
