"""How autoregressive programs of images, sound and text are made in NumPyro."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen import checks
from deepgen.likelihoods import numpyro as likelihoods
from deepgen.models.autoregressive import inputs, layout
from deepgen.models.autoregressive.numpyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.numpyro.transformer import CausalTransformer
from deepgen.models.autoregressive.numpyro.wavenet import WaveNet


def pixelcnn(
    cls: Any,
    event_shape: Sequence[int],
    likelihood: Any = "bernoulli",
    *,
    channels: int = 32,
    num_layers: int = 6,
    kernel_size: int = 3,
    first_kernel_size: int = 7,
    activation: str = "relu",
    num_classes: int | None = None,
    context_dim: int = 0,
    place_dim: int = 0,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A gated PixelCNN, for images.

    Args:
        cls: the class.
        event_shape: (channels, height, width).
        likelihood: an observation law or its name, see `deepgen.likelihoods`; not one that differs from entry to entry.
            A pixel's channels are decided together where the law couples them, else one after the other.
        channels: of each stack.
        num_layers: gated layers, the first counted.
        kernel_size: of the layers after the first, odd.
        first_kernel_size: of the first, odd.
        activation: between the last linear maps.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        context_dim: the length of a context that the law is conditional on, such as a one-hot class, 0 for none; the
            verbs take it as ``y``, one a row, or one a row and pixel.
        place_dim: how many learned features each place has; they teach the network where in the image it is. 0 for
            none.
        data: (n, *event_shape); the outputs then start at the marginal law of all places. None for random biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: an event that is no image, an unknown likelihood, sizes out of their range, or data that do not fit.
    """
    checks.image_shape(event_shape)
    law = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
    network = PixelCNN(
        law.event_shape,
        channels=channels,
        num_layers=num_layers,
        kernel_size=kernel_size,
        first_kernel_size=first_kernel_size,
        activation=activation,
        context_size=context_dim,
        place_size=place_dim,
        **layout.image(law),
        key=key,
    )
    return cls(started(network, law, data, law.event_shape[:1], 1), law)


def wavenet(
    cls: Any,
    event_shape: Sequence[int],
    likelihood: Any = "categorical",
    *,
    channels: int = 32,
    skip_channels: int = 64,
    dilations: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
    kernel_size: int = 2,
    activation: str = "relu",
    num_classes: int | None = None,
    context_dim: int = 0,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A WaveNet, for sound and other sequences.

    Args:
        cls: the class.
        event_shape: (length,), or (length, width) for frames of several entries, which are decided together.
        likelihood: an observation law or its name, see `deepgen.likelihoods`; not one that differs from entry to entry.
        channels: of the layers.
        skip_channels: of the sum that the outputs are computed from.
        dilations: of each layer.
        kernel_size: of all layers, at least 2.
        activation: between the last linear maps.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        context_dim: the length of a context that the law is conditional on, such as a one-hot class, 0 for none; the
            verbs take it as ``y``, one a row (as of a speaker), or one a row and step (as of a text).
        data: (n, *event_shape); the outputs then start at the marginal law of all places. None for random biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: an event that is no sequence, an unknown likelihood, sizes out of their range, or data that do not
            fit.
    """
    law = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
    network = WaveNet(
        law.event_shape,
        channels=channels,
        skip_channels=skip_channels,
        dilations=dilations,
        kernel_size=kernel_size,
        activation=activation,
        context_size=context_dim,
        **layout.sequence(law),
        key=key,
    )
    return cls(started(network, law, data, law.event_shape[1:], 2), law)


def transformer(
    cls: Any,
    event_shape: Sequence[int],
    likelihood: Any = "categorical",
    *,
    width: int = 128,
    num_heads: int = 4,
    num_layers: int = 4,
    tied: bool = False,
    dropout: float = 0.0,
    activation: str = "gelu",
    num_classes: int | None = None,
    context_dim: int = 0,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A causal transformer, for text and other sequences.

    Args:
        cls: the class.
        event_shape: (length,), or (length, width) for frames of several entries, which are decided together.
        likelihood: an observation law or its name, see `deepgen.likelihoods`; not one that differs from entry to entry.
        width: of the residual stream.
        num_heads: of each layer's attention; they divide the width.
        num_layers: how many blocks.
        tied: whether tokens' embeddings and the outputs share their weights.
        dropout: the share of embeddings, attention weights and additions to the stream that are dropped at random while
            the program is fitted, in [0, 1); see `RandomDropout`. Whatever else is asked of it goes without.
        activation: of the perceptrons.
        num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
        context_dim: the length of a context that the law is conditional on, such as a one-hot class, 0 for none; the
            verbs take it as ``y``, one a row, or one a row and step.
        data: (n, *event_shape); the outputs then start at the marginal law of all places. None for random biases.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: an event that is no sequence, an unknown likelihood, sizes out of their range, weights that
            cannot be tied, or data that do not fit or for whose start tied weights leave no bias.
    """
    law = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
    network = CausalTransformer(
        law.event_shape,
        width=width,
        num_heads=num_heads,
        num_layers=num_layers,
        tied=tied,
        dropout=dropout,
        activation=activation,
        context_size=context_dim,
        **layout.sequence(law),
        key=key,
    )
    return cls(started(network, law, data, law.event_shape[1:], 2), law)


def started(network: Any, law: Any, data: Any, element_shape: tuple[int, ...], axis: int) -> Any:
    """The network with output biases at which every place has the data's marginal law; as it is without data.

    Args:
        network: whose field ``output`` is its last linear map.
        law: of a datum.
        data: (n, *event_shape), or None.
        element_shape: as of `layout.start`.
        axis: as of `layout.start`.

    Raises:
        ValueError: data that do not fit, or tied outputs, which have no bias.
    """
    if data is None:
        return network
    inputs.refuse_tied(network.output is None)
    bias = jnp.asarray(layout.start(law, data, element_shape, axis), network.output.bias.dtype)
    return eqx.tree_at(lambda network: network.output.bias, network, bias)
