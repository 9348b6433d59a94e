"""Variational autoencoders in NumPyro: the programs, their parts, and what can be asked of them."""

from deepgen.models.vae.numpyro.build import build
from deepgen.models.vae.numpyro.classes import ClassVAE
from deepgen.models.vae.numpyro.hierarchy import HierarchicalVAE
from deepgen.models.vae.numpyro.program import VAE
from deepgen.models.vae.numpyro.table import fit_table
from deepgen.models.vae.numpyro.verbs import active_units, classify, interpolate, reconstruct

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
