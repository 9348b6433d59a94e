"""Completions of rows by a normal law and by the nearest of the program's own draws, weighed by its density."""
