"""The latents of each row as one unconstrained vector, in NumPyro."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers


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
