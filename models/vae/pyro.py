"""The variational autoencoder in Pyro."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.vae import activity, interpolation
from deepgen.nn import torch as nn
from deepgen.nn.bounded import bounded
from deepgen.program import LikelihoodKind, files
from deepgen.program.pyro import tensor


class VAE(torch.nn.Module):
    r"""A latent normal, a network, an observation law, and an amortised normal posterior.

    .. math:: z \sim N(0, I), \quad x \sim p(x \mid \mathrm{decoder}(z)), \quad
        q(z \mid x) = N(m(x), \mathrm{diag}\, s(x)^2)

    with (m, log s) = encoder(x), log s bounded to (-7, 3). Where x is missing the encoder is shown the data's mean.

    Kingma & Welling 2014, Auto-Encoding Variational Bayes; Rezende, Mohamed & Wierstra 2014.

    Args:
        encoder: (..., *input_shape) to (..., 2 * latent_dim).
        decoder: (..., latent_dim) to as many numbers as the observation law wants, in any shape.
        observation: the law of a datum, from ``deepgen.likelihoods``.
        latent_dim: how many latents.
        input_shape: the shape in which the encoder takes a datum's features; None for the law's ``feature_shape``.
        data: (n, *event_shape), from which the mean of the features is taken; None for zeros.

    Raises:
        ValueError: a ``latent_dim`` that is not positive, or data that do not fit the law.
    """

    family: ClassVar[str] = "vae"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ("mcmc", "sir", "gibbs", "pseudo-gibbs", "adaptive-gibbs", "lair", "auto")

    fill: torch.Tensor

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        observation: Any,
        latent_dim: int,
        *,
        input_shape: Sequence[int] | None = None,
        data: Any | None = None,
    ):
        super().__init__()
        checks.positive("latent_dim", latent_dim)
        self.encoder, self.decoder, self.observation, self.latent_dim = encoder, decoder, observation, latent_dim
        self.input_shape = tuple(input_shape or observation.feature_shape)
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.register_buffer("fill", torch.as_tensor(fill, dtype=torch.get_default_dtype()))

    @classmethod
    def mlp(
        cls,
        event_shape: Sequence[int],
        latent_dim: int,
        likelihood: Any = "bernoulli",
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "gelu",
        residual: bool = False,
        layer_norm: bool = False,
        num_classes: int | None = None,
        data: Any | None = None,
    ) -> "VAE":
        """A VAE of two multilayer perceptrons.

        Args:
            event_shape: the shape of one datum.
            latent_dim: how many latents.
            likelihood: an observation law or its name, see `deepgen.likelihoods`.
            hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
            activation: the networks' activation.
            residual: whether hidden layers of equal width add their input.
            layer_norm: whether hidden layers are normalised.
            num_classes: of a categorical law.
            data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.

        Returns:
            The program, untrained.

        Raises:
            ValueError: a ``latent_dim`` that is not positive, an unknown likelihood, or data that do not fit it.
        """
        checks.positive("latent_dim", latent_dim)
        law, data = _law(likelihood, event_shape, num_classes, data)
        size = int(np.prod(law.feature_shape))
        options: dict[str, Any] = {"activation": activation, "residual": residual, "layer_norm": layer_norm}
        encoder = nn.MLP(size, 2 * latent_dim, tuple(hidden), **options)
        outputs = law.num_params * int(np.prod(law.event_shape))
        decoder = nn.MLP(latent_dim, outputs, tuple(reversed(hidden)), **options)
        if data is not None:
            nn.output_bias(decoder, torch.as_tensor(law.start(data).reshape(-1), dtype=torch.get_default_dtype()))
        return cls(encoder, decoder, law, latent_dim, input_shape=(size,), data=data)

    @classmethod
    def conv(
        cls,
        event_shape: Sequence[int],
        latent_dim: int,
        likelihood: Any = "bernoulli",
        *,
        channels: Sequence[int] = (32, 64),
        hidden: Sequence[int] = (),
        kernel_size: int = 3,
        activation: str = "gelu",
        num_classes: int | None = None,
        data: Any | None = None,
    ) -> "VAE":
        """A VAE of images, of two strided convolutional networks.

        Args:
            event_shape: (channels, height, width).
            latent_dim: how many latents.
            likelihood: an observation law or its name, see `deepgen.likelihoods`.
            channels: of the encoder's convolutions, each of which halves the image; the decoder has them in reverse.
            hidden: widths of dense layers between the convolutions and the latents.
            kernel_size: at least 2.
            activation: the networks' activation.
            num_classes: of a categorical law.
            data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.

        Returns:
            The program, untrained.

        Raises:
            ValueError: a ``latent_dim`` that is not positive, an unknown likelihood, an event that is no image, or data
                that do not fit.
        """
        checks.image_shape(event_shape)
        checks.positive("latent_dim", latent_dim)
        law, data = _law(likelihood, event_shape, num_classes, data)
        _, height, width = law.event_shape
        inputs = int(np.prod(law.feature_shape)) // (height * width)
        outputs = law.num_params * law.event_shape[0]
        options: dict[str, Any] = {"kernel_size": kernel_size, "activation": activation}
        encoder = nn.ConvEncoder(
            (inputs, height, width), 2 * latent_dim, tuple(channels), hidden=tuple(hidden), **options
        )
        decoder = nn.ConvDecoder(
            latent_dim,
            (outputs, height, width),
            tuple(reversed(channels)),
            hidden=tuple(reversed(hidden)),
            **options,
        )
        if data is not None:
            nn.output_bias(decoder, torch.as_tensor(law.start(data).reshape(-1), dtype=torch.get_default_dtype()))
        return cls(encoder, decoder, law, latent_dim, input_shape=(inputs, height, width), data=data)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.observation.event_shape

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(z, x): z ~ N(0, I), x ~ observation(decoder(z)), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        decoder = pyro.module("decoder", self.decoder)
        observation = pyro.module("observation", self.observation)
        rows = size if x is None else len(x)
        with pyro.plate("data", rows):
            z = pyro.sample("z", dist.Normal(self.fill.new_zeros(rows, self.latent_dim), 1.0).to_event(1))
            return pyro.sample("x", observation(_outputs(observation, decoder, z)), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(z | x), in the plate ``"data"``; without x, the prior of ``size`` rows.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            size: the number of rows where x is None.

        Returns:
            z.
        """
        encoder = pyro.module("encoder", self.encoder)
        rows = size if x is None else len(x)
        if x is None:
            posterior = dist.Normal(self.fill.new_zeros(rows, self.latent_dim), 1.0)
        else:
            posterior = dist.Normal(*self._encode(encoder, x))
        with pyro.plate("data", rows):
            return pyro.sample("z", posterior.to_event(1))

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
        return activity.diagnose(active_units(self, x)) if len(x) > 1 else []

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "latent_dim": self.latent_dim,
            "input_shape": list(self.input_shape),
            "observation": self.observation.spec(),
            "encoder": files.describe(self.encoder, nn.NETWORKS),
            "decoder": files.describe(self.decoder, nn.NETWORKS),
        }

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The posterior's means and standard deviations.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            Two tensors (n, latent_dim).
        """
        return self._encode(self.encoder, x)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """E[x | z] (the most probable class of a categorical law).

        Args:
            z: (..., latent_dim).

        Returns:
            (..., *event_shape).
        """
        return self.observation.mean(_outputs(self.observation, self.decoder, z))

    def _encode(self, encoder: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        absent = torch.isnan(x) if x.is_floating_point() else x < 0
        lead = self.fill.ndim - len(self.event_shape)
        absent = absent.reshape(len(x), *(1,) * lead, *self.event_shape)
        features = torch.where(absent, self.fill, self.observation.features(x).to(self.fill.dtype))
        loc, raw = encoder(features.reshape(len(x), *self.input_shape)).chunk(2, dim=-1)
        return loc, torch.exp(bounded(raw, -7.0, 3.0))


def build(config: Mapping[str, Any]) -> VAE:
    """A program of the described shape, with initial weights.

    Args:
        config: what `VAE.spec` gave.

    Returns:
        The program.
    """
    return VAE(
        nn.build(config["encoder"]),
        nn.build(config["decoder"]),
        likelihoods.build(config["observation"]),
        config["latent_dim"],
        input_shape=config["input_shape"],
    )


def reconstruct(program: VAE, x: Any) -> torch.Tensor:
    """E[x' | z] at one draw z ~ q(z | x) of each row.

    Args:
        program: the VAE.
        x: (n, *event_shape); missing entries allowed.

    Returns:
        (n, *event_shape).

    Raises:
        ValueError: data that the program does not take.
    """
    with torch.no_grad():
        loc, scale = program.encode(tensor(program, program.check_data(x, missing=True)))
        return program.decode(loc + scale * torch.randn_like(loc))


def interpolate(program: VAE, start: Any, end: Any, num_points: int = 8, *, kind: str = "spherical") -> torch.Tensor:
    """E[x | z] along a path between the posterior means of two (batches of) data.

    Args:
        program: the VAE.
        start: (n, *event_shape).
        end: (n, *event_shape).
        num_points: how many points, both ends counted.
        kind: ``"spherical"`` (White 2016) or ``"linear"``.

    Returns:
        (num_points, n, *event_shape).

    Raises:
        ValueError: fewer than two points, an unknown kind, or data that the program does not take.
    """
    checks.at_least("num_points", num_points, 2)
    checks.one_of("kind", kind, interpolation.KINDS)
    a, b = (tensor(program, program.check_data(x, missing=True)) for x in (start, end))
    checks.equal_shapes("start and end", tuple(a.shape), tuple(b.shape))
    weights = torch.linspace(0.0, 1.0, num_points, dtype=program.fill.dtype, device=program.fill.device)
    with torch.no_grad():
        return program.decode(interpolation.interpolate(program.encode(a)[0], program.encode(b)[0], weights, kind))


def active_units(program: VAE, x: Any, *, threshold: float = 0.01) -> activity.ActiveUnits:
    """Which latents the posterior of ``x`` uses (Burda, Grosse & Salakhutdinov 2016).

    Args:
        program: the VAE.
        x: (n, *event_shape), two rows or more.
        threshold: the variance of a posterior mean above which a latent is active.

    Returns:
        The activity of every latent.

    Raises:
        ValueError: data that the program does not take.
    """
    with torch.no_grad():
        loc, scale = program.encode(tensor(program, program.check_data(x, missing=True)))
    return activity.active_units(loc.cpu().numpy(), scale.cpu().numpy(), threshold)


def _law(likelihood: Any, event_shape: Sequence[int], num_classes: int | None, data: Any) -> tuple[Any, Any]:
    law = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
    return law, None if data is None else laws.check_data(law, data, missing=True)


def _outputs(observation: Any, decoder: Any, z: torch.Tensor) -> torch.Tensor:
    outputs = decoder(z)
    return outputs.reshape(laws.output_shape(observation, tuple(outputs.shape), tuple(z.shape[:-1])))
