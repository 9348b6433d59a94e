"""Hamiltonian Monte Carlo over the latents given the observed entries."""
