"""Autoregressive models in NumPyro."""
