"""Autoregressive models in NumPyro: the law, its program, and ensembles of orders and masks."""

from deepgen.models.autoregressive.numpyro.distribution import Autoregressive
from deepgen.models.autoregressive.numpyro.ensemble import Ensemble, RandomMember
from deepgen.models.autoregressive.numpyro.program import AutoregressiveModel, build

__all__ = ["Autoregressive", "AutoregressiveModel", "Ensemble", "RandomMember", "build"]
