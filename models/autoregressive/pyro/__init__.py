"""Autoregressive models in Pyro."""
