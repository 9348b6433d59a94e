"""Annealed importance sampling of log p(x), and bidirectional Monte Carlo."""
