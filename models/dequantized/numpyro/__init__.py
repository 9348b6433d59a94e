"""Flows of integers in NumPyro: the program, and what takes numbers to levels."""

from deepgen.models.dequantized.numpyro.law import Levels
from deepgen.models.dequantized.numpyro.program import Dequantized, build

__all__ = ["Dequantized", "Levels", "build"]
