"""The engines' MCMC kernels over any of the dynamics: no mathematics, only the engine's interface."""
