"""The metric of a Langevin kernel, as a root A of the inverse mass: M^-1 = A A'.

A is either diagonal, (*batch, d), or dense, (*batch, d, d); it is dense where it has one axis more than the vectors it
meets. Axes of size 1 are shared. The dynamics need A and its transpose only, never an inverse.
"""

from typing import Any

from array_api_compat import array_namespace, device

from deepgen.inference.hmc import adaptation as adapting


def column(step_size: Any) -> Any:
    """A step size as a factor of vectors: (*batch) -> (*batch, 1); a plain number stays one."""
    return step_size if isinstance(step_size, int | float) else step_size[..., None]


def is_dense(root: Any, x: Any) -> bool:
    """Whether a root is a matrix for vectors such as x."""
    return root.ndim == x.ndim + 1


def apply(root: Any | None, x: Any) -> Any:
    """A x.

    Args:
        root: (*batch, d), (*batch, d, d), or None for the identity.
        x: (*batch, d).

    Returns:
        (*batch, d).
    """
    if root is None:
        return x
    return (root @ x[..., None])[..., 0] if is_dense(root, x) else root * x


def apply_transposed(root: Any | None, x: Any) -> Any:
    """A' x.

    Args:
        root: (*batch, d), (*batch, d, d), or None for the identity.
        x: (*batch, d).

    Returns:
        (*batch, d).
    """
    if root is None:
        return x
    return (x[..., None, :] @ root)[..., 0, :] if is_dense(root, x) else root * x


def solve(root: Any | None, x: Any) -> Any:
    """A^-1 x.

    Args:
        root: (*batch, d), (*batch, d, d), or None for the identity.
        x: (*batch, d).

    Returns:
        (*batch, d).
    """
    if root is None:
        return x
    if not is_dense(root, x):
        return x / root
    return array_namespace(x).linalg.solve(root, x[..., None])[..., 0]


def log_determinant(root: Any | None, x: Any) -> Any:
    """log |det A|, for vectors such as x.

    Args:
        root: (*batch, d), (*batch, d, d), or None for the identity.
        x: (*batch, d).

    Returns:
        (*#batch).
    """
    xp = array_namespace(x)
    if root is None:
        return xp.zeros_like(x[..., 0])
    if is_dense(root, x):
        return xp.linalg.slogdet(root)[1]
    return xp.sum(xp.log(xp.abs(root)), axis=-1)


def covariance_update(moments: adapting.Moments, x: Any, *, pool: bool) -> adapting.Moments:
    """Running mean and scatter matrix with one more draw of each element, or of each chain of it.

    The dense twin of ``deepgen.inference.hmc.adaptation.moments_update``: ``squares`` is (*batch, d, d).

    Args:
        moments: the moments before; where pooled, with a first axis of size 1.
        x: (*batch, d) new draws.
        pool: whether the first axis of x holds chains of the same target.

    Returns:
        The moments after.

    References:
        Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """
    xp = array_namespace(x)
    new = x.shape[0] if pool else 1
    mean = xp.mean(x, axis=0, keepdims=True) if pool else x
    e = x - mean
    within = xp.sum(e[..., :, None] * e[..., None, :], axis=0, keepdims=True) if pool else 0.0
    count = moments.count + new
    shift = mean - moments.mean
    share = (new / count)[..., None]
    between = shift[..., :, None] * shift[..., None, :] * (share * moments.count[..., None])[..., None]
    return adapting.Moments(count, moments.mean + share * shift, moments.squares + within + between)


def regularised_covariance(moments: adapting.Moments) -> Any:
    """The sample covariance, drawn towards 1e-3 I as if five draws had said so.

    Args:
        moments: of at least two draws, ``squares`` of shape (*batch, d, d).

    Returns:
        (*batch, d, d) positive definite.

    References:
        Stan Reference Manual, "MCMC sampling: Euclidean metric" (the regularisation that Stan uses).
    """
    xp = array_namespace(moments.squares)
    count = moments.count[..., None, None]
    squares = moments.squares
    identity = xp.eye(squares.shape[-1], dtype=squares.dtype, device=device(squares))
    return squares / (count - 1) * (count / (count + 5)) + 1e-3 * 5 / (count + 5) * identity
