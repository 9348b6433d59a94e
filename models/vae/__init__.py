"""Variational autoencoders (Kingma & Welling 2014)."""
