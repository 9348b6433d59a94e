"""Data sets, tables and missingness mechanisms."""

from deepgen.data.builtin import digits, sklearn_table, table_dataset
from deepgen.data.columns import Column
from deepgen.data.dataset import Dataset, split
from deepgen.data.encoding import Encoding
from deepgen.data.factors import FactorImages, factor_images
from deepgen.data.idx import read_idx
from deepgen.data.kinds import column_kinds
from deepgen.data.load import dataset_names, load
from deepgen.data.missingness import block, half, hide, mar, mcar, mnar, pixels
from deepgen.data.planar import Planar, checkerboard, eight_gaussians, two_moons
from deepgen.data.sequences import Clips, Text, music, spoken_digits, text
from deepgen.data.table import Table, read_table

__all__ = [
    "Clips",
    "Column",
    "Dataset",
    "Encoding",
    "FactorImages",
    "Planar",
    "Table",
    "Text",
    "block",
    "checkerboard",
    "column_kinds",
    "dataset_names",
    "digits",
    "eight_gaussians",
    "factor_images",
    "half",
    "hide",
    "load",
    "mar",
    "mcar",
    "mnar",
    "music",
    "pixels",
    "read_idx",
    "read_table",
    "sklearn_table",
    "split",
    "spoken_digits",
    "table_dataset",
    "text",
    "two_moons",
]
