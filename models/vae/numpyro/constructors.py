"""How VAEs are made in NumPyro: of perceptrons, of convolutions, and from a table."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from deepgen import checks
from deepgen.math.gaussian import Gaussian, fit_gaussian
from deepgen.models.vae import linear
from deepgen.models.vae.images import image_shapes
from deepgen.models.vae.numpyro import choices, posteriors
from deepgen.nn import equinox as nn
from deepgen.nn.arguments import wholes


def mlp(
    cls: Any,
    event_shape: Sequence[int],
    latent_dim: int,
    likelihood: Any = "bernoulli",
    *,
    hidden: Sequence[int] = (256, 256),
    activation: str = "gelu",
    residual: bool = False,
    layer_norm: bool = False,
    num_classes: int | None = None,
    posterior: Any = "diagonal",
    prior: Any = "standard",
    num_components: int | None = None,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A VAE of two multilayer perceptrons.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        latent_dim: how many latents.
        likelihood: an observation law or its name, see `deepgen.likelihoods`.
        hidden: the widths of the encoder's hidden layers; the decoder has them in reverse.
        activation: the networks' activation.
        residual: whether hidden layers of equal width add their input.
        layer_norm: whether hidden layers are normalised.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        posterior: ``"diagonal"``, ``"full"`` (covariance) or ``"conjugate"`` (linear-Gaussian, stretched); or a flow
            of event shape (latent_dim,), such as ``Flow.iaf((latent_dim,), context_dim=16)``, that carries the
            diagonal normal on and sees ``context_dim`` more numbers of the encoder.
        prior: ``"standard"``, ``"mixture"`` (of normals, learned) or ``"vamp"`` (of posteriors); or a flow of event
            shape (latent_dim,), which is learned with the rest.
        num_components: of a mixture.
        data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: a ``latent_dim`` that is not positive, an unknown likelihood, posterior or prior, a number of
            components that is missing or too much, or data that do not fit.
    """
    checks.positive("latent_dim", latent_dim)
    law, data = choices.law(likelihood, event_shape, num_classes, data)
    size = math.prod(law.feature_shape)
    reading = posteriors.posterior(posterior, size, latent_dim)
    chosen = choices.prior(prior, num_components, law, latent_dim, data, jax.random.fold_in(key, 2))
    key_encoder, key_decoder = jax.random.split(key)
    options: dict[str, Any] = {"activation": activation, "residual": residual, "layer_norm": layer_norm}
    wanted = reading.num_params(latent_dim)
    encoder = nn.MLP(size, wanted, wholes("hidden", hidden), key=key_encoder, **options)
    decoder = nn.MLP(latent_dim, law.num_outputs, wholes("hidden", hidden)[::-1], key=key_decoder, **options)
    decoder = choices.started(decoder, law, data)
    return cls(encoder, decoder, law, latent_dim, input_shape=(size,), data=data, posterior=reading, prior=chosen)


def conv(
    cls: Any,
    event_shape: Sequence[int],
    latent_dim: int,
    likelihood: Any = "bernoulli",
    *,
    channels: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (),
    kernel_size: int = 3,
    activation: str = "gelu",
    num_classes: int | None = None,
    posterior: Any = "diagonal",
    prior: Any = "standard",
    num_components: int | None = None,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A VAE of images, of two strided convolutional networks.

    Args:
        cls: the class.
        event_shape: (channels, height, width).
        latent_dim: how many latents.
        likelihood: an observation law or its name, see `deepgen.likelihoods`.
        channels: of the encoder's convolutions, each of which halves the image; the decoder has them in reverse.
        hidden: widths of dense layers between the convolutions and the latents.
        kernel_size: at least 2.
        activation: the networks' activation.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        posterior: ``"diagonal"``, ``"full"`` (covariance) or ``"conjugate"`` (linear-Gaussian, stretched); or a flow
            of event shape (latent_dim,), such as ``Flow.iaf((latent_dim,), context_dim=16)``, that carries the
            diagonal normal on and sees ``context_dim`` more numbers of the encoder.
        prior: ``"standard"``, ``"mixture"`` (of normals, learned) or ``"vamp"`` (of posteriors); or a flow of event
            shape (latent_dim,), which is learned with the rest.
        num_components: of a mixture.
        data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: as `mlp`, and an event that is no image.
    """
    checks.image_shape(event_shape)
    checks.positive("latent_dim", latent_dim)
    law, data = choices.law(likelihood, event_shape, num_classes, data)
    inputs, outputs = image_shapes(law)
    reading = posteriors.posterior(posterior, math.prod(law.feature_shape), latent_dim)
    chosen = choices.prior(prior, num_components, law, latent_dim, data, jax.random.fold_in(key, 2))
    key_encoder, key_decoder = jax.random.split(key)
    options: dict[str, Any] = {"kernel_size": kernel_size, "activation": activation}
    wanted = reading.num_params(latent_dim)
    encoder = nn.ConvEncoder(
        inputs, wanted, tuple(channels), hidden=wholes("hidden", hidden), key=key_encoder, **options
    )
    decoder = nn.ConvDecoder(
        latent_dim,
        outputs,
        tuple(reversed(channels)),
        hidden=wholes("hidden", hidden)[::-1],
        key=key_decoder,
        **options,
    )
    decoder = choices.started(decoder, law, data)
    return cls(encoder, decoder, law, latent_dim, input_shape=inputs, data=data, posterior=reading, prior=chosen)


def table(
    cls: Any,
    data: Any,
    *,
    likelihood: Any = "gaussian_per_dimension",
    latent_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    activation: str = "gelu",
    gaussian: Gaussian | None = None,
    key: jax.Array,
) -> Any:
    """A VAE of a table's rows that starts as a multivariate normal fitted to the observed cells by EM.

    Its decoder is a linear path beside a network that starts at zero, its posterior the exact one of the linear
    program whatever is missing, also beside a network that starts at zero. For laws of real and positive numbers it
    is at first exactly that normal (of its factor analysis, with fewer latents than features), so that training
    starts from the best linear imputation. `fit_table` makes and trains one.

    Args:
        cls: the class.
        data: (n, d), NaN where missing.
        likelihood: a Gaussian law or its name, or a law of mixed columns.
        latent_dim: how many latents; None for as many as features, at most 32.
        hidden: the widths of both networks' hidden layers.
        activation: of the networks.
        gaussian: a normal fitted to the features already; None fits it.
        key: for the networks' first layers.

    Returns:
        The program, untrained.

    Raises:
        ValueError: data that the law does not take, a law without a linear-Gaussian start, or more latents than
            features.
    """
    shape = np.shape(data)[1:]
    law, data = choices.law(likelihood, shape, None, data)
    features = law.standardised(data)
    size = features.shape[1]
    latent_dim = min(size, linear.MOST_LATENTS) if latent_dim is None else latent_dim
    checks.positive("latent_dim", latent_dim)
    gaussian = fit_gaussian(features) if gaussian is None else gaussian
    start = linear.start(law, gaussian, latent_dim, wholes("hidden", hidden))
    key_encoder, key_decoder = jax.random.split(key)
    options: dict[str, Any] = {"activation": activation}
    encoder = nn.MLP(2 * size, 2 * latent_dim, wholes("hidden", hidden), key=key_encoder, **options)
    decoder = nn.MLP(latent_dim, law.num_outputs, wholes("hidden", hidden), skip=True, key=key_decoder, **options)
    posterior = posteriors.Conjugate(size, latent_dim)
    program = cls(
        encoder, decoder, law, latent_dim, input_shape=(2 * size,), posterior=posterior, sees_mask=True, data=data
    )
    return nn.load_state_dict(program, {**nn.state_dict(program), **start})
