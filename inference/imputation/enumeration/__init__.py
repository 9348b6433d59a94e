"""Missing entries that are few and discrete: every completion weighed by its exact probability."""
