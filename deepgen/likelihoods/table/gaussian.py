"""From a linear-Gaussian law of a table's features to the linear decoder of its columns."""

import math

import numpy as np
from scipy.special import expit, gammaln, ndtri

from deepgen.likelihoods.laws import raw_scale
from deepgen.likelihoods.table.columns import ColumnLaw, Layout, layout
from deepgen.likelihoods.table.starts import (
    MAX_CONCENTRATION,
    MIN_CONCENTRATION,
    Numbers,
    concentration_of,
    cut_values,
    raw_concentration,
    raw_cuts,
)

LOGISTIC = 1.702
"""sigmoid(1.702 x) is nowhere further than 0.0095 from the normal distribution function (Haley 1952)."""
LEAST_RESIDUAL, MOST_BETWEEN, MOST_SLOPE = 0.05, 0.9, 1.5
"""What keeps the approximations from extremes: of a variance, of the latents' variance, of a log mean a latent."""
INDICATOR = 0.5
"""What an indicator keeps of its variance however much the latents say."""
GRID = 20_000


def linear_decoder(
    columns: tuple[ColumnLaw, ...], own: Numbers, mean: np.ndarray, loadings: np.ndarray, residual: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    r"""The decoder weight z + bias whose columns given z are like features N(mean + loadings z, diag(residual)).

    Exactly so for real and positive columns. For the others with z ~ N(0, I):

    - categorical: linear discriminants. The features give the levels' frequencies p_k and the latents' means
      E[z | k] = m_k = loading_k spread / p_k; with the covariance S = I - sum_k p_k m_k m_k' within levels, the logits
      are log p_k - m_k' S^-1 m_k / 2 + m_k' S^-1 z (for two levels a slope of loading spread / (p (1 - p)) where little
      of the latents' variance lies between them).
    - ordinal: the code is taken for a normal variable of the features' variance v, cut where the law's cutpoints have
      it. Given z it is cut with the standard deviation sqrt(residual), which the logistic's 1.702 times stretches.
    - count: the concentration at which log(1 + x) has the variance ``residual`` at the mean, and the slope of the log
      mean at which it has the loading there, d E[log(1 + x)] / d log(mean) = Cov(log(1 + x), x) / (1 + mean / r) for a
      negative binomial; the bias keeps E[x] = E[exp(bias + slope z)].

    Args:
        columns: of the table.
        own: the law's own numbers.
        mean: (F,).
        loadings: (F, L).
        residual: (F,).

    Returns:
        Weight (F, L), bias (F,), and the law's own numbers that change.
    """
    where = layout(columns)
    weight, bias, changed = loadings.copy(), mean.copy(), {}
    if "raw_scale" in own:
        scales = np.array(own["raw_scale"], dtype=float)
        for kind in set(where.present) & {"real", "positive"}:
            scales[where.scaled[kind]] = raw_scale(np.sqrt(residual[where.outputs[kind]]))
        changed["raw_scale"] = scales
    for i in where.of("categorical"):
        block = slice(int(where.starts[i]), int(where.starts[i] + where.widths[i]))
        share = own["centre"][block] + own["spread"][block] * mean[block]
        weight[block], bias[block] = _discriminants(share, own["spread"][block, None] * loadings[block])
    if "ordinal" in where.present:
        places = where.outputs["ordinal"]
        weight[places], bias[places], changed["raw_cutpoints"] = _graded(
            where, own, mean[places], loadings[places], residual[places]
        )
    if "count" in where.present:
        places = where.outputs["count"]
        changed["raw_concentration"] = np.array(own["raw_concentration"], dtype=float)
        for j, place in enumerate(np.arange(where.size)[places]):
            spread = own["spread"][place]
            weight[place], bias[place], changed["raw_concentration"][j] = _log_linear(
                own["log_rate"][j], spread * mean[place], spread * loadings[place], spread**2 * residual[place]
            )
    return weight, bias, changed


def least_residual(columns: tuple[ColumnLaw, ...], own: Numbers) -> np.ndarray:
    """What each feature keeps of its variance given the latents.

    Args:
        columns: of the table.
        own: the law's own numbers.

    Returns:
        (F,).
    """
    where = layout(columns)
    shares = {"categorical": INDICATOR, "ordinal": 1 / np.maximum(where.ordinals.levels, 1)}
    found = np.zeros(where.size)
    for kind in set(where.present) & set(shares):
        found[where.outputs[kind]] = shares[kind]
    if "count" in where.present:
        poisson = [_of_logs(math.exp(rate), MAX_CONCENTRATION)[1] for rate in own["log_rate"]]
        found[where.outputs["count"]] = np.minimum(poisson / own["spread"][where.outputs["count"]] ** 2, 0.9)
    return found


def _discriminants(share: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes and biases of logits, from frequencies (K,) and covariances (K, L) of indicators and latents."""
    share = np.clip(share, 0.005, None)
    share = share / share.sum()
    # indicators add up to one
    covariance = covariance - share[:, None] * covariance.sum(0)
    means = covariance / share[:, None]
    size, axes = np.linalg.eigh((means * share[:, None]).T @ means)
    within = (axes / (1 - np.minimum(size, MOST_BETWEEN))) @ axes.T
    slopes = means @ within
    return slopes, np.log(share) - 0.5 * (slopes * means).sum(1)


def _graded(
    where: Layout, own: Numbers, mean: np.ndarray, loadings: np.ndarray, residual: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes, biases and raw cutpoints of the ordinal columns."""
    common = (loadings**2).sum(1)
    left = np.maximum(residual, LEAST_RESIDUAL * (common + residual))
    stretch = LOGISTIC / np.sqrt(left)
    total = np.sqrt(common + left)
    normal = ndtri(np.clip(expit(cut_values(where, own)), 1e-6, 1 - 1e-6))
    cuts = (stretch * total)[:, None] * normal
    there = where.ordinals.there
    raw = np.concatenate([raw_cuts(row[valid]) for row, valid in zip(cuts, there, strict=True)])
    return stretch[:, None] * loadings, stretch * mean, raw


def _log_linear(log_rate: float, shift: float, loading: np.ndarray, residual: float) -> tuple[np.ndarray, float, float]:
    """Slope and bias of a count's log mean and its raw concentration, from the law of log(1 + x)."""
    rate = math.exp(log_rate)
    low, high = math.log(2 * MIN_CONCENTRATION), math.log(MAX_CONCENTRATION / 2)
    for _ in range(30):
        middle = (low + high) / 2
        # the variance falls as the concentration grows
        low, high = (middle, high) if _of_logs(rate, math.exp(middle))[1] > residual else (low, middle)
    raw = raw_concentration(np.array([math.exp(high)]))
    slope = 1 / _of_logs(rate, float(concentration_of(raw)[0]))[0]
    weight = slope * loading
    length = math.sqrt(float(weight @ weight))
    weight = weight * min(1.0, MOST_SLOPE / max(length, 1e-12))
    return weight, float(np.clip(slope * shift, -1.0, 1.0) - 0.5 * weight @ weight), float(raw[0])


def _of_logs(rate: float, concentration: float) -> tuple[float, float]:
    """Of log(1 + x) for a negative binomial x: how its mean moves with the log mean, and its variance."""
    spread = math.sqrt(rate + rate**2 / concentration)
    top = rate + 40 * spread + 20
    # beyond the grid's size every so many counts stand for those between
    step = max(top / GRID, 1.0)
    x = np.floor(np.arange(min(top, GRID)) * step)
    log_p = gammaln(x + concentration) - gammaln(x + 1) - x * math.log1p(concentration / rate)
    p = np.exp(log_p - log_p.max())
    p = p / p.sum()
    logs = np.log1p(x)
    mean = p @ logs
    return float(p @ ((logs - mean) * (x - p @ x)) / (1 + rate / concentration)), float(p @ (logs - mean) ** 2)
