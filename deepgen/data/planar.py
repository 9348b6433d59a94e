"""Laws in the plane that are easy to see and hard to learn, with exact draws, densities and shares of their modes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import logsumexp

from deepgen import checks

NODES = 200
"""Of the Gauss-Legendre rule along an arc: beyond float64 for a noise of at least a thirtieth of the radius."""
LEAST_NOISE = 1 / 30
"""The least noise of the moons, in units of their radius, so that the rule along the arcs is exact."""


@dataclass(frozen=True, eq=False)
class Planar:
    """A law in the plane.

    Attributes:
        name: of the law.
        draw: (generator, n) to exact draws (n, 2), float32.
        log_prob: (n, 2) to the exact log density (n,), nats, float64; minus infinity outside of the support.
        mode: (n, 2) to the number of the nearest mode (n,).
        weights: (k,) the probability of each mode.
        reach: all but a negligible part of the law lies in the square of this half side around the origin.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Float[np.ndarray, "n 2"]]
    log_prob: Callable[[Any], Float[np.ndarray, " n"]]
    mode: Callable[[Any], Int[np.ndarray, " n"]]
    weights: Float[np.ndarray, " k"]
    reach: float

    def shares(self, x: Any, weights: Any = None) -> Float[np.ndarray, " k"]:
        """The share of points in each mode.

        Args:
            x: (n, 2).
            weights: (n,) of the points; None for equal ones.

        Returns:
            (k,), summing to the sum of the weights, which is one for equal ones.
        """
        counted = np.full(len(x), 1 / len(x)) if weights is None else np.asarray(weights, dtype=float)
        return np.bincount(self.mode(x), counted, len(self.weights))

    def grid(self, size: int) -> tuple[Float[np.ndarray, "m 2"], float]:
        """The midpoints of the cells of a square grid over the reach.

        Args:
            size: cells a side.

        Returns:
            (size², 2) points, float32, the second coordinate running fastest, and the area of a cell.
        """
        checks.at_least("size", size, 1)
        side = 2 * self.reach / size
        axis = -self.reach + side * (np.arange(size) + 0.5)
        return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2).astype(np.float32), side * side


def eight_gaussians(*, weights: Any = None, radius: float = 2.0, scale: float = 0.2) -> Planar:
    r"""Eight normals around a circle.

    .. math:: p(x) = \sum_k w_k N(x; r (\cos \tfrac{\pi k}{4}, \sin \tfrac{\pi k}{4}), s^2 I)

    Args:
        weights: (8,) of the modes, which are scaled to sum to one; None for equal ones.
        radius: r.
        scale: s.

    Returns:
        The law.

    Raises:
        ValueError: not eight positive weights, or a radius or scale that is not positive.
    """
    checks.positive("radius", radius)
    checks.positive("scale", scale)
    share = np.ones(8) if weights is None else np.asarray(weights, dtype=float)
    if share.shape != (8,) or not np.isfinite(share).all() or (share <= 0).any():
        raise checks.problem("weights", got=weights, expected="eight positive numbers", fix="One for each mode.")
    share = share / share.sum()
    angles = np.pi / 4 * np.arange(8)
    centres = radius * np.stack([np.cos(angles), np.sin(angles)], -1)

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return (centres[rng.choice(8, n, p=share)] + scale * rng.standard_normal((n, 2))).astype(np.float32)

    def mode(x: Any) -> np.ndarray:
        return np.argmax(np.asarray(x, dtype=float) @ centres.T, axis=1)

    def log_prob(x: Any) -> np.ndarray:
        return _normals(x, centres, share, scale)

    return Planar("eight_gaussians", draw, log_prob, mode, share, radius + 6 * scale)


def two_moons(*, noise: float = 0.1) -> Planar:
    r"""Two half circles that reach into each other, with normal noise, around the origin.

    .. math:: x = \pm (\cos \theta - \tfrac12, \sin \theta - \tfrac14) + \epsilon, \quad
        \theta \sim U(0, \pi),\ \epsilon \sim N(0, s^2 I)

    They are the moons of scikit-learn, moved by (1/2, 1/4).

    Args:
        noise: s, at least a thirtieth.

    Returns:
        The law; the density is integrated along the arcs, exact but for rounding.

    Raises:
        ValueError: a noise below a thirtieth.
    """
    checks.positive("noise", noise)
    if noise < LEAST_NOISE:
        raise checks.problem(
            "noise", got=noise, expected="at least 1/30", fix="The density is not exact below; 0.1 is usual."
        )
    nodes, masses = np.polynomial.legendre.leggauss(NODES)
    centres = _moons(np.pi / 2 * (nodes + 1))

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        sign = rng.choice([-1.0, 1.0], (n, 1))
        return (sign * _moons(np.pi * rng.random(n)) + noise * rng.standard_normal((n, 2))).astype(np.float32)

    def moons(x: Any) -> np.ndarray:
        return np.stack([_normals(x, sign * centres, masses / 4, noise) for sign in (1, -1)], -1)

    def log_prob(x: Any) -> np.ndarray:
        return logsumexp(moons(x), axis=1)

    def mode(x: Any) -> np.ndarray:
        return np.argmax(moons(x), axis=1)

    return Planar("two_moons", draw, log_prob, mode, np.full(2, 0.5), 1.5 + 6 * noise)


def checkerboard() -> Planar:
    """The uniform law on the eight black squares of a board of four by four unit squares, around the origin.

    Returns:
        The law, whose entropy is log 8. Points outside of the black squares belong to the nearest one.
    """
    i, j = (part.ravel() for part in np.meshgrid(np.arange(4), np.arange(4), indexing="ij"))
    corners = np.stack([i, j], -1)[(i + j) % 2 == 0] - 2.0

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        return (corners[rng.integers(8, size=n)] + rng.random((n, 2))).astype(np.float32)

    def distance(x: Any) -> np.ndarray:
        away = np.abs(np.asarray(x, dtype=float)[:, None] - corners - 0.5) - 0.5
        return np.maximum(away, 0).sum(-1)

    def log_prob(x: Any) -> np.ndarray:
        return np.where(distance(x).min(1) > 0, -np.inf, -math.log(8))

    def mode(x: Any) -> np.ndarray:
        return np.argmin(distance(x), axis=1)

    return Planar("checkerboard", draw, log_prob, mode, np.full(8, 1 / 8), 3.0)


def _moons(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], -1)


def _normals(x: Any, centres: np.ndarray, weights: np.ndarray, scale: float) -> np.ndarray:
    square = ((np.asarray(x, dtype=float)[:, None] - centres) ** 2).sum(-1)
    return logsumexp(-0.5 * square / scale**2, b=weights, axis=1) - math.log(2 * math.pi * scale**2)
