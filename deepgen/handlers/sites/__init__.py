"""The distributions that stand at sites with missing entries, one file an engine."""
