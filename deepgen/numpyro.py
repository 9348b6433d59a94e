"""The NumPyro face of deepgen: ``import deepgen.numpyro as dg``. Both faces have the same names."""

