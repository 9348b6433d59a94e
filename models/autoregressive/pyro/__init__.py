"""Autoregressive models in Pyro: the law, its program, and ensembles of orders and masks."""

from deepgen.models.autoregressive.pyro.distribution import Autoregressive
from deepgen.models.autoregressive.pyro.ensemble import Ensemble, RandomMember
from deepgen.models.autoregressive.pyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.pyro.program import AutoregressiveModel, build
from deepgen.models.autoregressive.pyro.transformer import CausalTransformer
from deepgen.models.autoregressive.pyro.wavenet import WaveNet

__all__ = [
    "Autoregressive",
    "AutoregressiveModel",
    "CausalTransformer",
    "Ensemble",
    "PixelCNN",
    "RandomMember",
    "WaveNet",
    "build",
]
