"""The linear-Gaussian program that a VAE of a table starts from: its loadings, and its posterior given what is seen."""

from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Float

from deepgen import checks
from deepgen.likelihoods.laws import raw_scale
from deepgen.math.gaussian import Gaussian

MOST_LATENTS = 32
"""How many latents a table's program has at most, unless it is asked for more."""
SWEEPS = 500


def loadings(
    covariance: Float[np.ndarray, "d d"],
    latent_dim: int,
    *,
    share: float = 0.5,
    least: Float[np.ndarray, " d"] | None = None,
) -> tuple[Float[np.ndarray, "d l"], Float[np.ndarray, " d"]]:
    r"""Loadings W and residual variances r with :math:`W W^\top + \mathrm{diag}(r) = \Sigma`.

    With as many latents as columns it is exact: the residuals are the ``share`` of the largest multiple of
    :math:`1 / (\Sigma^{-1})_{jj}`, what the other columns leave of column j, that can be taken from the diagonal. With
    fewer latents, or where columns have to keep some variance, it is the factor analysis of the covariance, by EM
    (Rubin & Thayer 1982).

    Args:
        covariance: positive definite.
        latent_dim: l.
        share: between 0 and 1.
        least: what each column keeps of variance, as the law's ``least_residual`` says; None for nothing.

    Returns:
        The loadings, and the residual variances.

    Raises:
        ValueError: a ``share`` outside (0, 1), or more latents than columns.
    """
    size = len(covariance)
    if not 0 < share < 1:
        raise checks.problem("share", got=share, expected="a number between 0 and 1", fix="0.5 is a good one.")
    if latent_dim > size:
        raise checks.problem(
            "latent_dim", got=latent_dim, expected=f"at most the number of features, {size}", fix="Leave it out."
        )
    least = np.zeros(size) if least is None else least
    if latent_dim == size and not least.any():
        left = 1 / np.diag(np.linalg.inv(covariance))
        scaled = covariance / np.sqrt(np.outer(left, left))
        residual = share * min(1.0, float(np.linalg.eigvalsh(scaled)[0])) * left
        values, vectors = np.linalg.eigh(covariance - np.diag(residual))
        return (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1].copy(), residual
    values, vectors = np.linalg.eigh(covariance)
    rest = values[: size - latent_dim].mean() if latent_dim < size else least.mean()
    weight = vectors[:, size - latent_dim :] * np.sqrt(np.maximum(values[size - latent_dim :] - rest, 0.0))
    floor = np.maximum(least, 1e-3 * np.diag(covariance))
    residual = np.maximum(np.diag(covariance) - (weight**2).sum(1), floor)
    for _ in range(SWEEPS):
        scaled = weight / residual[:, None]
        left = np.linalg.inv(np.eye(latent_dim) + weight.T @ scaled)
        regression = left @ scaled.T
        weight = covariance @ regression.T @ np.linalg.inv(left + regression @ covariance @ regression.T)
        residual = np.maximum(np.diag(covariance - weight @ regression @ covariance), floor)
    return weight[:, ::-1].copy(), residual


def start(law: Any, gaussian: Gaussian, latent_dim: int, hidden: Sequence[int]) -> dict[str, np.ndarray]:
    """The parameters at which a program with linear paths in decoder and posterior is the normal.

    Args:
        law: the observation law.
        gaussian: of the law's features.
        latent_dim: how many latents.
        hidden: the widths of the hidden layers of both networks.

    Returns:
        By name: the decoder's linear path and its bias, the networks' last layers silent, the law's own parameters, and
        the posterior's.

    Raises:
        ValueError: more latents than features, or a law without a linear-Gaussian start.
    """
    weight, residual = loadings(gaussian.covariance, latent_dim, least=law.least_residual())
    path, bias, own = law.from_gaussian(gaussian.mean, weight, residual)
    last = f"layers.{len(hidden)}"
    width = hidden[-1] if hidden else None
    return {
        "decoder.skip.weight": path,
        f"decoder.{last}.weight": np.zeros((len(bias), width or latent_dim)),
        f"decoder.{last}.bias": bias,
        f"encoder.{last}.weight": np.zeros((2 * latent_dim, width or 2 * len(weight))),
        f"encoder.{last}.bias": np.zeros(2 * latent_dim),
        **{f"observation.{name}": value for name, value in own.items()},
        "posterior.weight": weight,
        "posterior.bias": gaussian.mean,
        "posterior.raw_scale": raw_scale(np.sqrt(residual)),
    }


def evidence(
    features: Float[Any, "n f"],
    observed: Float[Any, "n f"],
    weight: Float[Any, "f l"],
    bias: Float[Any, " f"],
    residual: Float[Any, " f"],
) -> tuple[Float[Any, "n l l"], Float[Any, "n l"]]:
    r"""Precision and potential of z given the observed features, z ~ N(0, I), feature_j ~ N(w_j'z + b_j, r_j).

    .. math:: P = I + \sum_{j\ \mathrm{observed}} w_j w_j^\top / r_j, \quad
        h = \sum_{j\ \mathrm{observed}} w_j (f_j - b_j) / r_j, \quad z \mid f \sim N(P^{-1} h, P^{-1})

    Args:
        features: finite everywhere; where not observed they do not count.
        observed: one or zero.
        weight: w_j in the rows.
        bias: b.
        residual: r, positive.

    Returns:
        P and h of each row.
    """
    xp = array_api_compat.array_namespace(features)
    size, dim = weight.shape
    share = observed / residual
    products = xp.reshape(weight[:, :, None] * weight[:, None, :], (size, dim * dim))
    identity = xp.eye(dim, dtype=weight.dtype, device=array_api_compat.device(weight))
    precision = identity + xp.reshape(share @ products, (-1, dim, dim))
    return precision, (share * (features - bias)) @ weight
