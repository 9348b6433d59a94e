"""Hamiltonian Monte Carlo on the missing entries, the observed ones clamped."""
