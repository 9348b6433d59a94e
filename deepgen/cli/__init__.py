"""The command line: ``deepgen run | fit | sample | impute | evaluate | list``."""

from deepgen.cli.parser import app, main

__all__ = ["app", "main"]
