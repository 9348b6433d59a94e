"""The variational autoencoder in Pyro: the program, its parts, and what can be asked of it."""

from deepgen.models.vae.pyro.build import build
from deepgen.models.vae.pyro.hierarchy import HierarchicalVAE
from deepgen.models.vae.pyro.program import VAE
from deepgen.models.vae.pyro.table import fit_table
from deepgen.models.vae.pyro.verbs import active_units, interpolate, reconstruct

__all__ = ["VAE", "HierarchicalVAE", "active_units", "build", "fit_table", "interpolate", "reconstruct"]
