"""Data sets, tables and missingness mechanisms."""
