"""Autoregressive models in Pyro: the law, its program, and ensembles of orders and masks, programs of any order."""

from deepgen.models.autoregressive.pyro.agnostic import AnyOrder, OrderAgnostic
from deepgen.models.autoregressive.pyro.build import build
from deepgen.models.autoregressive.pyro.distribution import Autoregressive
from deepgen.models.autoregressive.pyro.dropout import RandomDropout
from deepgen.models.autoregressive.pyro.ensemble import Ensemble, RandomMember
from deepgen.models.autoregressive.pyro.pixelcnn import PixelCNN
from deepgen.models.autoregressive.pyro.program import AutoregressiveModel
from deepgen.models.autoregressive.pyro.transformer import CausalTransformer
from deepgen.models.autoregressive.pyro.wavenet import WaveNet

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
