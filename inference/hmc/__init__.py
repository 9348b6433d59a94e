"""Hamiltonian Monte Carlo for many independent posteriors at once."""
