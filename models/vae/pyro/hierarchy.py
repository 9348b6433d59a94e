"""The variational autoencoder with several stochastic levels in Pyro."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.vae import activity, hierarchy
from deepgen.models.vae.hierarchy import Level, Normal
from deepgen.models.vae.pyro import parts
from deepgen.nn import torch as nn
from deepgen.nn.arguments import wholes
from deepgen.program import LikelihoodKind, files
from deepgen.program.pyro import declare, tensor


class HierarchicalVAE(torch.nn.Module):
    r"""A VAE whose latents form a chain of L levels, with a guide that goes the model's way, from the top down.

    .. math:: z_L \sim N(0, I), \quad z_l \mid z_{l+1} \sim N(\mu_l, \mathrm{diag}\, \sigma_l^2), \quad
        x \sim p(x \mid \mathrm{decoder}(z_1))

    with mu_l and sigma_l read from prior_l(z_{l+1}); the sites are "z1", the one that x depends on, to "zL". The guide
    is that of a ladder. Without a draw, networks go up from x and leave at each level a normal :math:`N(m_l, s_l^2)`;
    then, from the top down,

    .. math:: q(z_L \mid x) = N(m_L, s_L^2), \quad
        q(z_l \mid z_{l+1}, x) \propto p(z_l \mid z_{l+1})\, N(z_l;\, m_l(x), s_l(x)^2)

    In the model :math:`p(z_l \mid z_{l+1}, x) \propto p(z_l \mid z_{l+1})\, p(x \mid z_l)`, whose second factor knows
    nothing of the levels above: this is Bayes' rule with the likelihood taken for a normal, exact where it is one. A
    network of z_{l+1} and x would have to learn the prior a second time; here, where x is missing or says nothing,
    large s_l leave the prior, and a level is used as far as x has to say something that the level above does not. The
    price is that no q is wider than its prior, and that training it moves the prior's networks too. With one level it
    is the `VAE` with a diagonal posterior. Where x is missing the encoder is shown the data's mean.

    Its top prior is a standard normal. Unlike `VAE` it takes no ``prior=`` or ``posterior=``, and has no ``.conv``.

    Sonderby, Raiko, Maaloe, Sonderby & Winther 2016, Ladder Variational Autoencoders; Burda, Grosse & Salakhutdinov
    2016, Importance weighted autoencoders, for two levels.

    Args:
        encoder: a network for each level, from the data up: (..., *input_shape), then the features of the one before,
            to 2 d_l numbers and behind them, below the top, as many features as it likes.
        prior: a network for each level but the top, from the data up: (..., d_{l+1}) to 2 d_l numbers.
        decoder: (..., d_1) to as many numbers as the observation law wants, in any shape.
        observation: the law of a datum, from ``deepgen.likelihoods``.
        latent_dims: d_1, ..., d_L, how many latents each level has, from the data up.
        input_shape: the shape in which the encoder takes a datum's features; None for the law's ``feature_shape``.
        data: (n, *event_shape), from which the mean of the features is taken; None for zeros.

    Raises:
        ValueError: ``latent_dims`` that are no positive integers, another number of networks, or data that do not fit
            the law.
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
        data: Any | None = None,
    ):
        super().__init__()
        self.latent_dims = hierarchy.check_latent_dims(latent_dims)
        self.encoder, self.prior = torch.nn.ModuleList(encoder), torch.nn.ModuleList(prior)
        hierarchy.check_networks(self.encoder, self.prior, self.latent_dims)
        self.decoder, self.observation = decoder, observation
        self.input_shape = tuple(input_shape or observation.feature_shape)
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.get_default_dtype()))

    @classmethod
    def mlp(
        cls,
        event_shape: Sequence[int],
        latent_dims: Sequence[int],
        likelihood: Any = "bernoulli",
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "gelu",
        residual: bool = False,
        layer_norm: bool = False,
        num_classes: int | None = None,
        data: Any | None = None,
    ) -> "HierarchicalVAE":
        """A VAE of several levels, of multilayer perceptrons.

        Args:
            event_shape: the shape of one datum.
            latent_dims: how many latents each level has, from the data up.
            likelihood: an observation law or its name, see `deepgen.likelihoods`.
            hidden: the widths of the hidden layers of each of the encoder's networks, the last of which is also the
                number of features that it hands up; the other networks have them in reverse.
            activation: the networks' activation.
            residual: whether hidden layers of equal width add their input.
            layer_norm: whether hidden layers are normalised.
            num_classes: of a categorical law.
            data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.

        Returns:
            The program, untrained.

        Raises:
            ValueError: ``latent_dims`` that are no positive integers, an unknown likelihood, or data that do not fit.
        """
        dims = hierarchy.check_latent_dims(latent_dims)
        law = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
        data = None if data is None else laws.check_data(law, data, missing=True)
        options: dict[str, Any] = {"activation": activation, "residual": residual, "layer_norm": layer_norm}
        upwards, downwards = wholes("hidden", hidden), wholes("hidden", hidden)[::-1]
        size = math.prod(law.feature_shape)
        encoder = [nn.MLP(*sizes, upwards, **options) for sizes in hierarchy.encoder_sizes(size, dims, upwards)]
        prior = [nn.MLP(above, 2 * below, downwards, **options) for below, above in pairwise(dims)]
        decoder = nn.MLP(dims[0], law.num_outputs, downwards, **options)
        if data is not None:
            nn.output_bias(decoder, law.start(data).reshape(-1))
        return cls(encoder, prior, decoder, law, dims, input_shape=(size,), data=data)

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
        with pyro.plate("data", rows):
            z = self._draw(prior, rows)
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
        with pyro.plate("data", rows):
            return self._draw(prior, rows, evidence)

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

    def _evidence(self, encoder: Any, x: Any) -> list[Normal]:
        features, _ = parts.features(self.observation, self.fill, x)
        return hierarchy.evidence(encoder, features.reshape(len(features), *self.input_shape), self.latent_dims)

    def _draw(self, prior: Any, rows: int, evidence: Sequence[Normal] | None = None) -> torch.Tensor:
        z = self.fill.new_zeros(rows, self.latent_dims[-1])
        for level in range(len(self.latent_dims), 0, -1):
            law = hierarchy.law(prior, self.latent_dims, level, z, evidence)
            z = pyro.sample(hierarchy.site(level), dist.Normal(*law).to_event(1))
        return z


def build(config: Mapping[str, Any]) -> HierarchicalVAE:
    """A program of the described shape, with initial weights.

    Args:
        config: what `HierarchicalVAE.spec` gave.

    Returns:
        The program.
    """
    return HierarchicalVAE(
        [nn.build(spec) for spec in config["encoder"]],
        [nn.build(spec) for spec in config["prior"]],
        nn.build(config["decoder"]),
        likelihoods.build(config["observation"]),
        config["latent_dims"],
        input_shape=config["input_shape"],
    )
