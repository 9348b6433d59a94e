"""The site with an unnormalised law, in the trace of a Pyro model."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from pyro import poutine

from deepgen.inference.contrastive import contrast
from deepgen.inference.svi.pyro.traces import scaled_log_density
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
    x: torch.Tensor
    scale: Any
    others: torch.Tensor


def observed(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    data_noise: float = 0.0,
) -> Observed:
    """The observed site with an unnormalised law.

    Args:
        model: the model.
        args: of the model.
        kwargs: of the model.
        data_noise: what is to be added to the data.

    Returns:
        The law at the current parameters, and its data.

    Raises:
        ValueError: no such site or several, latents, a mask, or noise on zeros and ones.
    """
    with _Watch() as watch:
        model(*args, **kwargs)
    sites = {
        name: site
        for name, site in watch.trace.nodes.items()
        if site["type"] == "sample" and not poutine.util.site_is_subsample(site)
    }
    laws = {name: law_of(site["fn"]) for name, site in sites.items() if site["mask"] is None}
    named = [name for name, law in laws.items() if law is not None]
    if len(named) != 1:
        raise contrast.no_law(list(sites))
    # chains have another number of rows than the plate
    site, law = sites[named[0]], laws[named[0]].expand(())
    contrast.refuse_noise(data_noise, bool(law.base.support.is_discrete))
    others = [-scaled_log_density(other).sum() for name, other in sites.items() if name != named[0]]
    value: Any = site["value"]
    x = value.reshape(-1, *law.event_shape)
    return Observed(law, x, site["scale"], sum(others, x.new_zeros(())))


class _Watch(poutine.trace_messenger.TraceMessenger):
    """A trace that refuses latents before they are drawn."""

    def _pyro_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not poutine.util.site_is_subsample(msg):
            contrast.refuse_latent(msg["name"])
