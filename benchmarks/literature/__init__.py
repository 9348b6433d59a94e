"""Protocols of the literature: ours beside theirs."""
