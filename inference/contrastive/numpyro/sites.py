"""The site with an unnormalised law, in the trace of a NumPyro model."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from numpyro import distributions as dist
from numpyro import handlers

from deepgen.inference.contrastive import contrast
from deepgen.inference.svi.numpyro.traces import scaled_log_density
from deepgen.program.unnormalised import law_of


class Observed(NamedTuple):
    """What is to be contrasted.

    Attributes:
        law: the unnormalised law.
        x: (n, *event_shape) the data.
        scale: what its log density is multiplied by.
        others: minus the log density of the other observed sites.
    """

    law: Any
    x: jax.Array
    scale: Any
    others: jax.Array


def observed(
    param_map: dict[str, Any],
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    data_noise: float = 0.0,
) -> Observed:
    """The observed site with an unnormalised law.

    Args:
        param_map: by param site, its value.
        model: the model.
        args: of the model.
        kwargs: of the model.
        data_noise: what is to be added to the data.

    Returns:
        The law at these parameters, and its data.

    Raises:
        ValueError: no such site or several, latents, a mask, or noise on zeros and ones.
    """
    given = handlers.substitute(handlers.seed(model, jax.random.key(0)), data=param_map)
    trace = handlers.trace(given).get_trace(*args, **kwargs)
    sites = {name: site for name, site in trace.items() if site["type"] == "sample"}
    for name, site in sites.items():
        if not site["is_observed"]:
            contrast.refuse_latent(name)
    laws = {name: law_of(site["fn"]) for name, site in sites.items() if not _masked(site["fn"])}
    named = [name for name, law in laws.items() if law is not None]
    if len(named) != 1:
        raise contrast.no_law(list(sites))
    site, law = sites[named[0]], laws[named[0]]
    contrast.refuse_noise(data_noise, bool(law.base.support.is_discrete))
    others = [-scaled_log_density(other).sum() for name, other in sites.items() if name != named[0]]
    x = jnp.asarray(site["value"]).reshape(-1, *law.event_shape)
    scale = 1.0 if site["scale"] is None else site["scale"]
    return Observed(law, x, scale, sum(others, jnp.zeros(())))


def _masked(fn: Any) -> bool:
    return isinstance(fn, dist.MaskedDistribution) and fn._mask is not True
