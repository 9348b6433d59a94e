"""Likelihoods and their bounds, with standard errors."""
