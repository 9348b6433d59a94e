"""Normalizing flows: densities by change of variables (Rezende & Mohamed 2015; Papamakarios et al. 2021)."""
