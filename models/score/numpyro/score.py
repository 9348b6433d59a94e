"""A network's scores in NumPyro, in the coordinates of the diffusion and in those of data plus noise."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from deepgen.models.score import recipe, sdes

__all__ = ["Score", "told"]


class Score(eqx.Module):
    r"""The scores of noised data, given what the network is told.

    Args:
        network: (x, ρ, context) to ρ s.
        sde: the diffusion.
        context: (n, context_dim + 1), or None.
        guidance: w of :math:`(1 + w) s(x \mid \mathrm{context}) - w s(x)` (Ho & Salimans 2022).
    """

    network: Any
    sde: sdes.Diffusion = eqx.field(static=True)
    context: Any = None
    guidance: float = eqx.field(static=True, default=0.0)

    def relative(self, x: Float[Any, "n ..."], rho: Float[Any, " n"]) -> Float[Array, "n ..."]:
        """ρ s of data plus noise of standard deviations ρ."""
        context = self.context
        if not self.guidance:
            return self._told(x, rho, context)
        both = jnp.concatenate([context, jnp.zeros_like(context)])
        found = self._told(jnp.concatenate([x, x]), jnp.concatenate([rho, rho]), both)
        given, free = found[: len(x)], found[len(x) :]
        return (1 + self.guidance) * given - self.guidance * free

    def density(self, x: Float[Any, "n ..."], rho: Float[Any, " n"]) -> Float[Array, " n"]:
        """The network's own log density of data plus noise of standard deviations ρ, up to a constant."""
        context = self.context
        if not self.guidance:
            return self.network.log_density(x, rho, context)
        given, free = (self.network.log_density(x, rho, told) for told in (context, jnp.zeros_like(context)))
        return (1 + self.guidance) * given - self.guidance * free

    def at(self, x: Float[Any, "n ..."], t: Float[Any, " n"]) -> Float[Array, "n ..."]:
        """σ s of the diffusion at times t."""
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        return self.relative(x / sdes.rows(alpha, x), sigma / alpha)

    def flow(self, clock: Any, x: Float[Any, "n ..."]) -> Float[Array, "n ..."]:
        """The velocity of the probability flow by the clock t^(1/p), on which its solver's steps are even."""
        clock = jnp.asarray(clock, x.dtype)
        t = clock**self.sde.power
        scaled = self.at(x, jnp.broadcast_to(t, (len(x),)))
        return self.sde.power * clock ** (self.sde.power - 1) * sdes.flow(self.sde, x, t, scaled)

    def flat(self, event_shape: tuple[int, ...], *, relative: bool) -> Any:
        """`relative` or `at` as a function of (x (n, d), level ()), for the samplers."""
        score = self.relative if relative else self.at

        def scaled(x: jax.Array, level: jax.Array) -> jax.Array:
            rows = jnp.broadcast_to(level, (len(x),))
            return score(x.reshape(len(x), *event_shape), rows).reshape(x.shape)

        return scaled

    def _told(self, x: Any, rho: Any, context: Any) -> Array:
        found = self.network(x, rho) if context is None else self.network(x, rho, context)
        recipe.check_score(tuple(found.shape), tuple(x.shape))
        return found


def told(context: Any, context_dim: int, lead: tuple[int, ...], shown: Any = None) -> Any:
    """What the network is told: the context where it is shown, and whether it is.

    Args:
        context: (n, context_dim), or None where it is unknown.
        context_dim: its size; 0 where there is no such thing.
        lead: the leading axes of the values, the last of which are the context's rows.
        shown: booleans of all rows; None for all.

    Returns:
        (rows, context_dim + 1), or None.
    """
    rows = math.prod(lead)
    if not context_dim:
        return None
    if context is None:
        return jnp.zeros((rows, context_dim + 1))
    context = jnp.asarray(context)
    full = jnp.broadcast_to(context, (*lead[:-1], *context.shape)).reshape(rows, context_dim)
    seen = jnp.ones(rows, full.dtype) if shown is None else shown.astype(full.dtype)
    return jnp.concatenate([full * seen[:, None], seen[:, None]], axis=1)
