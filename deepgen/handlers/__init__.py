"""Effect handlers, one file an engine."""
