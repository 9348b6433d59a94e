"""Sequential Monte Carlo: weighted particles that move, are weighed and resampled (Doucet & Johansen 2011)."""
