"""How VAEs of several levels are made in NumPyro: of perceptrons, and of convolutions below them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax

from deepgen import checks
from deepgen.models.vae import hierarchy
from deepgen.models.vae.images import image_shapes
from deepgen.models.vae.numpyro import choices, posteriors
from deepgen.nn import arguments
from deepgen.nn import equinox as nn
from deepgen.nn.arguments import wholes


def mlp(
    cls: Any,
    event_shape: Sequence[int],
    latent_dims: Sequence[int],
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
    """A VAE of several levels, of multilayer perceptrons.

    Train it with the warm-up of the ladder's paper, ``ELBO(beta=Linear(...))`` over a third of the steps, say: without,
    most latents collapse in the first steps and stay so (binarised MNIST, ten epochs: 115.5 nats instead of 98.7).

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        latent_dims: how many latents each level has, from the data up.
        likelihood: an observation law or its name, see `deepgen.likelihoods`.
        hidden: the widths of the hidden layers of each of the encoder's networks, the last of which is also the number
            of features that it hands up; the other networks have them in reverse.
        activation: the networks' activation.
        residual: whether hidden layers of equal width add their input.
        layer_norm: whether hidden layers are normalised.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        posterior: of each level ``"diagonal"`` or ``"full"`` (covariance).
        prior: of the top level ``"standard"``, ``"mixture"`` (of normals, learned) or ``"vamp"`` (of posteriors); or a
            flow of event shape (latent_dims[-1],), which is learned with the rest.
        num_components: of a mixture or a VampPrior.
        data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: ``latent_dims`` that are no positive integers, an unknown likelihood or prior, a posterior that is
            no normal, a number of components that is missing or too much, or data that do not fit.
    """
    dims = hierarchy.check_latent_dims(latent_dims)
    hierarchy.check_posterior(posterior)
    law, data = choices.law(likelihood, event_shape, num_classes, data)
    size, reading = math.prod(law.feature_shape), posteriors.posterior(posterior, 0, 0)
    top = choices.prior(prior, num_components, law, dims[-1], data, jax.random.fold_in(key, 4))
    key_encoder, key_prior, key_decoder = jax.random.split(key, 3)
    options: dict[str, Any] = {"activation": activation, "residual": residual, "layer_norm": layer_norm}
    upwards, downwards = wholes("hidden", hidden), wholes("hidden", hidden)[::-1]
    encoder = [
        nn.MLP(*sizes, upwards, key=jax.random.fold_in(key_encoder, index), **options)
        for index, sizes in enumerate(hierarchy.encoder_sizes(size, dims, upwards, reading))
    ]
    networks = [
        nn.MLP(above, 2 * below, downwards, key=jax.random.fold_in(key_prior, index), **options)
        for index, (below, above) in enumerate(pairwise(dims))
    ]
    decoder = nn.MLP(dims[0], law.num_outputs, downwards, key=key_decoder, **options)
    decoder = choices.started(decoder, law, data)
    return cls(encoder, networks, decoder, law, dims, input_shape=(size,), posterior=reading, top=top, data=data)


def conv(
    cls: Any,
    event_shape: Sequence[int],
    latent_dims: Sequence[int],
    likelihood: Any = "bernoulli",
    *,
    channels: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (256,),
    kernel_size: int = 3,
    activation: str = "gelu",
    num_classes: int | None = None,
    posterior: Any = "diagonal",
    prior: Any = "standard",
    num_components: int | None = None,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A VAE of images, of several levels: strided convolutions between image and first level, perceptrons above.

    So deep an encoder can look collapsed for hundreds of steps, until its upper levels have learned something; the
    warm-up of the ladder's paper, ``ELBO(beta=Linear(500))``, say, shortens that.

    Args:
        cls: the class.
        event_shape: (channels, height, width).
        latent_dims: how many latents each level has, from the data up.
        likelihood: an observation law or its name, see `deepgen.likelihoods`.
        channels: of the convolutions of the encoder's first network, each of which halves the image; the decoder has
            them in reverse.
        hidden: the widths of the hidden layers of each of the encoder's networks, in the first behind the convolutions;
            the last is also the number of features that a network hands up, without hidden layers as many as the
            convolutions leave. The other networks have them in reverse.
        kernel_size: at least 2.
        activation: the networks' activation.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        posterior: of each level ``"diagonal"`` or ``"full"`` (covariance).
        prior: of the top level ``"standard"``, ``"mixture"`` (of normals, learned) or ``"vamp"`` (of posteriors); or a
            flow of event shape (latent_dims[-1],), which is learned with the rest.
        num_components: of a mixture or a VampPrior.
        data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: as `mlp`, and an event that is no image.
    """
    checks.image_shape(event_shape)
    channels = arguments.channels(channels)
    dims = hierarchy.check_latent_dims(latent_dims)
    hierarchy.check_posterior(posterior)
    law, data = choices.law(likelihood, event_shape, num_classes, data)
    inputs, outputs = image_shapes(law)
    reading = posteriors.posterior(posterior, 0, 0)
    top = choices.prior(prior, num_components, law, dims[-1], data, jax.random.fold_in(key, 4))
    key_encoder, key_prior, key_decoder = jax.random.split(key, 3)
    upwards, downwards = wholes("hidden", hidden), wholes("hidden", hidden)[::-1]
    images: dict[str, Any] = {"kernel_size": kernel_size, "activation": activation}
    left = channels[-1] * math.prod(arguments.halved(inputs[1:], len(channels))[-1])
    (_, first), *others = hierarchy.encoder_sizes(left, dims, upwards, reading)
    encoder = [
        nn.ConvEncoder(inputs, first, channels, hidden=upwards, key=key_encoder, **images),
        *(
            nn.MLP(*sizes, upwards, activation=activation, key=jax.random.fold_in(key_encoder, index + 1))
            for index, sizes in enumerate(others)
        ),
    ]
    networks = [
        nn.MLP(above, 2 * below, downwards, activation=activation, key=jax.random.fold_in(key_prior, index))
        for index, (below, above) in enumerate(pairwise(dims))
    ]
    decoder = nn.ConvDecoder(dims[0], outputs, channels[::-1], hidden=downwards, key=key_decoder, **images)
    decoder = choices.started(decoder, law, data)
    return cls(encoder, networks, decoder, law, dims, input_shape=inputs, posterior=reading, top=top, data=data)
