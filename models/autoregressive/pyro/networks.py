"""The networks of this room by their names, beside those of every room, in Pyro."""

from collections.abc import Mapping
from typing import Any

from deepgen.models.autoregressive.pyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.pyro.transformer import CausalTransformer
from deepgen.models.autoregressive.pyro.wavenet import WaveNet
from deepgen.nn import arguments
from deepgen.nn import torch as nn

NETWORKS: dict[str, type] = {
    **nn.NETWORKS,
    "PixelCNN": PixelCNN,
    "WaveNet": WaveNet,
    "CausalTransformer": CausalTransformer,
}


def build(spec: Mapping[str, Any]) -> Any:
    """Make a network again from what its ``spec()`` returned, with new parameters.

    Args:
        spec: the network's name under ``"network"`` and its constructor's arguments.

    Returns:
        The network.

    Raises:
        ValueError: an unknown network, or arguments that it refuses.
    """
    network, kwargs = arguments.of_spec(spec, NETWORKS)
    return network(**kwargs)
