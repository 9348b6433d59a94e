"""Objectives of score matching for NumPyro's SVI and for `fit`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import distributions as dist
from numpyro.infer import elbo

from deepgen.inference.score_matching import losses
from deepgen.inference.svi.numpyro.traces import draw_traces, next_state

__all__ = ["DenoisingScoreMatching", "ExactScoreMatching", "SlicedScoreMatching", "score_of"]


def score_of(law: Any, value: Any) -> jax.Array:
    r"""The score of a law, :math:`\nabla_x \log p(x)`.

    Args:
        law: what has ``score``, or a distribution whose ``log_prob`` can be differentiated and need not be normalised,
            such as an energy's -E(x).
        value: (*batch, *event).

    Returns:
        Of the value's shape.
    """
    if isinstance(law, losses.HasScore):
        return law.score(value)
    return jax.grad(lambda x: jnp.sum(law.log_prob(x)))(value)


class _ScoreMatching(elbo.ELBO, ABC):
    """A loss of each row of each observed site, scaled and masked as the site is, and added up."""

    def loss_with_mutable_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss and the new values of the mutable sites; see ``numpyro.infer.elbo.ELBO``."""
        trace_key, noise_key = jax.random.split(rng_key)
        trace, _, mutable = draw_traces(trace_key, param_map, model, guide, args, kwargs)
        sites = losses.observed_sites({name: site for name, site in trace.items() if site["type"] == "sample"})
        total = jnp.zeros(())
        for number, (name, site) in enumerate(sites.items()):
            law, mask = site["fn"], None
            losses.check_real(bool(law.support.is_discrete), name)
            while isinstance(law, dist.ExpandedDistribution | dist.MaskedDistribution):
                mask = law._mask if isinstance(law, dist.MaskedDistribution) else mask
                law = law.base_dist
            rows = self.rows(jax.random.fold_in(noise_key, number), law, site["value"], name)
            rows = rows if mask is None else jnp.where(mask, rows, 0.0)
            total = total + jnp.sum(rows if site["scale"] is None else site["scale"] * rows)
        return {"loss": total, "mutable_state": next_state(mutable, param_map)}

    @abstractmethod
    def rows(self, rng_key: jax.Array, law: Any, value: jax.Array, site: str) -> jax.Array:
        """The loss of each row of a site.

        Args:
            rng_key: the key.
            law: of the site.
            value: (*batch, *event).
            site: its name.

        Returns:
            (*batch,).
        """

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class ExactScoreMatching(_ScoreMatching):
    r"""Hyvärinen's objective: the Fisher divergence to the data up to a constant.

    .. math:: \mathbb E_x \left[\mathrm{tr}\, \nabla_x s(x) + \tfrac12 \lVert s(x) \rVert^2\right],
        \quad s = \nabla_x \log p

    The trace takes one product with the transposed Jacobian for each entry of a datum: for few entries. The law of an
    observed site need not be normalised, and a model has no latents.

    Raises:
        ValueError: a model with latents, or a site of whole numbers, once it is called.

    References:
        Hyvärinen 2005, "Estimation of non-normalized statistical models by score matching".
    """

    def __init__(self) -> None:
        super().__init__(num_particles=1)

    def __repr__(self) -> str:
        return "ExactScoreMatching()"

    def rows(self, rng_key: jax.Array, law: Any, value: jax.Array, site: str) -> jax.Array:
        """See `losses.exact`."""
        lead = value.shape[: value.ndim - law.event_dim]
        score, pull = jax.vjp(lambda x: _flat(score_of(law, x.reshape(value.shape)), lead), _flat(value, lead))
        basis = jnp.eye(score.shape[-1], dtype=score.dtype)
        columns = jax.vmap(lambda e: pull(jnp.broadcast_to(e, score.shape))[0])(basis)
        return losses.exact(score, jnp.einsum("i...i->...", columns))


class SlicedScoreMatching(_ScoreMatching):
    r"""The exact objective along random directions: as cheap as one gradient more, whatever the dimension.

    .. math:: \mathbb E_{x, v} \left[v^\top \nabla_x s(x)\, v + \tfrac12 \lVert s(x) \rVert^2\right],
        \quad v \sim \mathcal N(0, I)

    Args:
        num_projections: directions for each row, averaged.
        variance_reduced: whether the second term is taken in expectation over v, as above, instead of
            :math:`\tfrac12 (v^\top s(x))^2`.

    Raises:
        ValueError: ``num_projections`` below 1; a model with latents, or a site of whole numbers, once it is called.
        TypeError: ``num_projections`` is no integer.

    References:
        Song, Garg, Shi & Ermon 2019, "Sliced score matching: a scalable approach to density and score estimation".
    """

    def __init__(self, *, num_projections: int = 1, variance_reduced: bool = True) -> None:
        losses.check_projections(num_projections)
        self.num_projections, self.variance_reduced = num_projections, bool(variance_reduced)
        super().__init__(num_particles=1)

    def __repr__(self) -> str:
        return (
            f"SlicedScoreMatching(num_projections={self.num_projections}, variance_reduced={self.variance_reduced!r})"
        )

    def rows(self, rng_key: jax.Array, law: Any, value: jax.Array, site: str) -> jax.Array:
        """See `losses.sliced`."""
        lead = value.shape[: value.ndim - law.event_dim]
        score, pull = jax.vjp(lambda x: _flat(score_of(law, x.reshape(value.shape)), lead), _flat(value, lead))
        directions = jax.random.normal(rng_key, (self.num_projections, *score.shape), score.dtype)

        def along(v: jax.Array) -> jax.Array:
            curvature = jnp.sum(pull(v)[0] * v, axis=-1)
            return losses.sliced(score, v, curvature, variance_reduced=self.variance_reduced)

        return jnp.mean(jax.vmap(along)(directions), axis=0)


class DenoisingScoreMatching(_ScoreMatching):
    r"""The score of noised data, learned by predicting the noise.

    .. math:: \mathbb E_{x, \epsilon}\, \tfrac12 \lVert \sigma\, s(x + \sigma \epsilon) + \epsilon \rVert^2

    Its minimiser is the score of the data's law convolved with N(0, σ² I). Without ``sigma`` it is taken over the
    levels that the site's own law declares (`ScoreBased`: a ladder, or continuous time), weighted by σ², one random
    level for each row, spread evenly over a minibatch.

    Args:
        sigma: the standard deviation of the noise, in the data's units; None for the levels of the site's law.

    Raises:
        ValueError: a ``sigma`` that is not positive; a model with latents, a site of whole numbers or a law without
            levels, once it is called.

    References:
        Vincent 2011, "A connection between score matching and denoising autoencoders"; Song & Ermon 2019, "Generative
        modeling by estimating gradients of the data distribution"; Song et al. 2021, "Score-based generative modeling
        through stochastic differential equations".
    """

    def __init__(self, *, sigma: float | None = None) -> None:
        losses.check_sigma(sigma)
        self.sigma = sigma
        super().__init__(num_particles=1)

    def __repr__(self) -> str:
        return f"DenoisingScoreMatching(sigma={self.sigma!r})"

    def rows(self, rng_key: jax.Array, law: Any, value: jax.Array, site: str) -> jax.Array:
        """See `losses.denoising`."""
        noise_key, level_key, drop_key = jax.random.split(rng_key, 3)
        lead = value.shape[: value.ndim - law.event_dim]
        noise = jax.random.normal(noise_key, value.shape, value.dtype)
        if self.sigma is not None:
            residual = self.sigma * score_of(law, value + self.sigma * noise) + noise
        else:
            law = losses.denoises(law, site)
            size = math.prod(lead)
            level = losses.stratified(jax.random.uniform(level_key), size, value).reshape(lead)
            residual = law.residual(value, noise, level, jax.random.uniform(drop_key, lead))
        return losses.denoising(_flat(residual, lead))


def _flat(x: jax.Array, lead: tuple[int, ...]) -> jax.Array:
    return x.reshape(*lead, -1)
