"""Langevin dynamics: kernels that follow the gradient of the log density, with and without an acceptance test."""
