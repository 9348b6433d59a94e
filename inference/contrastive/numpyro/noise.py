"""Noise-contrastive estimation in NumPyro."""

from collections.abc import Callable
from typing import Any

import jax
from numpyro.infer import elbo

from deepgen import checks
from deepgen.inference.contrastive import contrast
from deepgen.inference.contrastive.numpyro.sites import observed


class NoiseContrastive(elbo.ELBO):
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

    def loss_with_mutable_state(
        self,
        rng_key: jax.Array,
        param_map: dict[str, Any],
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The loss; see ``numpyro.infer.elbo.ELBO``."""
        found = observed(param_map, model, args, kwargs)
        law = found.law
        noise = law.base.sample(rng_key, (self.ratio * len(found.x),)).astype(found.x.dtype)
        loss = contrast.noise_contrast(-law.energy(found.x), -law.energy(noise), self.ratio)
        return {"loss": found.scale * loss + found.others, "mutable_state": None}
