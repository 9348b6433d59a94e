"""Markov chains over the data themselves, for laws that are known up to their constant and their tempered forms."""
