"""What the programs of this room have in common in Pyro: declaring, showing data to an encoder, decoding."""

from typing import Any

import torch

from deepgen.likelihoods import laws
from deepgen.models.vae.hierarchy import Level
from deepgen.program.said import is_complete


def features(observation: Any, fill: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The features that an encoder is shown.

    Args:
        observation: the law of a datum.
        fill: (*feature_shape) what is shown where x is missing.
        x: (n, *event_shape), NaN (negative integers) where missing.

    Returns:
        The features and whether each is observed, (n, *feature_shape).
    """
    shown = observation.features(x).to(fill.dtype)
    if is_complete() or _nothing_missing(x):
        return shown, torch.ones((), dtype=torch.bool, device=x.device).expand(shown.shape)
    absent = observation.feature_mask(torch.isnan(x) if x.is_floating_point() else x < 0)
    return torch.where(absent, fill, shown), ~absent


def outputs(observation: Any, decoder: Any, z: torch.Tensor) -> torch.Tensor:
    """A decoder's numbers in the shape in which the law takes them.

    Args:
        observation: the law of a datum.
        decoder: the network.
        z: (..., latent_dim).

    Returns:
        (..., *outputs_shape).

    Raises:
        ValueError: another number of numbers than the law takes.
    """
    found = decoder(z)
    return found.reshape(laws.output_shape(observation, tuple(found.shape), tuple(z.shape[:-1])))


def levels(program: Any, x: torch.Tensor, y: torch.Tensor | None = None) -> tuple[Level, ...]:
    """`levels_given`, without gradients, as NumPy arrays."""
    with torch.no_grad():
        return tuple(Level(*(part.cpu().numpy() for part in level)) for level in levels_given(program, x, y))


def levels_given(program: Any, x: torch.Tensor, y: torch.Tensor | None) -> tuple[Level, ...]:
    """A program's ``levels``, given labels where there are some."""
    return program.levels(x) if y is None else program.levels(x, y)


def _nothing_missing(x: torch.Tensor) -> bool:
    """Whether nothing is missing: a sum says so at a fraction of what the mask and the filling cost in every step."""
    return not bool(torch.isnan(x.sum()) if x.is_floating_point() else (x < 0).any())
