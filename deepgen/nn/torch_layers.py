"""The layers that every torch network is made of: activations, linear maps, layer normalisation."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch.nn import LayerNorm, Linear

__all__ = ["Activation", "LayerNorm", "Linear", "activation_function"]

Activation = str | Callable[..., Any]

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "leaky_relu": F.leaky_relu,
    "relu": F.relu,
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": F.tanh,
}


def activation_function(activation: Activation) -> Callable[..., Any]:
    """The function of that name, or the function itself."""
    return _FUNCTIONS[activation] if isinstance(activation, str) else activation
