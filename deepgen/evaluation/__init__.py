"""Likelihoods with error bars, sample metrics, calibration, ArviZ."""
