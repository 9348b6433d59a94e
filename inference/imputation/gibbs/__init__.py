"""Gibbs sampling with the guide as proposal: plain, corrected, and adaptive with the missing entries collapsed."""
