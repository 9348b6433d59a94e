"""Contrastive objectives in Pyro."""

from deepgen.inference.contrastive.pyro.divergence import ContrastiveDivergence, PersistentContrastiveDivergence
from deepgen.inference.contrastive.pyro.noise import NoiseContrastive

__all__ = ["ContrastiveDivergence", "NoiseContrastive", "PersistentContrastiveDivergence"]
