"""How programs with classes are made in Pyro: of perceptrons, and of convolutions."""

import math
from collections.abc import Sequence
from typing import Any

from deepgen import checks
from deepgen.models.vae import classes
from deepgen.models.vae.images import image_shapes
from deepgen.models.vae.pyro import choices, posteriors
from deepgen.nn import torch as nn


def mlp(
    cls: Any,
    event_shape: Sequence[int],
    latent_dim: int,
    num_classes: int,
    likelihood: Any = "bernoulli",
    *,
    hidden: Sequence[int] = (256, 256),
    activation: str = "gelu",
    learn_classes: bool = True,
    num_categories: int | None = None,
    posterior: Any = "diagonal",
    prior: Any = "standard",
    num_components: int | None = None,
    data: Any | None = None,
) -> Any:
    """A program of three multilayer perceptrons.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        latent_dim: how many latents.
        num_classes: K, of y.
        likelihood: an observation law or its name, see `deepgen.likelihoods`.
        hidden: the widths of the hidden layers of classifier and encoder; the decoder has them in reverse.
        activation: the networks' activation.
        learn_classes: whether p(y) is learned; else it is uniform.
        num_categories: of the elements of x, where their law is categorical.
        posterior: ``"diagonal"`` or ``"full"`` (covariance); or a flow of event shape (latent_dim,), such as
            ``Flow.iaf((latent_dim,), context_dim=16)``, that carries the diagonal normal on and sees ``context_dim``
            more numbers of the encoder.
        prior: p(z), whatever the class: ``"standard"``, ``"mixture"`` (of normals, learned) or ``"vamp"`` (of
            posteriors, each of a pseudo-input and a class that are learned); or a flow of event shape (latent_dim,),
            which is learned with the rest.
        num_components: of a mixture or a VampPrior.
        data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.

    Returns:
        The program, untrained.

    Raises:
        ValueError: as `ClassVAE`, an unknown likelihood, posterior or prior, a number of components that is missing or
            too much, or data that do not fit.
    """
    classes.check_sizes(num_classes, latent_dim, hidden)
    classes.check_posterior(posterior == "conjugate")
    law, data = choices.law(likelihood, event_shape, num_categories, data)
    size, hidden = math.prod(law.feature_shape), tuple(hidden)
    reading = posteriors.posterior(posterior, size, latent_dim)
    chosen = choices.prior(prior, num_components, law, latent_dim, data, num_codes=num_classes)
    wanted = reading.num_params(latent_dim)
    classifier = nn.MLP(size, num_classes, hidden, activation=activation)
    encoder = nn.MLP(size + num_classes, wanted, hidden, activation=activation)
    decoder = nn.MLP(latent_dim + num_classes, law.num_outputs, hidden[::-1], activation=activation)
    decoder = choices.started(decoder, law, data)
    made = {"posterior": reading, "prior": chosen, "learn_classes": learn_classes, "data": data}
    return cls(classifier, encoder, decoder, law, latent_dim, num_classes, input_shape=(size,), **made)


def conv(
    cls: Any,
    event_shape: Sequence[int],
    latent_dim: int,
    num_classes: int,
    likelihood: Any = "bernoulli",
    *,
    channels: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (),
    kernel_size: int = 3,
    activation: str = "gelu",
    learn_classes: bool = True,
    num_categories: int | None = None,
    posterior: Any = "diagonal",
    prior: Any = "standard",
    num_components: int | None = None,
    data: Any | None = None,
) -> Any:
    """A program of images, of three strided convolutional networks.

    The class's code is shown to the encoder as K planes behind the image's channels, each the same number everywhere,
    and to the decoder behind the latents.

    Args:
        cls: the class.
        event_shape: (channels, height, width).
        latent_dim: how many latents.
        num_classes: K, of y.
        likelihood: an observation law or its name, see `deepgen.likelihoods`.
        channels: of the convolutions of classifier and encoder, each of which halves the image; the decoder has them in
            reverse.
        hidden: widths of dense layers between the convolutions and the classes or the latents.
        kernel_size: at least 2.
        activation: the networks' activation.
        learn_classes: whether p(y) is learned; else it is uniform.
        num_categories: of the elements of x, where their law is categorical; of a discretised logistic law the number
            of values, None for 256.
        posterior: ``"diagonal"`` or ``"full"`` (covariance); or a flow of event shape (latent_dim,), such as
            ``Flow.iaf((latent_dim,), context_dim=16)``, that carries the diagonal normal on and sees ``context_dim``
            more numbers of the encoder.
        prior: p(z), whatever the class: ``"standard"``, ``"mixture"`` (of normals, learned) or ``"vamp"`` (of
            posteriors, each of a pseudo-input and a class that are learned); or a flow of event shape (latent_dim,),
            which is learned with the rest.
        num_components: of a mixture or a VampPrior.
        data: (n, *event_shape), NaN allowed; the decoder then starts at its marginals. None for zero biases.

    Returns:
        The program, untrained.

    Raises:
        ValueError: as `mlp`, and an event that is no image.
    """
    checks.image_shape(event_shape)
    classes.check_sizes(num_classes, latent_dim, hidden)
    classes.check_posterior(posterior == "conjugate")
    law, data = choices.law(likelihood, event_shape, num_categories, data)
    inputs, outputs = image_shapes(law)
    reading = posteriors.posterior(posterior, math.prod(law.feature_shape), latent_dim)
    chosen = choices.prior(prior, num_components, law, latent_dim, data, num_codes=num_classes)
    up: dict[str, Any] = {"hidden": tuple(hidden), "kernel_size": kernel_size, "activation": activation}
    down = up | {"hidden": tuple(hidden)[::-1]}
    coded = (inputs[0] + num_classes, *inputs[1:])
    classifier = nn.ConvEncoder(inputs, num_classes, tuple(channels), **up)
    encoder = nn.ConvEncoder(coded, reading.num_params(latent_dim), tuple(channels), **up)
    decoder = nn.ConvDecoder(latent_dim + num_classes, outputs, tuple(channels)[::-1], **down)
    decoder = choices.started(decoder, law, data)
    made = {"posterior": reading, "prior": chosen, "learn_classes": learn_classes, "data": data}
    return cls(classifier, encoder, decoder, law, latent_dim, num_classes, input_shape=inputs, **made)
