"""The noise ladder of annealed Langevin dynamics, and the step on each of its rungs.

Level i has noise standard deviation sigma_i, sigma_1 > ... > sigma_L, and step e_i = h^2 (sigma_i / sigma_L)^2 in the
convention of this room, x' = x + (e/2) s + sqrt(e) z. (Song and Ermon write x + a s + sqrt(2 a) z: e = 2 a.)
"""

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float
from scipy import special


def geometric(sigma_max: float, sigma_min: float, num_levels: int) -> Float[np.ndarray, " levels"]:
    """sigma_i = sigma_max (sigma_min / sigma_max)^((i - 1) / (L - 1)), from the largest to the smallest.

    Args:
        sigma_max: of the first level.
        sigma_min: of the last level, at most sigma_max.
        num_levels: L >= 1; one level is sigma_min alone.

    Returns:
        (L,) standard deviations.

    References:
        Song and Ermon, "Generative modeling by estimating gradients of the data distribution" (2019).
    """
    if num_levels == 1:
        return np.array([sigma_min])
    return np.geomspace(sigma_max, sigma_min, num_levels)


def largest_distance(x: Float[Any, "n d"]) -> float:
    """The largest Euclidean distance between two rows: the sigma_max with which a chain can cross between any two data.

    Args:
        x: (n, d), n >= 2.

    Returns:
        The distance, in units of x.

    References:
        Song and Ermon, "Improved techniques for training score-based generative models" (2020), technique 1.
    """
    rows = np.asarray(x, dtype=np.float64)
    return float(max(np.sqrt(((rows[i + 1 :] - row) ** 2).sum(1).max()) for i, row in enumerate(rows[:-1])))


def overlap(ratio: float, dimension: int) -> float:
    """How much of a level's shell of radii lies within three standard deviations of the next level's.

    The radius |x| of N(0, sigma^2 I) is near N(sqrt(D) sigma, sigma^2 / 2), so with r = sigma_{i-1} / sigma_i the share
    is Phi(sqrt(2 D) (r - 1) + 3 r) - Phi(sqrt(2 D) (r - 1) - 3 r).

    Args:
        ratio: r >= 1.
        dimension: D.

    Returns:
        A number in (0, 1).

    References:
        Song and Ermon (2020), technique 2.
    """
    centre = math.sqrt(2 * dimension) * (ratio - 1)
    return float(special.ndtr(centre + 3 * ratio) - special.ndtr(centre - 3 * ratio))


def num_levels(sigma_max: float, sigma_min: float, dimension: int, *, share: float = 0.5) -> int:
    """The number of levels of a geometric ladder whose neighbours overlap by a share.

    Args:
        sigma_max: of the first level.
        sigma_min: of the last level, below sigma_max.
        dimension: D of a datum.
        share: the ``overlap`` wanted; the paper takes 0.5.

    Returns:
        The smallest L whose neighbouring levels overlap by at least the share.

    References:
        Song and Ermon (2020), technique 2.
    """
    high = 2.0
    while overlap(high, dimension) > share and high < sigma_max / sigma_min:
        high *= 2
    if overlap(high, dimension) > share:
        return 2
    from scipy import optimize  # which takes a third of a second to import

    ratio = optimize.brentq(lambda r: overlap(r, dimension) - share, 1.0, high)
    return 1 + math.ceil(math.log(sigma_max / sigma_min) / math.log(ratio))


def step_sizes(sigmas: Float[Any, " levels"], step_size: Any) -> Float[Any, " levels"]:
    """The step size on each level, h_i = h sigma_i / sigma_L, h being that of the last level.

    Args:
        sigmas: (L,) from the largest to the smallest.
        step_size: h, a number.

    Returns:
        (L,) step sizes; e_i = h_i^2.

    References:
        Song and Ermon (2019), algorithm 1.
    """
    return step_size * sigmas / sigmas[-1]


def variance_ratio(step_size: float, sigma_min: float, ratio: float, num_steps: int) -> float:
    """Variance of the chain over sigma_i^2 after a level's steps, where the data are one point and the score is exact.

    Each step is x' = (1 - q) x + h_i z in units where q = h^2 / (2 sigma_L^2) on every level, and the level begins at
    the variance r^2 of the one before: (1 - q)^(2T) (r^2 - v) + v with v = 2 q / (1 - (1 - q)^2).

    Args:
        step_size: h of the last level.
        sigma_min: sigma_L.
        ratio: r = sigma_{i-1} / sigma_i.
        num_steps: T on each level.

    Returns:
        The ratio; 1 where the level's noise is met.

    References:
        Song and Ermon (2020), technique 4.
    """
    q = step_size**2 / (2 * sigma_min**2)
    stationary = 2 / (2 - q)
    return (1 - q) ** (2 * num_steps) * (ratio**2 - stationary) + stationary


def best_step_size(sigmas: Float[Any, " levels"], num_steps: int) -> float:
    """The step size of the last level whose ``variance_ratio`` is nearest to 1.

    Args:
        sigmas: (L,) geometric, L >= 2.
        num_steps: T on each level.

    Returns:
        h of the last level; e = h^2 is twice the epsilon of the paper.

    References:
        Song and Ermon (2020), technique 4.
    """
    levels = np.asarray(sigmas, dtype=np.float64)
    sigma_min, ratio = float(levels[-1]), float(levels[-2] / levels[-1])
    # q on a grid from nearly nothing to the edge of stability, then refined between its neighbours
    grid = sigma_min * np.sqrt(2 * np.geomspace(1e-8, 1.0, 400))

    def miss(step_size: float) -> float:
        return abs(variance_ratio(step_size, sigma_min, ratio, num_steps) - 1)

    best = int(np.argmin([miss(h) for h in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    from scipy import optimize

    found = optimize.minimize_scalar(miss, bounds=bounds, method="bounded", options={"xatol": 1e-9 * sigma_min})
    return float(found.x)


def denoise(x: Float[Any, "*batch d"], score: Float[Any, "*batch d"], sigma: Any) -> Float[Any, "*batch d"]:
    """The expected datum given a noisy one, x + sigma^2 s(x) (Tweedie): the last step, which takes the last noise away.

    Args:
        x: (*batch, d) at noise sigma.
        score: (*batch, d) of the noisy law there.
        sigma: a number.

    Returns:
        (*batch, d).

    References:
        Robbins, "An empirical Bayes approach to statistics" (1956); Jolicoeur-Martineau et al., "Adversarial score
        matching and improved sampling for image generation" (2021).
    """
    return x + sigma**2 * score


def predict(
    x: Float[Any, "*batch d"],
    score: Float[Any, "*batch d"],
    sigma: Any,
    sigma_next: Any,
    noise: Float[Any, "*batch d"],
) -> Float[Any, "*batch d"]:
    """A step down the ladder by the reverse diffusion of the variance-exploding process: the predictor.

    x' = x + (sigma^2 - sigma_next^2) s(x) + sqrt(sigma^2 - sigma_next^2) noise.

    Args:
        x: (*batch, d) at noise sigma.
        score: (*batch, d) of the law at sigma.
        sigma: a number.
        sigma_next: a number below it.
        noise: (*batch, d) standard normals.

    Returns:
        (*batch, d) near the law at sigma_next.

    References:
        Song, Sohl-Dickstein, Kingma, Kumar, Ermon and Poole, "Score-based generative modeling through stochastic
        differential equations" (2021), algorithm 2.
    """
    xp = array_namespace(x)
    gap = xp.zeros_like(x[..., :1]) + (sigma**2 - sigma_next**2)
    return x + gap * score + xp.sqrt(gap) * noise


def corrector_step_size(sigma: Any, snr: float) -> Any:
    """The step size at which a Langevin step has a given ratio of drift to noise: h = 2 snr sigma.

    The paper takes h = 2 snr |z| / |s|. Where a level's noise dominates, |s| is near sqrt(d) / sigma and |z| near
    sqrt(d); with these values the step cannot blow up where a score happens to vanish.

    Args:
        sigma: of the level.
        snr: the ratio of drift to noise; the paper takes 0.16 to 0.17.

    Returns:
        The step size, of the form of ``sigma``.

    References:
        Song et al. (2021), algorithm 4.
    """
    return 2 * snr * sigma
