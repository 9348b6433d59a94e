"""The variational autoencoder with several stochastic levels in Pyro."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import torch

from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.vae import activity, hierarchy
from deepgen.models.vae.hierarchy import Level
from deepgen.models.vae.pyro import level_constructors, parts, posteriors, priors
from deepgen.nn import torch as nn
from deepgen.program import LikelihoodKind, files
from deepgen.program.pyro import declare, tensor


class HierarchicalVAE(torch.nn.Module):
    r"""A VAE whose latents form a chain of L levels, with a guide that goes the model's way, from the top down.

    .. math:: z_L \sim p(z_L), \quad z_l \mid z_{l+1} \sim N(\mu_l, \mathrm{diag}\, \sigma_l^2), \quad
        x \sim p(x \mid \mathrm{decoder}(z_1))

    with p(z_L) a standard normal, a mixture of normals, a VampPrior or a flow, and mu_l and sigma_l read from
    prior_l(z_{l+1}); the sites are "z1", the one that x depends on, to "zL". The guide is that of a ladder. Without a
    draw, networks go up from x and leave at each level a normal :math:`N(m_l, V_l)`, V diagonal or full; then, from the
    top down,

    .. math:: q(z_L \mid x) = N(m_L, V_L), \quad
        q(z_l \mid z_{l+1}, x) \propto p(z_l \mid z_{l+1})\, N(z_l;\, m_l(x), V_l(x))

    In the model :math:`p(z_l \mid z_{l+1}, x) \propto p(z_l \mid z_{l+1})\, p(x \mid z_l)`, whose second factor knows
    nothing of the levels above: this is Bayes' rule with the likelihood taken for a normal, exact where it is one. A
    network of z_{l+1} and x would have to learn the prior a second time; here, where x is missing or says nothing,
    a large V_l leaves the prior, and a level is used as far as x has to say something that the level above does not.
    The price is that no q is wider than its prior, and that training it moves the prior's networks too. With one level
    it is the `VAE` with the same prior and posterior. A posterior that is no normal, such as a flow's, is refused: it
    has no product with a prior. Where x is missing the encoder is shown the data's mean.

    Sonderby, Raiko, Maaloe, Sonderby & Winther 2016, Ladder Variational Autoencoders; Burda, Grosse & Salakhutdinov
    2016, Importance weighted autoencoders, for two levels.

    Args:
        encoder: a network for each level, from the data up: (..., *input_shape), then the features of the one before,
            to as many numbers as the posterior wants, 2 d_l if diagonal, and behind them, below the top, as many
            features as it likes.
        prior: a network for each level but the top, from the data up: (..., d_{l+1}) to 2 d_l numbers.
        decoder: (..., d_1) to as many numbers as the observation law wants, in any shape.
        observation: the law of a datum, from ``deepgen.likelihoods``.
        latent_dims: d_1, ..., d_L, how many latents each level has, from the data up.
        input_shape: the shape in which the encoder takes a datum's features; None for the law's ``feature_shape``.
        posterior: what the encoder's numbers mean at each level, `posteriors.Diagonal` or `posteriors.Full`; None for
            the first of them.
        top: the prior of the top level's latents, from `priors`, or a flow; None for `priors.Standard`.
        data: (n, *event_shape), from which the mean of the features is taken; None for zeros.

    Raises:
        ValueError: ``latent_dims`` that are no positive integers, another number of networks, a posterior that is no
            normal, or data that do not fit the law.
    """

    family: ClassVar[str] = "vae"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ("mcmc", "sir", "gibbs", "pseudo-gibbs", "adaptive-gibbs", "lair", "auto")

    fill: torch.Tensor

    def __init__(
        self,
        encoder: Iterable[Any],
        prior: Iterable[Any],
        decoder: Any,
        observation: Any,
        latent_dims: Sequence[int],
        *,
        input_shape: Sequence[int] | None = None,
        posterior: Any | None = None,
        top: Any | None = None,
        data: Any | None = None,
    ):
        super().__init__()
        self.latent_dims = hierarchy.check_latent_dims(latent_dims)
        self.encoder, self.prior = torch.nn.ModuleList(encoder), torch.nn.ModuleList(prior)
        hierarchy.check_networks(self.encoder, self.prior, self.latent_dims)
        self.decoder, self.observation = decoder, observation
        self.posterior = posteriors.Diagonal() if posterior is None else posterior
        hierarchy.check_posterior(self.posterior)
        self.top = priors.chosen(top, self.latent_dims[-1])
        self.input_shape = tuple(input_shape or observation.feature_shape)
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.get_default_dtype()))

    mlp = classmethod(level_constructors.mlp)
    conv = classmethod(level_constructors.conv)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.observation.event_shape

    @property
    def sites(self) -> tuple[str, ...]:
        """The latents' sites, from the data up."""
        return tuple(hierarchy.site(level + 1) for level in range(len(self.latent_dims)))

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(z_L, ..., z_1, x), from the top down, in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        decoder, prior = declare("decoder", self.decoder), declare("prior", self.prior)
        observation = declare("observation", self.observation)
        rows = size if x is None else len(x)
        top = self._top(rows)
        with pyro.plate("data", rows):
            z = self._draw(prior, top)
            return pyro.sample("x", observation(parts.outputs(observation, decoder, z)), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(z_L, ..., z_1 | x), from the top down, in the plate ``"data"``; without x, the prior of ``size`` rows.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            size: the number of rows where x is None.

        Returns:
            z_1.
        """
        encoder, prior = declare("encoder", self.encoder), declare("prior", self.prior)
        rows = size if x is None else len(x)
        evidence = None if x is None else self._evidence(encoder, x)
        top = self._top(rows) if evidence is None else self.posterior.law(evidence[-1])
        with pyro.plate("data", rows):
            return self._draw(prior, top, evidence)

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
        """A warning for each level at which the posterior of ``x`` has collapsed into its prior, else nothing."""
        if len(x) < 2:
            return []
        return activity.diagnose(activity.of_levels(parts.levels(self, tensor(self, self.check_data(x, missing=True)))))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": "hierarchical",
            "latent_dims": list(self.latent_dims),
            "input_shape": list(self.input_shape),
            "posterior": self.posterior.spec(),
            "top": self.top.spec(),
            "observation": self.observation.spec(),
            "encoder": [files.describe(network, nn.NETWORKS) for network in self.encoder],
            "prior": [files.describe(network, nn.NETWORKS) for network in self.prior],
            "decoder": files.describe(self.decoder, nn.NETWORKS),
        }

    def levels(self, x: torch.Tensor) -> tuple[Level, ...]:
        """The posterior of every level, the levels above it at the means of theirs.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            The levels, from the data up.
        """
        return hierarchy.levels(self.prior, self.latent_dims, self._evidence(self.encoder, x))

    def descend(self, z: torch.Tensor, level: int) -> torch.Tensor:
        """z_1 under the latents of a level, each level on the way at the mean of its prior.

        Args:
            z: (..., d_level).
            level: which, from 1.

        Returns:
            (..., d_1).
        """
        return hierarchy.descend(self.prior, self.latent_dims, z, level)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """E[x | z_1] (the most probable class of a categorical law).

        Args:
            z: (..., d_1).

        Returns:
            (..., *event_shape).
        """
        return self.observation.mean(parts.outputs(self.observation, self.decoder, z))

    def _evidence(self, encoder: Any, x: Any) -> Any:
        return self._read(encoder, parts.features(self.observation, self.fill, x)[0])

    def _read(self, encoder: Any, features: torch.Tensor) -> Any:
        shown = features.reshape(len(features), *self.input_shape)
        return hierarchy.evidence(encoder, shown, self.latent_dims, self.posterior)

    def _top(self, rows: int) -> Any:
        def posterior(features: torch.Tensor) -> Any:
            return self.posterior.law(self._read(declare("encoder", self.encoder), features)[-1])

        return declare("top", self.top)(posterior, self.fill.new_zeros(rows, self.latent_dims[-1]))

    def _draw(self, prior: Any, top: Any, evidence: Any = None) -> torch.Tensor:
        reading = posteriors.Diagonal() if evidence is None else self.posterior
        levels = len(self.latent_dims)
        z = pyro.sample(hierarchy.site(levels), top)
        for level in range(levels - 1, 0, -1):
            law = hierarchy.law(prior, self.latent_dims, level, z, evidence)
            z = pyro.sample(hierarchy.site(level), reading.law(law))
        return z


def build(config: Mapping[str, Any]) -> HierarchicalVAE:
    """A program of the described shape, with initial weights.

    Args:
        config: what `HierarchicalVAE.spec` gave.

    Returns:
        The program.
    """
    chosen = {}
    if "posterior" in config:
        chosen["posterior"] = posteriors.build(config["posterior"])
    if "top" in config:
        chosen["top"] = priors.build(config["top"])
    return HierarchicalVAE(
        [nn.build(spec) for spec in config["encoder"]],
        [nn.build(spec) for spec in config["prior"]],
        nn.build(config["decoder"]),
        likelihoods.build(config["observation"]),
        config["latent_dims"],
        input_shape=config["input_shape"],
        **chosen,
    )
