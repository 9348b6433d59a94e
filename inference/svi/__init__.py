"""Stochastic variational inference: objectives and `fit`."""
