"""The variational autoencoder in NumPyro."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.module import eqx_module

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods import numpyro as likelihoods
from deepgen.models.vae import activity, interpolation
from deepgen.nn import equinox as nn
from deepgen.nn.bounded import bounded
from deepgen.program import LikelihoodKind, files


class VAE(eqx.Module):
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

    encoder: Any
    decoder: Any
    observation: Any
    fill: jax.Array
    latent_dim: int = eqx.field(static=True)
    input_shape: tuple[int, ...] = eqx.field(static=True)

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
        checks.positive("latent_dim", latent_dim)
        self.encoder, self.decoder, self.observation, self.latent_dim = encoder, decoder, observation, latent_dim
        self.input_shape = tuple(input_shape or observation.feature_shape)
        fill = np.zeros(observation.feature_shape) if data is None else observation.feature_mean(data)
        self.fill = jnp.asarray(fill, dtype=jnp.result_type(float))

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
        key: jax.Array,
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
            key: for the initial weights.

        Returns:
            The program, untrained.

        Raises:
            ValueError: a ``latent_dim`` that is not positive, an unknown likelihood, or data that do not fit it.
        """
        checks.positive("latent_dim", latent_dim)
        law, data = _law(likelihood, event_shape, num_classes, data)
        size = int(np.prod(law.feature_shape))
        key_encoder, key_decoder = jax.random.split(key)
        options: dict[str, Any] = {"activation": activation, "residual": residual, "layer_norm": layer_norm}
        encoder = nn.MLP(size, 2 * latent_dim, tuple(hidden), key=key_encoder, **options)
        outputs = law.num_params * int(np.prod(law.event_shape))
        decoder = nn.MLP(latent_dim, outputs, tuple(reversed(hidden)), key=key_decoder, **options)
        if data is not None:
            decoder = nn.output_bias(decoder, jnp.asarray(law.start(data).reshape(-1), jnp.result_type(float)))
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
        key: jax.Array,
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
            key: for the initial weights.

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
        key_encoder, key_decoder = jax.random.split(key)
        options: dict[str, Any] = {"kernel_size": kernel_size, "activation": activation}
        encoder = nn.ConvEncoder(
            (inputs, height, width), 2 * latent_dim, tuple(channels), hidden=tuple(hidden), key=key_encoder, **options
        )
        decoder = nn.ConvDecoder(
            latent_dim,
            (outputs, height, width),
            tuple(reversed(channels)),
            hidden=tuple(reversed(hidden)),
            key=key_decoder,
            **options,
        )
        if data is not None:
            decoder = nn.output_bias(decoder, jnp.asarray(law.start(data).reshape(-1), jnp.result_type(float)))
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
        decoder = eqx_module("decoder", self.decoder)
        observation = _declare("observation", self.observation)
        rows = size if x is None else len(x)
        with numpyro.plate("data", rows):
            z = numpyro.sample("z", dist.Normal(jnp.zeros((rows, self.latent_dim)), 1.0).to_event(1))
            return numpyro.sample("x", observation(_outputs(observation, decoder, z)), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(z | x), in the plate ``"data"``; without x, the prior of ``size`` rows.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            size: the number of rows where x is None.

        Returns:
            z.
        """
        encoder = eqx_module("encoder", self.encoder)
        rows = size if x is None else len(x)
        if x is None:
            posterior = dist.Normal(jnp.zeros((rows, self.latent_dim)), 1.0)
        else:
            posterior = dist.Normal(*self._encode(encoder, x))
        with numpyro.plate("data", rows):
            return numpyro.sample("z", posterior.to_event(1))

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

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The posterior's means and standard deviations.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.

        Returns:
            Two arrays (n, latent_dim).
        """
        return self._encode(self.encoder, x)

    def decode(self, z: jax.Array) -> jax.Array:
        """E[x | z] (the most probable class of a categorical law).

        Args:
            z: (..., latent_dim).

        Returns:
            (..., *event_shape).
        """
        return self.observation.mean(_outputs(self.observation, self.decoder, z))

    def _encode(self, encoder: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.asarray(x)
        absent = jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.floating) else x < 0
        lead = len(self.fill.shape) - len(self.event_shape)
        absent = jnp.expand_dims(absent, tuple(range(1, 1 + lead)))
        features = jnp.where(absent, self.fill, self.observation.features(x).astype(self.fill.dtype))
        loc, raw = jnp.split(encoder(features.reshape(len(x), *self.input_shape)), 2, axis=-1)
        return loc, jnp.exp(bounded(raw, -7.0, 3.0))


def build(config: Mapping[str, Any], *, key: jax.Array) -> VAE:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `VAE.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    key_encoder, key_decoder = jax.random.split(key)
    return VAE(
        nn.build(config["encoder"], key=key_encoder),
        nn.build(config["decoder"], key=key_decoder),
        likelihoods.build(config["observation"]),
        config["latent_dim"],
        input_shape=config["input_shape"],
    )


def reconstruct(rng_key: jax.Array, program: VAE, x: Any) -> jax.Array:
    """E[x' | z] at one draw z ~ q(z | x) of each row.

    Args:
        rng_key: the key.
        program: the VAE.
        x: (n, *event_shape); missing entries allowed.

    Returns:
        (n, *event_shape).

    Raises:
        ValueError: data that the program does not take.
    """
    return _reconstruct(rng_key, program, jnp.asarray(program.check_data(x, missing=True)))


def interpolate(program: VAE, start: Any, end: Any, num_points: int = 8, *, kind: str = "spherical") -> jax.Array:
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
    a, b = (jnp.asarray(program.check_data(x, missing=True)) for x in (start, end))
    checks.equal_shapes("start and end", a.shape, b.shape)
    return _interpolate(program, a, b, num_points, kind)


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
    loc, scale = _encode(program, jnp.asarray(program.check_data(x, missing=True)))
    return activity.active_units(np.asarray(loc), np.asarray(scale), threshold)


def _law(likelihood: Any, event_shape: Sequence[int], num_classes: int | None, data: Any) -> tuple[Any, Any]:
    law = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
    return law, None if data is None else laws.check_data(law, data, missing=True)


def _declare(name: str, module: Any) -> Any:
    """Declare a module's parameters, where it has any."""
    return eqx_module(name, module) if jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array)) else module


def _outputs(observation: Any, decoder: Any, z: jax.Array) -> jax.Array:
    outputs = decoder(z)
    return outputs.reshape(laws.output_shape(observation, outputs.shape, z.shape[:-1]))


@eqx.filter_jit
def _reconstruct(rng_key: jax.Array, program: VAE, x: jax.Array) -> jax.Array:
    loc, scale = program.encode(x)
    return program.decode(loc + scale * jax.random.normal(rng_key, loc.shape, loc.dtype))


@eqx.filter_jit
def _interpolate(program: VAE, start: jax.Array, end: jax.Array, num_points: int, kind: str) -> jax.Array:
    weights = jnp.linspace(0.0, 1.0, num_points, dtype=program.fill.dtype)
    return program.decode(interpolation.interpolate(program.encode(start)[0], program.encode(end)[0], weights, kind))


@eqx.filter_jit
def _encode(program: VAE, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return program.encode(x)
