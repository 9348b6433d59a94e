"""Samplers that descend a ladder of noise: annealed Langevin dynamics and the predictor-corrector."""
