"""Images made from known factors, every combination of them once: what disentanglement is measured on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from deepgen.checks import problem

SHAPES = ("square", "disc", "cross")
SMALLEST = 2


class FactorImages(NamedTuple):
    """Images and the factors that they were made from.

    Attributes:
        x: (n, size²) or (n, 1, size, size) float32, zeros and ones.
        factors: (n, 4) integers, each column 0, 1, … in the order of the factor's values.
        names: of the columns of ``factors``.
        values: for each factor what its integers stand for: pixels, radii in pixels, names of shapes.
    """

    x: Float[np.ndarray, "n *event"]
    factors: Int[np.ndarray, "n k"]
    names: tuple[str, ...]
    values: tuple[tuple[int | str, ...], ...]


def factor_images(
    *, seed: int = 0, size: int = 16, positions: int = 8, radii: int = 3, image: bool = False
) -> FactorImages:
    """Every combination of position (x and y), radius and shape of a bright figure on a dark square, once.

    The figures are a square, a disc and a cross of radius 2, 3, … pixels. Each combination stands there once, so the
    factors are independent of each other and uniform; and no two images are equal, so they can be told from the image.

    Args:
        seed: of the order of the rows.
        size: height and width, pixels.
        positions: how many columns, and how many rows, the centre may stand in.
        radii: how many radii.
        image: whether a datum is an image (1, size, size); else its pixels row by row.

    Returns:
        ``3 · radii · positions²`` images with their factors, in random order.

    Raises:
        ValueError: fewer than two positions or radii, or a figure that leaves the image.

    >>> made = factor_images(positions=4)
    >>> made.x.shape, made.names
    ((144, 256), ('x', 'y', 'radius', 'shape'))
    """
    for what, count in (("positions", positions), ("radii", radii)):
        if count < 2:
            raise problem(what, got=count, expected="at least 2", fix="A factor has two values or more.")
    largest = SMALLEST + radii - 1
    room = size - 2 * largest
    if room < positions:
        raise problem(
            "size",
            got=f"{size} pixels for {positions} positions and a radius of up to {largest}",
            expected=f"at least {positions + 2 * largest}",
            fix="Take a larger size, or fewer positions or radii.",
        )
    centres = np.rint(np.linspace(largest, size - 1 - largest, positions)).astype(int)
    values = (centres, centres, SMALLEST + np.arange(radii), np.arange(len(SHAPES)))
    grid = np.meshgrid(*(np.arange(len(value)) for value in values), indexing="ij")
    factors = np.stack([axis.ravel() for axis in grid], axis=1)
    factors = factors[np.random.default_rng(seed).permutation(len(factors))]
    x, y, radius, shape = (value[factors[:, k]][:, None, None] for k, value in enumerate(values))
    pixel = np.arange(size)
    across, down = np.abs(pixel[None, None] - x), np.abs(pixel[None, :, None] - y)
    square = np.maximum(across, down) <= radius
    disc = across**2 + down**2 <= radius * (radius + 1)
    cross = square & (np.minimum(across, down) <= (radius - 1) // 2)
    drawn = np.select([shape == 0, shape == 1], [square, disc], cross).astype(np.float32)
    named: tuple[tuple[int | str, ...], ...] = tuple(tuple(int(v) for v in value) for value in values[:3])
    return FactorImages(
        drawn[:, None] if image else drawn.reshape(len(drawn), -1),
        factors,
        ("x", "y", "radius", "shape"),
        (*named, SHAPES),
    )
