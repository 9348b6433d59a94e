"""Autoregressive models in NumPyro: the law, its program, and ensembles of orders and masks, programs of any order."""

from deepgen.models.autoregressive.numpyro.agnostic import AnyOrder, OrderAgnostic
from deepgen.models.autoregressive.numpyro.build import build
from deepgen.models.autoregressive.numpyro.distribution import Autoregressive
from deepgen.models.autoregressive.numpyro.dropout import RandomDropout
from deepgen.models.autoregressive.numpyro.ensemble import Ensemble, RandomMember
from deepgen.models.autoregressive.numpyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.numpyro.program import AutoregressiveModel
from deepgen.models.autoregressive.numpyro.transformer import CausalTransformer
from deepgen.models.autoregressive.numpyro.wavenet import WaveNet

__all__ = [
    "AnyOrder",
    "Autoregressive",
    "AutoregressiveModel",
    "CausalTransformer",
    "Ensemble",
    "OrderAgnostic",
    "PixelCNN",
    "RandomDropout",
    "RandomMember",
    "WaveNet",
    "build",
]
