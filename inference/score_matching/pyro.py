"""Objectives of score matching for Pyro's SVI and for `fit`."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pyro import infer
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import prune_subsample_sites

from deepgen.inference.score_matching import losses
from deepgen.inference.svi.pyro.traces import draw_traces

__all__ = ["DenoisingScoreMatching", "ExactScoreMatching", "SlicedScoreMatching", "score_of"]


def score_of(law: Any, value: torch.Tensor) -> torch.Tensor:
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
    with torch.enable_grad():
        x = value if value.requires_grad else value.detach().requires_grad_()
        return torch.autograd.grad(law.log_prob(x).sum(), x, create_graph=True)[0]


class _ScoreMatching(infer.ELBO):
    """A loss of each row of each observed site, scaled and masked as the site is, and added up."""

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward(retain_graph=self.retain_graph)
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated."""
        total = torch.zeros(())
        for trace, _ in self._get_traces(model, guide, args, kwargs):
            nodes = {name: site for name, site in trace.nodes.items() if site["type"] == "sample"}
            for name, site in losses.observed_sites(nodes).items():
                losses.check_real(bool(site["fn"].support.is_discrete), name)
                rows = self.rows(site["fn"], site["value"], name)
                total = total + scale_and_mask(rows, site["scale"], site["mask"]).sum()
        return total

    @abstractmethod
    def rows(self, law: Any, value: torch.Tensor, site: str) -> torch.Tensor:
        """The loss of each row of a site.

        Args:
            law: of the site.
            value: (*batch, *event).
            site: its name.

        Returns:
            (*batch,).
        """

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return tuple(prune_subsample_sites(trace) for trace in draw_traces(model, guide, args, kwargs))

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

    @torch.enable_grad()
    def rows(self, law: Any, value: torch.Tensor, site: str) -> torch.Tensor:
        """See `losses.exact`."""
        x, score = _scored(law, value)
        keep: Any = {"create_graph": True, "retain_graph": True}
        trace = torch.zeros_like(score[..., 0])
        for entry in range(score.shape[-1]):
            trace = trace + torch.autograd.grad(score[..., entry].sum(), x, **keep)[0][..., entry]
        return losses.exact(score, trace)


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

    @torch.enable_grad()
    def rows(self, law: Any, value: torch.Tensor, site: str) -> torch.Tensor:
        """See `losses.sliced`."""
        x, score = _scored(law, value)
        directions = torch.randn_like(score.detach().expand(self.num_projections, *score.shape))
        total = torch.zeros_like(score[..., 0])
        for v in directions:
            pulled = torch.autograd.grad((score * v).sum(), x, create_graph=True, retain_graph=True)[0]
            curvature = (pulled * v).sum(-1)
            total = total + losses.sliced(score, v, curvature, variance_reduced=self.variance_reduced)
        return total / self.num_projections


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

    def rows(self, law: Any, value: torch.Tensor, site: str) -> torch.Tensor:
        """See `losses.denoising`."""
        lead = tuple(value.shape[: value.ndim - law.event_dim])
        noise = torch.randn_like(value)
        if self.sigma is not None:
            residual = self.sigma * score_of(law, value + self.sigma * noise) + noise
        else:
            law = losses.denoises(law, site)
            level = losses.stratified(value.new_zeros(()).uniform_(), math.prod(lead), value).reshape(lead)
            residual = law.residual(value, noise, level, value.new_zeros(lead).uniform_())
        return losses.denoising(residual.reshape(*lead, -1))


def _scored(law: Any, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The data, flattened, and their scores as a function of them."""
    lead = value.shape[: value.ndim - law.event_dim]
    x = value.detach().reshape(*lead, -1).requires_grad_()
    return x, score_of(law, x.reshape(value.shape)).reshape(*lead, -1)
