"""Which latents a posterior uses."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from deepgen import checks


class PosteriorCollapseWarning(UserWarning):
    """No latent of a variational autoencoder carries information about the data."""


class ActiveUnits(NamedTuple):
    """Which latents are in use.

    Attributes:
        num_active: how many are active.
        active: (latent_dim,) which.
        variance: (latent_dim,) Var_x(E_q[z | x]).
        kl: (latent_dim,) the mean over rows of KL(q(z_j | x) || N(0, 1)), nats.
    """

    num_active: int
    active: Bool[np.ndarray, " d"]
    variance: Float[np.ndarray, " d"]
    kl: Float[np.ndarray, " d"]


def active_units(
    loc: Float[np.ndarray, "n d"], scale: Float[np.ndarray, "n d"], threshold: float = 0.01
) -> ActiveUnits:
    r"""Latent j is active when Var_x(E_{q(z|x)}[z_j]) > threshold (Burda, Grosse & Salakhutdinov 2016, section 5).

    Args:
        loc: each row's posterior means.
        scale: each row's posterior standard deviations.
        threshold: the variance above which a latent counts.

    Returns:
        The activity of every latent.

    Raises:
        ValueError: fewer than two rows, or a threshold that is not positive.
    """
    checks.positive("threshold", threshold)
    if len(loc) < 2:
        raise checks.problem("x", got=f"{len(loc)} row", expected="two rows or more", fix="Pass more rows.")
    loc, scale = np.asarray(loc, dtype=float), np.asarray(scale, dtype=float)
    variance = loc.var(0)
    kl = (0.5 * (loc**2 + scale**2 - 1) - np.log(scale)).mean(0)
    active = variance > threshold
    return ActiveUnits(int(active.sum()), active, variance, kl)


def diagnose(units: ActiveUnits) -> list[Warning]:
    """What to tell a user of a posterior: a warning when it has collapsed, else nothing."""
    if units.num_active:
        return []
    return [
        PosteriorCollapseWarning(
            f"the posterior has collapsed: none of the {len(units.active)} latents is active (largest variance of a "
            f"posterior mean {units.variance.max():.2g}, mean KL {units.kl.sum():.2g} nats). Train longer, warm beta "
            "up from 0 (ELBO(beta=Linear(...))), set free_bits, or weaken the decoder."
        )
    ]
