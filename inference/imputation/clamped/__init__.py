"""Missing entries by Markov chains over the data themselves, the observed entries clamped."""
