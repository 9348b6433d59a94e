"""Which latents a posterior uses."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from deepgen import checks
from deepgen.models.vae.hierarchy import Level


class PosteriorCollapseWarning(UserWarning):
    """No latent of a variational autoencoder, or of one of its levels, carries information about the data."""


class ActiveUnits(NamedTuple):
    """Which latents are in use; of several levels one behind the other, from the data up.

    Attributes:
        num_active: how many are active.
        active: (latent_dim,) which.
        variance: (latent_dim,) Var_x(E_q[z | x]); of a level below the top in units of what the level above leaves.
        kl: (latent_dim,) the mean over rows of the KL from its prior, N(0, 1) at the top, to q(z_j | x), nats.
        level: (latent_dim,) the level of each, counted from the data, from 1.
    """

    num_active: int
    active: Bool[np.ndarray, " d"]
    variance: Float[np.ndarray, " d"]
    kl: Float[np.ndarray, " d"]
    level: Int[np.ndarray, " d"]


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
    return ActiveUnits(int(active.sum()), active, variance, kl, np.ones(len(active), dtype=int))


def of_levels(levels: Sequence[Level], threshold: float = 0.01) -> ActiveUnits:
    r"""Which latents of which level a posterior uses, each against the prior that the level above leaves to it.

    A latent below the top moves with x already because the level above does. It is active where it says something of
    its own: `active_units` of its shift from the mean of p(z_l | z_{l+1}) in units of that law's standard deviation,
    whose KL from N(0, 1) is the level's own. Levels above are at the means of their posteriors, where an expectation
    over their draws would stand. At the top, and with one level, it is the statistic of Burda et al. itself.

    Args:
        levels: of the program, from the data up.
        threshold: the variance above which a latent counts.

    Returns:
        The activity of every latent.

    Raises:
        ValueError: as `active_units`.
    """
    shift, ratio = (np.concatenate(parts, axis=1) for parts in zip(*(level[2:] for level in levels), strict=True))
    found = active_units(shift, ratio, threshold)
    return found._replace(level=np.repeat(np.arange(len(levels)) + 1, [level.loc.shape[1] for level in levels]))


def diagnose(units: ActiveUnits) -> list[Warning]:
    """What to tell a user of a posterior: a warning for each level that has collapsed, else nothing."""
    found: list[Warning] = []
    several = units.level.max() > 1
    for level in np.unique(units.level):
        own = units.level == level
        if not units.active[own].any():
            found.append(
                PosteriorCollapseWarning(
                    f"the posterior has collapsed{f' at level {level}' if several else ''}: none of the {own.sum()} "
                    f"latents is active (largest variance of a posterior mean {units.variance[own].max():.2g}, mean KL "
                    f"{units.kl[own].sum():.2g} nats). Train longer, warm beta up from 0 (ELBO(beta=Linear(...))), set "
                    "free_bits, or weaken the decoder."
                )
            )
    return found
