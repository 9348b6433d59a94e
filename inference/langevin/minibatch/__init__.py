"""Kernels whose gradient comes from a mini-batch: SGLD and its preconditioned form."""
