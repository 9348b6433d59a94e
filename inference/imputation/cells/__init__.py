"""Hamiltonian Monte Carlo on the numbers behind rows of levels, the observed ones kept in their cells."""
