"""Variational autoencoders in Pyro: the programs, their parts, and what can be asked of them."""

from deepgen.models.vae.pyro.build import build
from deepgen.models.vae.pyro.classes import ClassVAE
from deepgen.models.vae.pyro.hierarchy import HierarchicalVAE
from deepgen.models.vae.pyro.program import VAE
from deepgen.models.vae.pyro.table import fit_table
from deepgen.models.vae.pyro.verbs import active_units, classify, interpolate, reconstruct

__all__ = [
    "VAE",
    "ClassVAE",
    "HierarchicalVAE",
    "active_units",
    "build",
    "classify",
    "fit_table",
    "interpolate",
    "reconstruct",
]
