"""Flows of integers in Pyro: the program, and what takes numbers to levels."""

from deepgen.models.dequantized.pyro.law import Levels
from deepgen.models.dequantized.pyro.program import Dequantized, build

__all__ = ["Dequantized", "Levels", "build"]
