"""Missing entries of data that are decided step by step: drawn in that order, with what is observed as evidence."""
