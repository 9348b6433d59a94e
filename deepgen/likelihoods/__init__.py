"""Observation laws: from a decoder's outputs to the distribution of a datum."""
