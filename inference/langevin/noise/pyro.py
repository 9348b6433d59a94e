"""The randomness of a step in torch."""

import torch
from torch import Tensor

from deepgen.inference.langevin.dynamics import Dynamics

__all__ = ["draw_noise", "uniform"]

Noise = tuple[Tensor, Tensor]


def draw_noise(dynamics: Dynamics, position: Tensor) -> Noise:
    """The randomness of one step.

    Args:
        dynamics: the kernel.
        position: (n, d) or (n, d, k), for its shape and dtype.

    Returns:
        What the proposal takes, normals or uniforms in (0, 1), and (n,) uniforms in [0, 1) for acceptance.
    """
    shape = (position.shape[0], *dynamics.noise_shape(tuple(position.shape[1:])))
    main = position.new_empty(shape)
    main = torch.randn_like(main) if dynamics.gaussian else torch.rand_like(main)
    return main, torch.rand_like(position.new_empty(shape[:1]))


def uniform(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniforms in [0, 1).

    Args:
        like: a tensor, for its dtype and device.
        shape: of what is drawn.

    Returns:
        Numbers of this shape.
    """
    return torch.rand(shape, dtype=like.dtype, device=like.device)
