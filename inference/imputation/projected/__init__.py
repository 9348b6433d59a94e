"""Projected latent Markov chain Monte Carlo (Cannella, Soltani & Tarokh 2021): steps in the base of a map."""
