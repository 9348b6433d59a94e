"""The losses that contrast data with what is not data, and what their settings have to be."""

import math
from typing import Any

from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen import checks
from deepgen.math.sigmoid import log_sigmoid

STATE = "deepgen$chains"
"""Where the state of an objective that runs chains lies among a fit's parameters."""


def divergence(
    data: Float[Any, " n"], samples: Float[Any, " m"], penalty: float, energies: tuple[Any, Any] | None
) -> tuple[Any, Any]:
    r"""The loss whose gradient is that of contrastive divergence, and the gap that it measures.

    .. math:: \sum_i U(x_i) - \frac{n}{m} \sum_j U(x^-_j)
        + \lambda \left(\sum_i E(x_i)^2 + \frac{n}{m} \sum_j E(x^-_j)^2\right), \qquad U = -\log f

    Args:
        data: U of the data.
        samples: U of the ends of chains, through which no gradient goes.
        penalty: lambda, on the magnitude of energies.
        energies: E of both, or None where there is no penalty.

    Returns:
        The loss, and mean U(x) - mean U(x-): nats.

    References:
        Hinton 2002, "Training products of experts by minimizing contrastive divergence"; Du and Mordatch 2019,
        "Implicit generation and modeling with energy-based models" (the penalty).
    """
    xp = array_namespace(data)
    n = data.shape[0]
    gap = xp.mean(data) - xp.mean(samples)
    loss = n * gap
    if energies is not None:
        loss = loss + penalty * n * (xp.mean(energies[0] ** 2) + xp.mean(energies[1] ** 2))
    return loss, gap


def noise_contrast(data: Float[Any, " n"], noise: Float[Any, " m"], ratio: int) -> Any:
    r"""The loss of telling data from noise, of which there is ``ratio`` times as much.

    .. math:: \sum_i \mathrm{softplus}(\log \nu - r(x_i)) + \sum_j \mathrm{softplus}(r(x^-_j) - \log \nu)

    Args:
        data: r(x) = log f(x) - log noise(x) of the data.
        noise: r of nu times as many draws of the noise.
        ratio: nu.

    Returns:
        Nats, summed over the data.

    References:
        Gutmann and Hyvärinen 2010, "Noise-contrastive estimation: a new estimation principle for unnormalized
        statistical models".
    """
    xp = array_namespace(data)
    log_ratio = math.log(ratio)
    return -xp.sum(log_sigmoid(data - log_ratio)) - xp.sum(log_sigmoid(log_ratio - noise))


def check_settings(num_steps: Any, data_noise: Any, penalty: Any) -> None:
    """Refuse the settings of contrastive divergence.

    Raises:
        ValueError: naming the argument.
    """
    checks.at_least("num_steps", num_steps, 1)
    checks.positive("data_noise", data_noise, zero=True)
    checks.positive("penalty", penalty, zero=True)


def check_buffer(num_chains: Any, buffer_size: Any, reinitialised: Any) -> None:
    """Refuse the settings of a buffer.

    Raises:
        ValueError: naming the argument.
    """
    if num_chains is not None:
        checks.at_least("num_chains", num_chains, 1)
    if buffer_size is not None:
        checks.at_least("buffer_size", buffer_size, 1 if num_chains is None else num_chains)
    if not 0 <= reinitialised <= 1:
        raise checks.problem(
            "reinitialised",
            got=reinitialised,
            expected="a share in [0, 1]",
            fix="0.05 is usual; 0 never starts afresh.",
        )


def no_law(sites: list[str]) -> ValueError:
    """The error for a model without a site to contrast.

    Args:
        sites: the observed ones.
    """
    return checks.problem(
        "model",
        got=f"observed sites {sites}, none with an unnormalised law",
        expected="one observed site whose law is EnergyBased, outside of masks",
        fix="Observe it, numpyro.sample or pyro.sample(name, EnergyBased(base, energy), obs=x); or take the ELBO.",
    )


def refuse_latent(name: str) -> None:
    """Refuse a model with latents.

    Raises:
        ValueError: naming the latent.
    """
    raise checks.problem(
        f"latent {name!r}",
        got="a latent beside an unnormalised law",
        expected="observed sites only",
        fix="Sum or integrate it out in the energy, or run MCMC over it.",
    )


def refuse_noise(data_noise: float, discrete: bool) -> None:
    """Refuse noise on zeros and ones.

    Raises:
        ValueError: there is some.
    """
    if data_noise and discrete:
        raise checks.problem(
            "data_noise",
            got=f"{data_noise} on zeros and ones",
            expected="0",
            fix="Leave it out: noise is for real numbers.",
        )


def no_state(engine: str) -> ValueError:
    """The error for persistent chains in a loop that does not carry them.

    Args:
        engine: whose loop it is.
    """
    return checks.problem(
        "PersistentContrastiveDivergence",
        got=f"a plain {engine} SVI, which carries no chains from step to step",
        expected="`fit`, which does",
        fix="Train with fit(..., objective=...), or take ContrastiveDivergence, whose chains start at the data.",
    )
