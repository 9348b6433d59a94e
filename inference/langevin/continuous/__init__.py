"""Kernels on real numbers: overdamped and underdamped Langevin, unadjusted and Metropolis-adjusted."""
