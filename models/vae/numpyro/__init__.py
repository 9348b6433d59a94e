"""The variational autoencoder in NumPyro: the program, its parts, and what can be asked of it."""

from deepgen.models.vae.numpyro.build import build
from deepgen.models.vae.numpyro.hierarchy import HierarchicalVAE
from deepgen.models.vae.numpyro.program import VAE
from deepgen.models.vae.numpyro.table import fit_table
from deepgen.models.vae.numpyro.verbs import active_units, interpolate, reconstruct

__all__ = ["VAE", "HierarchicalVAE", "active_units", "build", "fit_table", "interpolate", "reconstruct"]
