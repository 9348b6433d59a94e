"""Sampling importance resampling from the guide (Vehtari et al. 2024), and starts for chains."""
