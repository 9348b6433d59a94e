"""Normal laws of latents, with independent components or correlated ones, and their products with a prior."""

from typing import Any, NamedTuple

import array_api_compat
import numpy as np


class Normal(NamedTuple):
    """A normal law with independent components.

    Attributes:
        loc: (..., d).
        scale: (..., d).
    """

    loc: Any
    scale: Any

    @property
    def sd(self) -> Any:
        """(..., d) the standard deviations."""
        return self.scale

    def times(self, other: "Normal") -> "Normal":
        r"""The product of two normal densities, normalised: precisions add up, means are weighted by them.

        .. math:: \sigma^{-2} = s^{-2} + t^{-2}, \quad \mu = \sigma^2 (m / s^2 + n / t^2)

        Args:
            other: N(n, t^2), where this is N(m, s^2).

        Returns:
            N(mu, sigma^2).
        """
        xp = array_api_compat.array_namespace(self.loc, other.loc)
        length = xp.hypot(self.scale, other.scale)
        # shares of one, which no small scale can make overflow
        own, others = (other.scale / length) ** 2, (self.scale / length) ** 2
        return Normal(own * self.loc + others * other.loc, self.scale * (other.scale / length))


class Correlated(NamedTuple):
    """A normal law N(m, L L').

    Attributes:
        loc: (..., d) m.
        root: (..., d, d) L, lower triangular with a positive diagonal.
    """

    loc: Any
    root: Any

    @property
    def sd(self) -> Any:
        """(..., d) the standard deviations."""
        xp = array_api_compat.array_namespace(self.root)
        return xp.sqrt(xp.sum(self.root**2, axis=-1))

    def times(self, other: Normal) -> "Correlated":
        r"""The product of this density and one with independent components, normalised.

        .. math:: \Sigma^{-1} = (L L')^{-1} + T^{-2}, \quad \mu = \Sigma\, ((L L')^{-1} m + T^{-2} n)

        In units of the other law, w = (z - n) / t, it is the least-squares problem :math:`\min_w |w|^2 + |M w - b|^2`
        with M = inv(L) T and b = inv(L) (m - n), which an orthogonal factor of (I; M) solves: no precision, whose
        rounding would grow with the square of the scales, is ever made.

        Args:
            other: N(n, diag t^2), where this is N(m, L L').

        Returns:
            N(mu, Sigma).
        """
        xp = array_api_compat.array_namespace(self.loc, other.loc)
        apart = self.loc - other.loc
        dim = apart.shape[-1]
        batch = np.broadcast_shapes(tuple(self.root.shape[:-2]), tuple(apart.shape[:-1]))
        eye = xp.eye(dim, dtype=apart.dtype, device=array_api_compat.device(apart))
        scales = xp.broadcast_to(eye * other.scale[..., None], (*batch, dim, dim))
        right = xp.concat([scales, xp.broadcast_to(apart[..., None], (*batch, dim, 1))], axis=-1)
        solved = xp.linalg.solve(xp.broadcast_to(self.root, (*batch, dim, dim)), right)
        # columns in reverse, so that the inverse of the triangular factor is lower triangular when it is turned back
        stacked = xp.concat([xp.broadcast_to(eye, (*batch, dim, dim)), solved[..., :dim]], axis=-2)
        orthogonal, upper = xp.linalg.qr(xp.flip(stacked, axis=-1))
        inverse = xp.linalg.inv(upper)
        below = xp.matrix_transpose(orthogonal[..., dim:, :])
        moved = xp.flip((inverse @ (below @ solved[..., dim:]))[..., 0], axis=-1)
        root = xp.tril(xp.flip(inverse, axis=(-2, -1)))
        root = root * xp.sign(xp.linalg.diagonal(root))[..., None, :]
        return Correlated(other.loc + other.scale * moved, other.scale[..., None] * root)
