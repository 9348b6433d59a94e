"""Missing entries drawn down a ladder of noise, and then moved by Metropolis-adjusted Langevin steps."""
