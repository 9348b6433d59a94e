"""Deep generative models as probabilistic programs, in Pyro and in NumPyro.

Import one of the two faces: ``import deepgen.numpyro as dg`` or ``import deepgen.pyro as dg``.
"""

__version__ = "0.1.0"
