"""Autoregressive models: each entry given those decided before it (Bengio & Bengio 2000; Germain et al. 2015)."""
