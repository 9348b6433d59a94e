"""Contrastive objectives in NumPyro."""

from deepgen.inference.contrastive.numpyro.divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from deepgen.inference.contrastive.numpyro.noise import NoiseContrastive

__all__ = ["ContrastiveDivergence", "NoiseContrastive", "PersistentContrastiveDivergence"]
