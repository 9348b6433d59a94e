"""The Pyro face of deepgen: ``import deepgen.pyro as dg``. Both faces have the same names."""

