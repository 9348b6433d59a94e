"""One draw of a guide in Pyro and the model at it, as every objective here takes it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import site_is_subsample
from pyro.util import check_model_guide_match, check_site_shape
from torch.distributions import kl_divergence

from deepgen.inference.svi import kl as terms

__all__ = ["check_differentiable", "draw_traces", "log_density"]


def draw_traces(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    around_guide: AbstractContextManager[Any] | None = None,
) -> tuple[poutine.Trace, poutine.Trace]:
    """One draw of the guide, and the model at it.

    Args:
        model: the model.
        guide: the guide.
        args: of both.
        kwargs: of both.
        around_guide: a handler that sees the guide's sites before the trace does, and the model's not at all.

    Returns:
        The model's trace and the guide's trace.
    """
    messenger = poutine.unwrap(guide)
    if isinstance(messenger, poutine.messenger.Messenger):
        guide(*args, **kwargs)
        return messenger.get_traces()  # type: ignore[attr-defined]
    with around_guide or nullcontext(), poutine.trace() as of_guide:
        guide(*args, **kwargs)
    with poutine.trace() as of_model, poutine.replay(trace=of_guide.trace):
        model(*args, **kwargs)
    return of_model.trace, of_guide.trace


def checked(
    model_trace: poutine.Trace, guide_trace: poutine.Trace, max_plate_nesting: float
) -> tuple[poutine.Trace, poutine.Trace]:
    """The traces without the sites of subsampled indices, after Pyro's own checks where its validation is on."""
    if is_validation_enabled():
        check_model_guide_match(model_trace, guide_trace, max_plate_nesting)
    traces = model_trace, guide_trace
    for trace in traces:
        for name in [name for name, site in trace.nodes.items() if site_is_subsample(site)]:
            trace.remove_node(name)
    if is_validation_enabled():
        for trace in traces:
            trace.compute_log_prob()
            for site in trace.nodes.values():
                if site["type"] == "sample":
                    check_site_shape(site, max_plate_nesting)  # type: ignore[arg-type]
    return traces


def check_differentiable(p: Mapping[str, Any], q: Mapping[str, Any]) -> None:
    """Refuse latents without a reparameterised sampler.

    Args:
        p: the model's sample sites.
        q: the guide's sample sites.

    Raises:
        ValueError: naming the latent.
    """
    for where, sites in (("model", p), ("guide", q)):
        for name, site in sites.items():
            if not site["is_observed"] and (where == "guide" or name not in q) and not site["fn"].has_rsample:
                raise terms.no_gradient(
                    name, site["fn"], where, "EnumELBO, pyro.infer.TraceGraph_ELBO or TraceEnum_ELBO"
                )


def log_density(site: Mapping[str, Any]) -> torch.Tensor:
    """log p of the site's value, masked and not scaled, (batch shape)."""
    log_prob = site.get("unscaled_log_prob")
    if log_prob is None:
        log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, mask=site["mask"])


def scaled_log_density(site: Mapping[str, Any]) -> torch.Tensor:
    """log p of the site's value, scaled and masked, (batch shape)."""
    if "log_prob" in site:
        return site["log_prob"]
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, site["scale"], site["mask"])


def divergence(p: Mapping[str, Any], q: Mapping[str, Any], *, closed: bool) -> torch.Tensor:
    """KL(q || p) of a site, scaled and masked: in closed form where it is valid and known, else log q - log p."""
    if closed and terms.same_scale(p["scale"], q["scale"]):
        try:
            value = kl_divergence(q["fn"], p["fn"])
        except NotImplementedError:
            value = None
        if value is not None and value.shape == q["fn"].batch_shape == p["fn"].batch_shape:
            if p["mask"] is q["mask"]:
                return scale_and_mask(value, q["scale"], q["mask"])
            # Where only one of them is masked, the bound has log q or log p alone.
            p_mask, q_mask = _mask(p, value), _mask(q, value)
            log_q, log_p = q["fn"].log_prob(q["value"]), p["fn"].log_prob(p["value"])
            unguided = torch.where(p_mask, -log_p, torch.zeros_like(value))
            return torch.where(q_mask, torch.where(p_mask, value, log_q), unguided) * q["scale"]
    return scaled_log_density(q) - scaled_log_density(p)


def _mask(site: Mapping[str, Any], like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(True if site["mask"] is None else site["mask"], device=like.device)
