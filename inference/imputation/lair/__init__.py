"""Latent-adaptive importance resampling (Simkus & Gutmann 2023)."""
