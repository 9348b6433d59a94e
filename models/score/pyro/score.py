"""A network's scores in Pyro, in the coordinates of the diffusion and in those of data plus noise."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deepgen.models.score import recipe, sdes

__all__ = ["Score", "told"]


class Score(torch.nn.Module):
    r"""The scores of noised data, given what the network is told.

    Args:
        network: (x, ρ, context) to ρ s.
        sde: the diffusion.
        context: (n, context_dim + 1), or None.
        guidance: w of :math:`(1 + w) s(x \mid \mathrm{context}) - w s(x)` (Ho & Salimans 2022).
    """

    def __init__(self, network: Any, sde: sdes.Diffusion, context: Any = None, guidance: float = 0.0) -> None:
        super().__init__()
        self.network, self.sde, self.context, self.guidance = network, sde, context, guidance

    def relative(self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"]) -> Float[Tensor, "n ..."]:
        """ρ s of data plus noise of standard deviations ρ."""
        context = self.context
        if not self.guidance:
            return self._told(x, rho, context)
        both = torch.cat([context, torch.zeros_like(context)])
        found = self._told(torch.cat([x, x]), torch.cat([rho, rho]), both)
        given, free = found[: len(x)], found[len(x) :]
        return (1 + self.guidance) * given - self.guidance * free

    def density(self, x: Float[Tensor, "n ..."], rho: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The network's own log density of data plus noise of standard deviations ρ, up to a constant."""
        context = self.context
        if not self.guidance:
            return self.network.log_density(x, rho, context)
        given, free = (self.network.log_density(x, rho, told) for told in (context, torch.zeros_like(context)))
        return (1 + self.guidance) * given - self.guidance * free

    def at(self, x: Float[Tensor, "n ..."], t: Float[Tensor, " n"]) -> Float[Tensor, "n ..."]:
        """σ s of the diffusion at times t."""
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        return self.relative(x / sdes.rows(alpha, x), sigma / alpha)

    def flow(self, clock: Any, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The velocity of the probability flow by the clock t^(1/p), on which its solver's steps are even."""
        clock = torch.as_tensor(clock, dtype=x.dtype, device=x.device)
        t = clock**self.sde.power
        scaled = self.at(x, t.expand(len(x)))
        return self.sde.power * clock ** (self.sde.power - 1) * sdes.flow(self.sde, x, t, scaled)

    def flat(self, event_shape: tuple[int, ...], *, relative: bool) -> Any:
        """`relative` or `at` as a function of (x (n, d), level ()), for the samplers."""
        score = self.relative if relative else self.at

        def scaled(x: Tensor, level: Tensor) -> Tensor:
            rows = level.expand(len(x))
            return score(x.reshape(len(x), *event_shape), rows).reshape(x.shape)

        return scaled

    def _told(self, x: Any, rho: Any, context: Any) -> Tensor:
        found = self.network(x, rho) if context is None else self.network(x, rho, context)
        recipe.check_score(tuple(found.shape), tuple(x.shape))
        return found


def told(context: Any, context_dim: int, lead: tuple[int, ...], like: Tensor, shown: Any = None) -> Any:
    """What the network is told: the context where it is shown, and whether it is.

    Args:
        context: (n, context_dim), or None where it is unknown.
        context_dim: its size; 0 where there is no such thing.
        lead: the leading axes of the values, the last of which are the context's rows.
        like: a tensor of the dtype and device wanted.
        shown: booleans of all rows; None for all.

    Returns:
        (rows, context_dim + 1), or None.
    """
    rows = math.prod(lead)
    if not context_dim:
        return None
    if context is None:
        return like.new_zeros((rows, context_dim + 1))
    full = context.expand(*lead[:-1], *context.shape).reshape(rows, context_dim)
    seen = full.new_ones(rows) if shown is None else shown.to(full.dtype)
    return torch.cat([full * seen[:, None], seen[:, None]], dim=1)
