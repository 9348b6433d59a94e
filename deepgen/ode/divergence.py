r"""The divergence of a field from products of its Jacobian's transpose, exact or by probes.

.. math:: \operatorname{div} f = \operatorname{tr} J = \sum_i \langle e_i, J^T e_i \rangle
    = \mathbb{E}\, \langle v, J^T v \rangle, \quad \mathbb{E}\, v v^T = I

Hutchinson 1990, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines.
"""

import math
from typing import Any

import array_api_compat
from jaxtyping import Float


def basis(x: Float[Any, "n ..."]) -> Float[Any, "d n ..."]:
    """The unit vectors of an event's D entries, each for all rows.

    Args:
        x: (n, *event), for its shape, dtype and device.

    Returns:
        (D, n, *event).
    """
    xp = array_api_compat.array_namespace(x)
    size = math.prod(x.shape[1:])
    units = xp.reshape(xp.eye(size, dtype=x.dtype, device=array_api_compat.device(x)), (size, 1, *x.shape[1:]))
    return xp.broadcast_to(units, (size, *x.shape))


def contract(probes: Float[Any, "k n ..."], products: Float[Any, "k n ..."]) -> Float[Any, "k n"]:
    r""":math:`\langle v, J^T v \rangle` of each probe and row.

    Args:
        probes: (k, n, *event), v.
        products: (k, n, *event), J'v.

    Returns:
        (k, n).
    """
    xp = array_api_compat.array_namespace(probes)
    return xp.sum(xp.reshape(probes * products, (*probes.shape[:2], -1)), axis=-1)


def average(values: Float[Any, "..."]) -> tuple[Float[Any, " n"], Float[Any, " n"]]:
    """What `transport` gives for a row's divergence, as one number and its standard error over the probes.

    Args:
        values: (n,) exact, or (k, n) of k probes.

    Returns:
        (n,) the values or their means, and (n,) the standard errors: 0 where exact, NaN where one probe is all.
    """
    xp = array_api_compat.array_namespace(values)
    if values.ndim == 1:
        return values, xp.zeros_like(values)
    count = values.shape[0]
    mean = xp.mean(values, axis=0)
    if count == 1:
        return mean, mean * math.nan
    return mean, xp.sqrt(xp.sum((values - mean) ** 2, axis=0) / ((count - 1) * count))
