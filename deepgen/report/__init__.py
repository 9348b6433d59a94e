"""The HTML report of a run: one file that holds its pictures, numbers and styles."""

from deepgen.report.page import render
from deepgen.report.pictures import Pictures

__all__ = ["Pictures", "render"]
