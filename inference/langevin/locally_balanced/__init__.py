"""Kernels on discrete states that follow a gradient: Gibbs with gradients and the discrete Langevin proposal."""
