"""The law that each way of drawing has where the scores are those of a normal law: its steps are then linear."""

import itertools
from collections.abc import Callable

import numpy as np

from deepgen.models.score import levels, recipe, sdes

Law = tuple[np.ndarray, np.ndarray]
"""Means and variances along the eigenvectors."""


def _ladder(law: Law, sde: sdes.Diffusion, each: Callable[..., Law], num_steps: int) -> Law:
    (mean, variance), rungs = law, levels.rungs(sde, num_steps)
    found = 0 * mean, 0 * mean + rungs.start**2
    for step in range(len(rungs.rho)):
        found = each(law, found, rungs, step)
    pull = 1 - rungs.rho[-1] ** 2 / (variance + rungs.rho[-1] ** 2)
    return mean + pull * (found[0] - mean), pull**2 * found[1]


def _moved(law: Law, found: Law, rho: float, drift: float, noise: float) -> Law:
    """x + drift s(x, rho) + noise z."""
    pull = 1 - drift / (law[1] + rho**2)
    return law[0] + pull * (found[0] - law[0]), pull**2 * found[1] + noise**2


def _langevin(law: Law, found: Law, rungs: levels.Rungs, step: int) -> Law:
    for _ in range(levels.LANGEVIN_STEPS):
        h = rungs.step_size[step]
        found = _moved(law, found, rungs.rho[step], h**2 / 2, h)
    return found


def _corrected(law: Law, found: Law, rungs: levels.Rungs, step: int) -> Law:
    if step == 0:
        return found
    before, now = rungs.rho[step - 1 : step + 1]
    gap = before**2 - now**2
    h = 2 * levels.SNR * now
    return _moved(law, _moved(law, found, before, gap, gap**0.5), now, h**2 / 2, h)


def _reverse(law: Law, sde: sdes.Diffusion, num_steps: int) -> Law:
    (mean, variance), found = law, (0 * law[0], 0 * law[0] + sde.prior_scale**2)
    times = np.asarray(sdes.grid(sde, num_steps), dtype=float)
    for t, after in itertools.pairwise(times):
        alpha, total = sde.alpha(t), sde.alpha(t) ** 2 * variance + sde.sigma(t) ** 2
        step, squared = t - after, sde.diffusion(t) ** 2
        pull = 1 - step * sde.drift(t) - step * squared / total
        found = pull * found[0] + step * squared * alpha * mean / total, pull**2 * found[1] + step * squared
    alpha, sigma = sde.alpha(times[-1]), sde.sigma(times[-1])
    total = alpha**2 * variance + sigma**2
    pull = 1 - sigma**2 / total
    return (pull * found[0] + sigma**2 * alpha * mean / total) / alpha, pull**2 * found[1] / alpha**2


def law_of_draws(method: str, sde: sdes.Diffusion, mean: np.ndarray, covariance: np.ndarray) -> Law:
    """Mean and covariance of draws by a method, with its usual number of steps.

    Args:
        method: of drawing.
        sde: the diffusion.
        mean: (d,) of the law whose scores are followed.
        covariance: (d, d) of it.

    Returns:
        Mean (d,) and covariance (d, d).
    """
    variance, axes = np.linalg.eigh(covariance)
    law, steps = (axes.T @ mean, variance), recipe.STEPS[method]
    ways: dict[str, Callable[[], Law]] = {
        "sde": lambda: _reverse(law, sde, steps),
        "predictor-corrector": lambda: _ladder(law, sde, _corrected, steps),
        "annealed-langevin": lambda: _ladder(law, sde, _langevin, steps),
    }
    centre, spread = ways[method]()
    return axes @ centre, axes @ np.diag(spread) @ axes.T
