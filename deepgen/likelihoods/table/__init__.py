"""The observation law of a table, whose columns are of different types."""
