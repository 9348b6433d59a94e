"""Noise-contrastive estimation in Pyro."""

from collections.abc import Callable
from typing import Any

import torch
from pyro import infer

from deepgen import checks
from deepgen.inference.contrastive import contrast
from deepgen.inference.contrastive.pyro.sites import observed
from deepgen.inference.svi.pyro.traces import draw_traces


class NoiseContrastive(infer.ELBO):
    r"""Noise-contrastive estimation: the energy learns to tell data from draws of the base.

    .. math:: \sum_i \mathrm{softplus}(\log \nu - r(x_i)) + \sum_j \mathrm{softplus}(r(x^-_j) - \log \nu), \qquad
        r(x) = -E(x), \quad x^-_j \sim \mathrm{base}

    It runs no chains, and at its minimum the law is normalised, log Z = 0, where the energy has a constant to learn, as
    the output's bias of a network is. It needs a base that the data overlap with. Usable in a plain ``SVI``.

    Args:
        ratio: nu, draws of the base for each datum.

    Raises:
        ValueError: a ``ratio`` below 1.

    References:
        Gutmann and Hyvärinen 2010, "Noise-contrastive estimation: a new estimation principle for unnormalized
        statistical models".
    """

    def __init__(self, ratio: int = 1) -> None:
        checks.at_least("ratio", ratio, 1)
        self.ratio = int(ratio)
        super().__init__()

    def __repr__(self) -> str:
        return f"NoiseContrastive({self.ratio})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def loss(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
        """The loss, as a number; its gradient is added to the parameters'."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach())

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """The loss, as a tensor to be differentiated."""
        found = observed(model, args, kwargs)
        law = found.law
        with torch.no_grad():
            noise = law.base.sample((self.ratio * len(found.x),)).to(found.x)
        loss = contrast.noise_contrast(-law.energy(found.x), -law.energy(noise), self.ratio)
        return found.scale * loss + found.others

    def _get_trace(
        self, model: Callable[..., Any], guide: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return draw_traces(model, guide, args, kwargs)
