"""Autoregressive models in NumPyro: the law, its program, and ensembles of orders and masks."""

from deepgen.models.autoregressive.numpyro.distribution import Autoregressive
from deepgen.models.autoregressive.numpyro.ensemble import Ensemble, RandomMember
from deepgen.models.autoregressive.numpyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.numpyro.program import AutoregressiveModel, build
from deepgen.models.autoregressive.numpyro.transformer import CausalTransformer
from deepgen.models.autoregressive.numpyro.wavenet import WaveNet

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
