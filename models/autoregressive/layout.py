"""How the networks of images and of sequences are laid out for the law of their outputs."""

from typing import Any

import numpy as np

from deepgen.likelihoods import laws
from deepgen.models.autoregressive import inputs, made


def image(law: Any) -> dict[str, Any]:
    """The arguments by which a PixelCNN sees the data of a law and gives what the law wants.

    Args:
        law: of ``deepgen.likelihoods``.

    Returns:
        Keyword arguments of `PixelCNN`.

    Raises:
        ValueError: a law that differs from entry to entry.
    """
    found = made.arguments(law)
    del found["element_shape"]
    return found


def sequence(law: Any) -> dict[str, Any]:
    """The arguments by which a network of sequences sees the data of a law and gives what the law wants.

    Args:
        law: of ``deepgen.likelihoods``.

    Returns:
        Keyword arguments of `WaveNet` and `CausalTransformer`.

    Raises:
        ValueError: a law that differs from entry to entry, or an event that is no sequence.
    """
    inputs.sequence_shape(law.event_shape)
    found = image(law)
    # only pixels' channels are ever coupled
    found.pop("coupled", None)
    return found


def start(law: Any, data: Any, element_shape: tuple[int, ...], axis: int) -> np.ndarray:
    """The output biases at which every place has the marginal law of the data at all places.

    Args:
        law: of ``deepgen.likelihoods``.
        data: (n, *event_shape), NaN (negative integers) where missing.
        element_shape: of the entries whose marginals are told apart: a pixel's channels, a frame.
        axis: of the data, the first of those of an element.

    Returns:
        The biases, flattened: of each number that the law takes those of the element's entries.

    Raises:
        ValueError: data that the law does not take.
    """
    found = laws.check_data(law, data, missing=True)
    if element_shape:
        found = np.moveaxis(found, axis, -1)
    shape = element_shape or (1,)
    return law.element(shape).start(found.reshape(-1, *shape)).reshape(-1)
