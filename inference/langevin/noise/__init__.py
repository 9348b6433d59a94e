"""The randomness of a step."""
