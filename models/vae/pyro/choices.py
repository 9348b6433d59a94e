"""What the arguments of a VAE's constructor choose in Pyro: the law of a datum, and the prior of the latents."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.vae import prior as names
from deepgen.models.vae.pyro import priors
from deepgen.nn import torch as nn


def law(likelihood: Any, event_shape: Sequence[int], num_classes: int | None, data: Any) -> tuple[Any, Any]:
    """The observation law, and the data as it takes them.

    Args:
        likelihood: an observation law or its name.
        event_shape: the shape of one datum.
        num_classes: of the elements, where their law is categorical.
        data: (n, *event_shape), NaN allowed, or None.

    Returns:
        Both.

    Raises:
        ValueError: an unknown likelihood, or data that do not fit.
    """
    chosen = likelihoods.observation(likelihood, checks.event_shape(event_shape), num_classes)
    return chosen, None if data is None else laws.check_data(chosen, data, missing=True)


def prior(
    name: Any,
    num_components: int | None,
    law: Any,
    latent_dim: int,
    data: np.ndarray | None,
    num_codes: int = 0,
) -> Any:
    """The prior of that name, or of that flow.

    Args:
        name: ``"standard"``, ``"mixture"`` or ``"vamp"``, or a flow.
        num_components: of a mixture.
        law: of a datum.
        latent_dim: how many latents.
        data: (n, *event_shape) where the pseudo-inputs of a VampPrior start, NaN allowed; None for noise.
        num_codes: the classes whose codes stand behind the features of a pseudo-input, at first each in its turn.

    Returns:
        The prior.

    Raises:
        ValueError: an unknown prior, a flow that is no law of the latents, or a number of components that is missing or
            too much.
    """
    size = math.prod(law.feature_shape)
    count = names.check_components(name, num_components)
    if name == "mixture":
        return priors.Mixture(count, latent_dim)
    if name == "vamp":
        noise = torch.randn(count, size).numpy(force=True)
        start = names.pseudo_inputs(*_features(law, data), count, noise, num_codes)
        return priors.Vamp(torch.as_tensor(start, dtype=torch.get_default_dtype()))
    return priors.chosen(None if name == "standard" else name, latent_dim)


def started(decoder: Any, law: Any, data: np.ndarray | None) -> Any:
    """A decoder whose outputs start at the marginals of the data.

    Args:
        decoder: the network.
        law: of a datum.
        data: (n, *event_shape), NaN allowed; None leaves the decoder as it is.

    Returns:
        The network.
    """
    return decoder if data is None else nn.output_bias(decoder, law.start(data).reshape(-1))


def _features(law: Any, data: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray]:
    """The data's features, flattened, as an encoder sees them, and what it is shown where they are missing."""
    if data is None:
        return None, np.zeros(math.prod(law.feature_shape))
    fill = law.feature_mean(data)
    features = law.features(torch.as_tensor(data)).numpy(force=True)
    shown = np.where(law.feature_mask(laws.is_missing(data)), fill, features)
    return shown.reshape(len(data), -1), fill.reshape(-1)
