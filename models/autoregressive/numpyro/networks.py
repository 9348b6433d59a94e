"""The networks of this room by their names, beside those of every room, in NumPyro."""

from collections.abc import Mapping
from typing import Any

import jax

from deepgen.models.autoregressive.numpyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.numpyro.transformer import CausalTransformer
from deepgen.models.autoregressive.numpyro.wavenet import WaveNet
from deepgen.nn import arguments
from deepgen.nn import equinox as nn

NETWORKS: dict[str, type] = {
    **nn.NETWORKS,
    "PixelCNN": PixelCNN,
    "WaveNet": WaveNet,
    "CausalTransformer": CausalTransformer,
}


def build(spec: Mapping[str, Any], *, key: jax.Array) -> Any:
    """Make a network again from what its ``spec()`` returned, with new parameters.

    Args:
        spec: the network's name under ``"network"`` and its constructor's arguments.
        key: for the initial parameters.

    Returns:
        The network.

    Raises:
        ValueError: an unknown network, or arguments that it refuses.
    """
    network, kwargs = arguments.of_spec(spec, NETWORKS)
    return network(**kwargs, key=key)
