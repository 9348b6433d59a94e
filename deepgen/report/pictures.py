"""What a report shows beside the numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Pictures:
    """The arrays that a report draws.

    Attributes:
        losses: (steps,) the objective at each step, nats per row.
        validation_steps: after how many steps the validation loss was taken.
        validation_losses: in the same units.
        image_shape: (channels, height, width), or None where a datum is no image.
        samples: (m, *event_shape) draws from the program.
        truth: (n, *event_shape) all held-out rows that were completed.
        seen: (n, *event_shape) booleans, False where they were hidden.
        draws: (draws, n, *event_shape), or None where nothing was completed.
        white: the value of a white pixel.
        reconstructed: (k, *event_shape) the first held-out rows again, or None.
        places: (D,) when each entry is decided, or None.
        surprise: (D,) the mean nats of each entry given those decided before it, or None.
        base_quantiles: (n,) the quantiles of a flow's base, or None.
        base_draws: (n, d) each coordinate of held-out rows in the base, sorted, or None.
        path: (points, pairs, *event_shape) paths between held-out rows, or None.
        scales: (columns, k, *event_shape) held-out images, then these with their finer scales drawn anew, or None.
        denoising: (points, draws, *event_shape) what draws are expected to be on their way from noise, or None.
        density: (k, k) log density on a grid of the plane, rows by the second coordinate, or None.
        density_axes: (2, k) the grid's coordinates, or None.
        energies: (n,) nats each, of rows of the fit, of held-out rows and of draws, by name; or None.
    """

    losses: np.ndarray
    validation_steps: np.ndarray
    validation_losses: np.ndarray
    image_shape: tuple[int, ...] | None
    samples: np.ndarray
    truth: np.ndarray
    seen: np.ndarray
    draws: np.ndarray | None = None
    white: float = 1.0
    reconstructed: np.ndarray | None = None
    places: np.ndarray | None = None
    surprise: np.ndarray | None = None
    base_quantiles: np.ndarray | None = None
    base_draws: np.ndarray | None = None
    path: np.ndarray | None = None
    scales: np.ndarray | None = None
    denoising: np.ndarray | None = None
    density: np.ndarray | None = None
    density_axes: np.ndarray | None = None
    energies: Mapping[str, np.ndarray] | None = None
