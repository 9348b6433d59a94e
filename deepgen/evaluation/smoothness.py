"""How smoothly a decoder goes from one datum to another."""

from dataclasses import dataclass

import numpy as np

from deepgen.checks import problem
from deepgen.evaluation.estimate import Estimate, cell_mean


@dataclass(frozen=True)
class PathSmoothness:
    """What decoded paths look like in the space of the data, means over paths with standard errors.

    Attributes:
        length: of the path as a multiple of the distance between its ends; 1 for a straight line.
        energy: of the path as a multiple of that of the straight line at constant speed; 1 for that line, at least
            the square of the length.
        curvature: the mean squared acceleration as a multiple of the squared distance between the ends; 0 for a
            straight line at constant speed.
        paths: how many.
    """

    length: Estimate
    energy: Estimate
    curvature: Estimate
    paths: int


def path_smoothness(path: np.ndarray) -> PathSmoothness:
    r"""Length, energy and curvature of decoded paths, in units of the distance between their ends.

    With :math:`g_i` the decoded points at weights :math:`0, \epsilon, 2 \epsilon, …, 1`, :math:`\epsilon = 1 / m`, and
    :math:`c = \|g_m - g_0\|`,

    .. math:: \frac1c \sum_i \|g_{i+1} - g_i\|, \qquad
        \frac{1}{c^2} \sum_i \frac{\|g_{i+1} - g_i\|^2}{\epsilon}, \qquad
        \frac{1}{c^2}\, \frac{1}{m - 1} \sum_i \frac{\|g_{i+1} - 2 g_i + g_{i-1}\|^2}{\epsilon^4}.

    The energy is the discrete energy of a curve (Shao, Kumar & Fletcher 2018, https://arxiv.org/abs/1711.08014), and
    the perceptual path length of Karras, Laine & Aila 2019 (https://arxiv.org/abs/1812.04948) with the Euclidean
    distance of the data in place of one between features: the mean of :math:`\|g(w + \epsilon) - g(w)\|^2 /
    \epsilon^2`. The curvature is the mean of :math:`\|\ddot g\|^2`, which a jump between two points makes large. All
    three depend on the number of points, more so where the path jumps: compare paths with the same number.

    Args:
        path: (points, n, *event_shape), as ``interpolate`` returns it (``kind="linear"`` or ``"spherical"``), three
            points or more.

    Returns:
        The means over the n paths, and their standard errors (NaN for one path).

    Raises:
        ValueError: fewer than three points, values that are not finite, or a path whose ends are equal.
    """
    points = np.asarray(path, dtype=np.float64)
    if points.ndim < 3 or len(points) < 3 or not points.size or not np.isfinite(points).all():
        raise problem(
            "path",
            got=f"shape {points.shape}" + ("" if np.isfinite(points).all() else " with values that are not finite"),
            expected="(points, n, *event_shape) finite numbers, three points or more",
            fix="Pass what interpolate returned.",
        )
    steps, n = len(points) - 1, points.shape[1]
    points = points.reshape(steps + 1, n, -1)
    chord = np.sqrt(((points[-1] - points[0]) ** 2).sum(1))
    if not (chord > 0).all():
        raise problem(
            "path",
            got=f"equal ends in {int((chord == 0).sum())} of {n} paths",
            expected="two different ends",
            fix="Leave these pairs out, or look whether the decoder ignores its latents (active_units).",
        )
    square = (np.diff(points, axis=0) ** 2).sum(2)
    bend = (np.diff(points, 2, axis=0) ** 2).sum(2)
    rows = np.arange(n)
    return PathSmoothness(
        cell_mean(np.sqrt(square).sum(0) / chord, rows),
        cell_mean(steps * square.sum(0) / chord**2, rows),
        cell_mean(steps**4 * bend.mean(0) / chord**2, rows),
        paths=n,
    )
