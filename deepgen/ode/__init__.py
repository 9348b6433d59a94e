"""Ordinary differential equations and the change of volume along them, by diffrax and torchdiffeq."""
