"""What a report shows beside the numbers."""

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
        originals: (k, *event_shape) held-out rows, complete.
        observed: (k, *event_shape) booleans, False where they were hidden.
        reconstructed: (k, *event_shape).
        completed: (draws, k, *event_shape).
        truth: (n, *event_shape) all held-out rows that were completed.
        seen: (n, *event_shape) booleans, False where they were hidden.
        draws: (draws, n, *event_shape).
    """

    losses: np.ndarray
    validation_steps: np.ndarray
    validation_losses: np.ndarray
    image_shape: tuple[int, ...] | None
    samples: np.ndarray
    originals: np.ndarray
    observed: np.ndarray
    reconstructed: np.ndarray
    completed: np.ndarray
    truth: np.ndarray
    seen: np.ndarray
    draws: np.ndarray
