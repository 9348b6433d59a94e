"""How the networks of images and of sequences are laid out for the law of their outputs."""

from typing import Any

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
