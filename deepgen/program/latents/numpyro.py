"""The latents of each row as one unconstrained vector, in NumPyro."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.infer.reparam import LocScaleReparam


class Layout(eqx.Module):
    """How the latents of a row lie in one vector, and how they are constrained.

    Attributes:
        names: of the sites.
        shapes: of each without constraints, for one row.
        transforms: from there to the site's support.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    transforms: tuple[Any, ...]

    def flatten(self, latents: Mapping[str, jax.Array]) -> jax.Array:
        """The vectors (n, d) of latents by site, (n, ...) each."""
        parts = [t.inv(latents[name]) for name, t in zip(self.names, self.transforms, strict=True)]
        return jnp.concatenate([part.reshape(len(part), -1) for part in parts], axis=-1)

    def unflatten(self, vector: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """The latents of (n, d), and the log determinant (n,) that the change of variables brings."""
        latents, log_det, start = {}, jnp.zeros(len(vector)), 0
        for name, shape, transform in zip(self.names, self.shapes, self.transforms, strict=True):
            size = int(np.prod(shape))
            free = vector[:, start : start + size].reshape(-1, *shape)
            latents[name] = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, latents[name])
            log_det = log_det + jacobian.reshape(len(vector), -1).sum(-1)
            start += size
        return latents, log_det


class Noise(eqx.Module):
    """A program whose normal latents are drawn as noise of their own, which its model shifts and scales.

    A latent whose law depends on another's then has one scale, wherever the other is. There is no guide but the model's
    own latents.

    Attributes:
        program: what has ``model`` of x.
    """

    program: Any

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model, with a site ``<name>_decentered`` for each normal latent."""
        return handlers.reparam(self.program.model, config=_decentred)(x, size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """The latents of the model."""
        return handlers.block(self.model, hide=["x"])(x, size=size)


def _decentred(site: Any) -> Any:
    law = site["fn"]
    while isinstance(law, dist.Independent | dist.ExpandedDistribution):
        law = law.base_dist
    done = site["is_observed"] or site["name"] == "x" or site["name"].endswith("_decentered")
    return LocScaleReparam(0.0) if type(law) is dist.Normal and not done else None


def sites(program: Any, x: jax.Array) -> list[Any]:
    """The latent sites of a program, as its guide traces them on the first row.

    Args:
        program: what has ``guide``.
        x: (n, *event_shape), missing entries as the guide wants them.

    Returns:
        The sites, in the order of the guide.
    """
    trace = handlers.trace(handlers.seed(program.guide, jax.random.key(0))).get_trace(x[:1])
    return [site for site in trace.values() if site["type"] == "sample" and not site["is_observed"]]


def layout(sites: Sequence[Any]) -> Layout:
    """Where each site lies in the vector.

    Args:
        sites: of `sites`, continuous all of them.

    Returns:
        The layout.
    """
    names, shapes, transforms = [], [], []
    for site in sites:
        transform = numpyro.distributions.biject_to(site["fn"].support)
        names.append(site["name"])
        shapes.append(tuple(transform.inverse_shape(site["value"].shape[1:])))
        transforms.append(transform)
    return Layout(tuple(names), tuple(shapes), tuple(transforms))
