"""The latents of each row as one unconstrained vector, in Pyro."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam

from deepgen.program.pyro import isolated


class Layout:
    """How the latents of a row lie in one vector, and how they are constrained.

    Attributes:
        names: of the sites.
        shapes: of each without constraints, for one row.
        transforms: from there to the site's support.
    """

    def __init__(self, names: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], transforms: tuple[Any, ...]):
        self.names, self.shapes, self.transforms = names, shapes, transforms

    def flatten(self, latents: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The vectors (chains, n, d) of latents by site, (chains, n, ...) each."""
        parts = [t.inv(latents[name]) for name, t in zip(self.names, self.transforms, strict=True)]
        return torch.cat([part.reshape(*part.shape[:2], -1) for part in parts], dim=-1)

    def unflatten(self, vector: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The latents of (chains, n, d), and the log determinant (chains, n) that the change of variables brings."""
        latents, log_det, start = {}, vector.new_zeros(vector.shape[:2]), 0
        for name, shape, transform in zip(self.names, self.shapes, self.transforms, strict=True):
            size = int(np.prod(shape))
            free = vector[..., start : start + size].reshape(*vector.shape[:2], *shape)
            latents[name] = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, latents[name])
            log_det = log_det + jacobian.reshape(*vector.shape[:2], -1).sum(-1)
            start += size
        return latents, log_det


class Noise:
    """A program whose normal latents are drawn as noise of their own, which its model shifts and scales.

    A latent whose law depends on another's then has one scale, wherever the other is. There is no guide but the model's
    own latents.

    Attributes:
        program: what has ``model`` of x.
    """

    def __init__(self, program: Any):
        self.program = program

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model, with a site ``<name>_decentered`` for each normal latent."""
        return poutine.reparam(self.program.model, config=_decentred)(x, size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """The latents of the model."""
        return poutine.block(self.model, hide=["x"])(x, size=size)


def _decentred(site: Any) -> Any:
    law = site["fn"]
    while isinstance(law, torch.distributions.Independent | dist.ExpandedDistribution):
        law = law.base_dist
    done = site["is_observed"] or site["name"] == "x" or site["name"].endswith("_decentered")
    return LocScaleReparam(0.0) if type(law) is dist.Normal and not done else None


def sites(program: Any, x: torch.Tensor) -> list[Any]:
    """The latent sites of a program, as its guide traces them on the first row.

    Args:
        program: what has ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them.

    Returns:
        The sites, in the order of the guide.
    """
    with torch.no_grad(), isolated():
        trace = poutine.trace(program.guide).get_trace(x[:1])
    found = [site for site in trace.nodes.values() if site["type"] == "sample" and not site["is_observed"]]
    return [site for site in found if not poutine.util.site_is_subsample(site)]


def layout(sites: Sequence[Any]) -> Layout:
    """Where each site lies in the vector.

    Args:
        sites: of `sites`, continuous all of them.

    Returns:
        The layout.
    """
    names, shapes, transforms = [], [], []
    for site in sites:
        transform = torch.distributions.biject_to(site["fn"].support)
        names.append(site["name"])
        shapes.append(tuple(transform.inverse_shape(site["value"].shape[1:])))
        transforms.append(transform)
    return Layout(tuple(names), tuple(shapes), tuple(transforms))
