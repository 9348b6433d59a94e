"""Mathematics that two rooms or more share, written once for any array library."""
