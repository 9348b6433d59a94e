r"""A law of each row's missing coordinates given the observed ones, made of draws of a program.

With the draws' mean and covariance, let m, C be mean and covariance of the missing coordinates of a normal given the
observed ones, and :math:`v = m + L u, C = L L'`. The law of u is half a Student t, which reaches further than the
program does, and half a mixture of normals around those J draws whose observed coordinates are nearest to the row's:

.. math:: q(u) = \tfrac12 t_\nu(u; 0, I) + \tfrac12 \sum_j w_j N(u; L^{-1} e_j, h^2 I), \quad
    w_j \propto \exp(-d_j^2 / 2 h^2), \quad h = M^{-1 / (D + 4)}

with e_j the residual of draw j in the regression on the observed coordinates and d_j its Mahalanobis distance there. It
is the conditional of a kernel density estimate (Silverman 1986), of J terms, with a defensive component (Hesterberg
1995). A normal alone would leave out one of two modes, and the neighbours alone have no tails.
"""

import math
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float

DF = 8
"""The degrees of freedom of the t."""
NEIGHBOURS = 64
"""How many draws are neighbours of a row, at most."""
DRAWS = 1024
"""Of how many draws of the program."""
STARTS = 256
"""How many completions compete for the starts of a row's chains."""
FARTHEST = 10.0
"""Draws are taken to be within so many interquartile ranges from the median, lest a few rule the covariance."""


class Noise(NamedTuple):
    """The randomness of K completions of n rows.

    Attributes:
        normal: (K, n, D) standard normals.
        chi: (K, n, DF) standard normals, whose squares' sum divides that of the t.
        near: (K, n) uniforms in [0, 1): the t below one half, a neighbour above.
        which: (K, n) uniforms in [0, 1): which neighbour.
    """

    normal: Any
    chi: Any
    near: Any
    which: Any


class Mixture(NamedTuple):
    """The law of each row.

    Attributes:
        centre: (n, D) m, zero where observed.
        factor: (n, D, D) L, the identity where observed.
        log_det: (n,) of L.
        neighbours: (n, J, D) where they are in u, zero where observed.
        log_shares: (n, J) their log weights, normalised.
        width: (n,) h.
        size: (n,) how many entries are missing.
        log_norm: (n,) of the t.
        spread: (n, D) the standard deviations of the program's draws.
    """

    centre: Any
    factor: Any
    log_det: Any
    neighbours: Any
    log_shares: Any
    width: Any
    size: Any
    log_norm: Any
    spread: Any


def fit(draws: Float[np.ndarray, "m #n d"], v: Float[np.ndarray, "n d"], observed: Bool[np.ndarray, "n d"]) -> Mixture:
    """The law of each row's missing coordinates, in float64.

    Args:
        draws: of the program, M for each row or M for all.
        v: the rows, anything where missing.
        observed: booleans.

    Returns:
        The laws.
    """
    draws = np.moveaxis(_tame(draws.astype(np.float64)), 1, 0)
    count, dims = draws.shape[1:]
    missing = ~observed
    mean = draws.mean(1)
    centred = draws - mean[:, None]
    covariance = np.swapaxes(centred, 1, 2) @ centred / count
    spread = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-12)
    covariance = covariance + 1e-6 * spread[:, :, None] * np.eye(dims)
    both, identity = observed[:, :, None] & observed[:, None, :], np.eye(dims)
    seen = np.where(both, covariance, identity)
    cross = np.where(observed[:, :, None] & missing[:, None, :], covariance, 0.0)
    regression = np.linalg.solve(seen, cross)
    left = np.where(missing[:, :, None] & missing[:, None, :], covariance, identity * observed[:, None, :])
    left = left - np.swapaxes(cross, 1, 2) @ regression
    factor = np.linalg.cholesky((left + np.swapaxes(left, 1, 2)) / 2)
    deviation = np.where(observed, v - mean, 0.0)
    centre = np.where(missing, mean + (deviation[:, None] @ regression)[:, 0], 0.0)

    width = count ** (-1 / (dims + 4))
    away = np.where(observed[:, None], deviation[:, None] - centred, 0.0)
    distance = (away * np.swapaxes(np.linalg.solve(seen, np.swapaxes(away, 1, 2)), 1, 2)).sum(-1)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :NEIGHBOURS]
    kept = np.take_along_axis(distance, nearest, 1)
    log_shares = -(kept - kept[:, :1]) / (2 * width**2)
    log_shares -= np.log(np.exp(log_shares).sum(1, keepdims=True))
    own = np.take_along_axis(np.broadcast_to(centred, away.shape), nearest[:, :, None], 1)
    residual = np.where(missing[:, None], own - np.where(observed[:, None], own, 0.0) @ regression, 0.0)
    neighbours = np.swapaxes(np.linalg.solve(factor, np.swapaxes(residual, 1, 2)), 1, 2)

    size = missing.sum(1)
    log_norm = [math.lgamma((DF + k) / 2) - math.lgamma(DF / 2) - k / 2 * math.log(DF * math.pi) for k in size]
    log_det = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    widths, spread = np.full(len(v), width), np.broadcast_to(np.sqrt(spread), v.shape).copy()
    return Mixture(
        centre, factor, log_det, neighbours, log_shares, widths, size.astype(float), np.array(log_norm), spread
    )


def complete(
    noise: Noise, law: Mixture, v: Float[Any, "n d"], observed: Bool[Any, "n d"]
) -> tuple[Float[Any, "k n d"], Float[Any, "k n"]]:
    """Completions of the rows as a function of their noise, and the log density of what was drawn.

    Args:
        noise: of K completions.
        law: of each row.
        v: the rows, anything finite where missing.
        observed: booleans.

    Returns:
        The rows with their missing coordinates drawn, and log q of these, nats.
    """
    xp = array_api_compat.array_namespace(v)
    rows, neighbours, dims = law.neighbours.shape
    bounds = xp.cumulative_sum(xp.exp(law.log_shares), axis=-1)[:, :-1]
    place = xp.sum(xp.astype(noise.which[..., None] >= bounds, xp.int32), axis=-1)
    device = array_api_compat.device(v)
    flat = xp.reshape(place + neighbours * xp.arange(rows, dtype=xp.int32, device=device), (-1,))
    own = xp.reshape(xp.take(xp.reshape(law.neighbours, (-1, dims)), flat, axis=0), noise.normal.shape)
    reach = xp.sqrt(DF / xp.sum(noise.chi**2, axis=-1))[..., None]
    u = xp.where(noise.near[..., None] < 0.5, reach * noise.normal, own + law.width[:, None] * noise.normal)
    u = xp.where(observed, xp.zeros_like(u), u)
    moved = xp.permute_dims(xp.matmul(law.factor, xp.permute_dims(u, (1, 2, 0))), (2, 0, 1))
    return xp.where(observed, v, law.centre + moved), log_density(u, law) - law.log_det


def log_density(u: Float[Any, "k n d"], law: Mixture) -> Float[Any, "k n"]:
    """log q(u) of coordinates in which the conditional normal is standard.

    Args:
        u: zero where observed.
        law: of each row.

    Returns:
        Nats.
    """
    xp = array_api_compat.array_namespace(u)
    square = xp.sum(u * u, axis=-1)
    far = law.log_norm - (DF + law.size) / 2 * xp.log1p(square / DF)
    products = xp.matmul(xp.permute_dims(u, (1, 0, 2)), xp.permute_dims(law.neighbours, (0, 2, 1)))
    distance = square[..., None] - 2 * xp.permute_dims(products, (1, 0, 2)) + xp.sum(law.neighbours**2, axis=-1)
    terms = law.log_shares - distance / (2 * law.width[:, None] ** 2)
    largest = xp.max(terms, axis=-1)
    near = largest + xp.log(xp.sum(xp.exp(terms - largest[..., None]), axis=-1))
    near = near - law.size * (xp.log(law.width) + 0.5 * math.log(2 * math.pi))
    return xp.logaddexp(far, near) - math.log(2)


def floored(log_weights: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
    """Log weights of which those that are not numbers or that vanish beside the row's largest are put at its edge.

    Args:
        log_weights: of each row's completions, nats.

    Returns:
        The same, at most 700 nats below the largest of a row.
    """
    found = np.where(np.isnan(log_weights), -np.inf, log_weights)
    return np.maximum(found, found.max(0) - 700)


def rows_at_once(rows: int, dims: int, particles: int, budget: int = 2**24) -> int:
    """How many rows to complete at a time so that about ``budget`` numbers of each kind are alive.

    Args:
        rows: how many there are.
        dims: D.
        particles: completions of a row.
        budget: how many numbers.

    Returns:
        From 1 to ``rows``.
    """
    return min(rows, max(1, budget // (dims * max(dims, particles, DRAWS))))


def _tame(draws: Float[np.ndarray, "m n d"]) -> Float[np.ndarray, "m n d"]:
    """Draws that are finite and not too far out."""
    finite = np.where(np.isfinite(draws), draws, np.nan)
    low, middle, high = np.nanquantile(finite, [0.25, 0.5, 0.75], axis=0)
    reach = FARTHEST * np.maximum(high - low, 1e-6)
    return np.clip(np.where(np.isnan(finite), middle, finite), middle - reach, middle + reach)
