"""Posterior draws of missing variables."""
