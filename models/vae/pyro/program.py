"""The variational autoencoder in Pyro."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import torch

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.vae import activity
from deepgen.models.vae.hierarchy import Level
from deepgen.models.vae.pyro import constructors, parts, posteriors, priors
from deepgen.nn import torch as nn
from deepgen.program import LikelihoodKind, files
from deepgen.program.pyro import declare, tensor


class VAE(torch.nn.Module):
    r"""Latents, a network, an observation law, and an amortised normal posterior.

    .. math:: z \sim p(z), \quad x \sim p(x \mid \mathrm{decoder}(z)), \quad q(z \mid x) = N(m(x), V(x))

    with p(z) a standard normal, a mixture of normals, a VampPrior or a flow, and m and V read from encoder(x): V
    diagonal, full, or that of a linear-Gaussian program stretched; or diagonal, with a flow after it. Where x is
    missing the encoder is shown the data's mean.

    Kingma & Welling 2014, Auto-Encoding Variational Bayes; Rezende, Mohamed & Wierstra 2014.

    Args:
        encoder: (..., *input_shape) to as many numbers as the posterior wants, (..., 2 * latent_dim) if diagonal.
        decoder: (..., latent_dim) to as many numbers as the observation law wants, in any shape.
        observation: the law of a datum, from ``deepgen.likelihoods``.
        latent_dim: how many latents.
        input_shape: the shape in which the encoder takes a datum's features; None for the law's ``feature_shape``.
        posterior: what the encoder's numbers mean, from `posteriors`, or a flow, which carries a diagonal normal
            on; None for `posteriors.Diagonal`.
        prior: of the latents, from `priors`, or a flow; None for `priors.Standard`.
        sees_mask: whether the encoder is also shown which features are observed, behind them, as ones and zeros.
        data: (n, *event_shape), from which the mean of the features is taken; None for zeros.

    Raises:
        ValueError: a ``latent_dim`` that is not positive, or data that do not fit the law.
    """

    family: ClassVar[str] = "vae"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ("mcmc", "sir", "gibbs", "pseudo-gibbs", "adaptive-gibbs", "lair", "auto")
    sites: ClassVar[tuple[str, ...]] = ("z",)

    fill: torch.Tensor

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        observation: Any,
        latent_dim: int,
        *,
        input_shape: Sequence[int] | None = None,
        posterior: Any | None = None,
        prior: Any | None = None,
        sees_mask: bool = False,
        data: Any | None = None,
    ):
        super().__init__()
        checks.positive("latent_dim", latent_dim)
        self.encoder, self.decoder, self.observation, self.latent_dim = encoder, decoder, observation, latent_dim
        self.posterior = posteriors.chosen(posterior, latent_dim)
        self.prior = priors.chosen(prior, latent_dim)
        self.input_shape, self.sees_mask = tuple(input_shape or observation.feature_shape), sees_mask
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.get_default_dtype()))

    mlp = classmethod(constructors.mlp)
    conv = classmethod(constructors.conv)
    table = classmethod(constructors.table)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.observation.event_shape

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(z, x): z ~ prior, x ~ observation(decoder(z)), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        decoder = declare("decoder", self.decoder)
        observation = declare("observation", self.observation)
        rows = size if x is None else len(x)
        prior = self._prior(rows)
        with pyro.plate("data", rows):
            z = pyro.sample("z", prior)
            return pyro.sample("x", observation(parts.outputs(observation, decoder, z)), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(z | x), in the plate ``"data"``; without x, the prior of ``size`` rows.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            size: the number of rows where x is None.

        Returns:
            z.
        """
        given = declare("encoder", self.encoder), declare("posterior", self.posterior)
        rows = size if x is None else len(x)
        posterior = self._prior(rows) if x is None else self._posterior(*given, x)
        with pyro.plate("data", rows):
            return pyro.sample("z", posterior)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) numbers.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN (a negative integer) says what is missing.

        Returns:
            x as a NumPy array of the law's kind.

        Raises:
            ValueError: wrong dtype, shape or support, empty, not finite, missing where it may not be, or a row of which
                nothing is observed.
        """
        return laws.check_data(self.observation, x, missing=missing, observed=observed)

    def diagnose(self, x: Any) -> list[Warning]:
        """A warning where the posterior of ``x`` has collapsed, else nothing."""
        if len(x) < 2:
            return []
        return activity.diagnose(activity.of_levels(parts.levels(self, tensor(self, self.check_data(x, missing=True)))))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "latent_dim": self.latent_dim,
            "input_shape": list(self.input_shape),
            "observation": self.observation.spec(),
            "encoder": files.describe(self.encoder, nn.NETWORKS),
            "decoder": files.describe(self.decoder, nn.NETWORKS),
            "posterior": self.posterior.spec(),
            "prior": self.prior.spec(),
            "sees_mask": self.sees_mask,
        }

    def posterior_of(self, x: torch.Tensor) -> Any:
        """q(z | x).

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            The distribution, of batch shape (n,) and event shape (latent_dim,).
        """
        return self._posterior(self.encoder, self.posterior, x)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The posterior's means and standard deviations.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            Two tensors (n, latent_dim).
        """
        posterior = self.posterior_of(x)
        return posterior.mean, torch.sqrt(posterior.variance)

    def levels(self, x: torch.Tensor) -> tuple[Level, ...]:
        """The posterior of its one level, beside a standard normal.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            The level.
        """
        loc, scale = self.encode(x)
        return (Level(loc, scale, loc, scale),)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """E[x | z] (the most probable class of a categorical law, of coupled channels about the mean).

        Args:
            z: (..., latent_dim).

        Returns:
            (..., *event_shape).
        """
        return self.observation.mean(parts.outputs(self.observation, self.decoder, z))

    def _posterior(self, encoder: Any, posterior: Any, x: torch.Tensor) -> Any:
        features, observed = parts.features(self.observation, self.fill, x)
        return self._given(encoder, posterior, features.reshape(len(x), -1), observed.reshape(len(x), -1))

    def _given(self, encoder: Any, posterior: Any, features: torch.Tensor, observed: torch.Tensor) -> Any:
        shown = torch.cat([features, observed.to(features.dtype)], dim=-1) if self.sees_mask else features
        return posterior(encoder(shown.reshape(len(shown), *self.input_shape)), features, observed)

    def _prior(self, rows: int) -> Any:
        def posterior(features: torch.Tensor) -> Any:
            given = declare("encoder", self.encoder), declare("posterior", self.posterior)
            return self._given(*given, features, torch.ones_like(features, dtype=torch.bool))

        return declare("prior", self.prior)(posterior, self.fill.new_zeros(rows, self.latent_dim))


def build(config: Mapping[str, Any]) -> VAE:
    """A program of the described shape, with initial weights.

    Args:
        config: what `VAE.spec` gave.

    Returns:
        The program.
    """
    chosen = {name: config[name] for name in ("sees_mask",) if name in config}
    if "posterior" in config:
        chosen["posterior"] = posteriors.build(config["posterior"])
    if "prior" in config:
        chosen["prior"] = priors.build(config["prior"])
    return VAE(
        nn.build(config["encoder"]),
        nn.build(config["decoder"]),
        likelihoods.build(config["observation"]),
        config["latent_dim"],
        input_shape=config["input_shape"],
        **chosen,
    )
