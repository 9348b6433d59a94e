"""What can be asked of a VAE in Pyro: reconstructions, paths between data, and which latents are in use."""

from typing import Any

import torch

from deepgen import checks
from deepgen.models.vae import activity, interpolation
from deepgen.models.vae.pyro.program import VAE, encode
from deepgen.program.pyro import tensor


def reconstruct(program: VAE, x: Any) -> torch.Tensor:
    """E[x' | z] at one draw z ~ q(z | x) of each row.

    Args:
        program: the VAE.
        x: (n, *event_shape); missing entries allowed.

    Returns:
        (n, *event_shape).

    Raises:
        ValueError: data that the program does not take.
    """
    with torch.no_grad():
        return program.decode(program.posterior_of(tensor(program, program.check_data(x, missing=True))).rsample())


def interpolate(program: VAE, start: Any, end: Any, num_points: int = 8, *, kind: str = "spherical") -> torch.Tensor:
    """E[x | z] along a path between the posterior means of two (batches of) data.

    Args:
        program: the VAE.
        start: (n, *event_shape).
        end: (n, *event_shape).
        num_points: how many points, both ends counted.
        kind: ``"spherical"`` (White 2016) or ``"linear"``.

    Returns:
        (num_points, n, *event_shape).

    Raises:
        ValueError: fewer than two points, an unknown kind, or data that the program does not take.
    """
    checks.at_least("num_points", num_points, 2)
    checks.one_of("kind", kind, interpolation.KINDS)
    a, b = (tensor(program, program.check_data(x, missing=True)) for x in (start, end))
    checks.equal_shapes("start and end", tuple(a.shape), tuple(b.shape))
    weights = torch.linspace(0.0, 1.0, num_points, dtype=program.fill.dtype, device=program.fill.device)
    with torch.no_grad():
        return program.decode(interpolation.interpolate(program.encode(a)[0], program.encode(b)[0], weights, kind))


def active_units(program: VAE, x: Any, *, threshold: float = 0.01) -> activity.ActiveUnits:
    """Which latents the posterior of ``x`` uses (Burda, Grosse & Salakhutdinov 2016).

    Args:
        program: the VAE.
        x: (n, *event_shape), two rows or more.
        threshold: the variance of a posterior mean above which a latent is active.

    Returns:
        The activity of every latent.

    Raises:
        ValueError: data that the program does not take.
    """
    loc, scale = encode(program, tensor(program, program.check_data(x, missing=True)))
    return activity.active_units(loc.cpu().numpy(), scale.cpu().numpy(), threshold)
