"""Discretised logistic mixtures by SciPy in float64, sharing no line with the package."""

from itertools import product

import numpy as np
from element_laws import ElementLaw, squash
from scipy import stats
from scipy.special import softmax


def bin_probabilities(loc: np.ndarray, scale: np.ndarray, values: int, edges: bool = True) -> np.ndarray:
    """(V, ...) what each bin has under a logistic distribution in units in which the values span [-1, 1].

    Without ``edges`` the outermost bins end where they would if there were others beyond them.
    """
    cuts = (2 * np.arange(values + 1) - values) / (values - 1)
    if edges:
        cuts[0], cuts[-1] = -np.inf, np.inf
    return np.diff(stats.logistic.cdf(cuts.reshape(-1, *[1] * np.ndim(loc)), loc, scale), axis=0)


def probabilities(
    logits: np.ndarray, loc: np.ndarray, scale: np.ndarray, values: int, edges: bool = True
) -> np.ndarray:
    """(V, ...) of a mixture whose components are on the last axis."""
    return (softmax(logits, axis=-1) * bin_probabilities(loc, scale, values, edges)).sum(-1)


def pixel_probabilities(
    logits: np.ndarray, loc: np.ndarray, scale: np.ndarray, coefficients: np.ndarray, values: int
) -> np.ndarray:
    """(V, V, V) of one pixel's channels, from (K,), (3, K), (3, K), (3, K)."""
    found = np.zeros((values,) * 3)
    for k, weight in enumerate(softmax(logits)):
        a, b, c = coefficients[:, k]
        red = bin_probabilities(loc[0, k], scale[0, k], values)
        for r, g in product(range(values), repeat=2):
            x, y = (2 * v / (values - 1) - 1 for v in (r, g))
            green = bin_probabilities(loc[1, k] + a * x, scale[1, k], values)[g]
            blue = bin_probabilities(loc[2, k] + b * x + c * y, scale[2, k], values)
            found[r, g] += weight * red[r] * green * blue
    return found


def discretized_logistic(values: int, components: int) -> ElementLaw:
    """Integers from 0 to ``values`` - 1, the decoder's numbers being logits, locations and raw scales."""

    def parts(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits, loc, raw = (np.moveaxis(part, -2, -1) for part in np.split(a, 3, axis=-2))
        return logits, loc, np.exp(squash(raw, -np.log(values - 1) - 2.0, 2.0))

    def moment(a: np.ndarray, power: int) -> np.ndarray:
        return np.tensordot(np.arange(values) ** power, probabilities(*parts(a), values), 1)

    def log_pmf(x: np.ndarray, a: np.ndarray) -> np.ndarray:
        table = np.log(probabilities(*parts(a), values))
        chosen = np.arange(values) == np.nan_to_num(x)[..., None]
        return np.einsum("nidv,vkd->nkd", chosen.astype(float), table)

    def draw(rng: np.random.Generator, a: np.ndarray) -> np.ndarray:
        below = np.cumsum(probabilities(*parts(a), values), axis=0)
        return (rng.random(below.shape[1:]) > below).sum(0).astype(np.int32)

    return ElementLaw(
        {"law": "discretized_logistic", "num_components": components, "num_values": values, "coupled": False},
        3 * components,
        log_pmf,
        lambda a: moment(a, 1),
        lambda a: moment(a, 2) - moment(a, 1) ** 2,
        draw,
    )
