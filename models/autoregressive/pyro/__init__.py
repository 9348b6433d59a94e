"""Autoregressive models in Pyro: the law, its program, and ensembles of orders and masks."""

from deepgen.models.autoregressive.pyro.distribution import Autoregressive
from deepgen.models.autoregressive.pyro.ensemble import Ensemble, RandomMember
from deepgen.models.autoregressive.pyro.program import AutoregressiveModel, build

__all__ = ["Autoregressive", "AutoregressiveModel", "Ensemble", "RandomMember", "build"]
