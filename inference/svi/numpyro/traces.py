"""One draw of a guide in NumPyro and the model at it, as every objective here takes it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import distributions as dist
from numpyro import handlers
from numpyro.distributions.kl import kl_divergence
from numpyro.util import check_model_guide_match

from deepgen.inference.svi import kl as terms

__all__ = ["check_differentiable", "draw_traces", "log_density"]

STEP = "deepgen$step"


def draw_traces(
    rng_key: jax.Array,
    param_map: Mapping[str, Any],
    model: Callable[..., Any],
    guide: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """One draw of the guide, and the model at it.

    Args:
        rng_key: the key.
        param_map: by param or mutable site, its value.
        model: the model.
        guide: the guide.
        args: of both.
        kwargs: of both.

    Returns:
        The model's trace, the guide's trace, and the new values of the mutable sites.
    """
    model_key, guide_key = jax.random.split(rng_key)
    guide = handlers.substitute(handlers.seed(guide, guide_key), data=param_map)
    guide_trace = handlers.trace(guide).get_trace(*args, **kwargs)
    mutable = {name: site["value"] for name, site in guide_trace.items() if site["type"] == "mutable"}
    model = handlers.replay(handlers.seed(model, model_key), guide_trace)
    model = handlers.substitute(model, data={**param_map, **mutable})
    model_trace = handlers.trace(model).get_trace(*args, **kwargs)
    mutable.update({name: site["value"] for name, site in model_trace.items() if site["type"] == "mutable"})
    check_model_guide_match(model_trace, guide_trace)
    return model_trace, guide_trace, mutable


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
                    name, site["fn"], where, "EnumELBO, numpyro.infer.TraceGraph_ELBO or TraceEnum_ELBO"
                )


def check_mutable(mutable: Mapping[str, Any], num_particles: int) -> None:
    """Refuse mutable sites (other than the step that `count_steps` counts) beside more than one draw.

    Raises:
        ValueError: naming the sites.
    """
    if num_particles > 1 and mutable.keys() - {STEP}:
        raise ValueError(
            f"mutable sites {sorted(mutable.keys() - {STEP})} with num_particles={num_particles}: each "
            "draw would leave its own state. Use num_particles=1."
        )


def next_state(mutable: Mapping[str, Any], param_map: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an objective leaves in the mutable sites: the counter of `count_steps`, if there is one, moved on."""
    step = {} if STEP not in param_map else {STEP: param_map[STEP] + 1}
    return {**mutable, **step} or None


def log_density(site: Mapping[str, Any]) -> jax.Array:
    """log p of the site's value, masked and not scaled, (batch shape)."""
    value, intermediates = site["value"], site["intermediates"]
    return site["fn"].log_prob(value, intermediates) if intermediates else site["fn"].log_prob(value)


def scaled_log_density(site: Mapping[str, Any]) -> jax.Array:
    """log p of the site's value, scaled and masked, (batch shape)."""
    log_prob = log_density(site)
    return log_prob if site["scale"] is None else site["scale"] * log_prob


def divergence(p: Mapping[str, Any], q: Mapping[str, Any], *, closed: bool) -> jax.Array:
    """KL(q || p) of a site, scaled and masked: in closed form where it is valid and known, else log q - log p."""
    if (
        closed
        and terms.same_scale(p["scale"], q["scale"])
        and not (p.get("_control_flow_done") or q.get("_control_flow_done"))
    ):
        (p_base, p_mask), (q_base, q_mask) = unmask(p["fn"]), unmask(q["fn"])
        try:
            value = kl_divergence(q_base, p_base)
        except NotImplementedError:
            value = None
        if value is not None and value.shape == tuple(q_base.batch_shape) == tuple(p_base.batch_shape):
            if p_mask is not q_mask:
                # Where only one of them is masked, the bound has log q or log p alone.
                log_q, log_p = q_base.log_prob(q["value"]), p_base.log_prob(p["value"])
                value = jnp.where(q_mask, jnp.where(p_mask, value, log_q), jnp.where(p_mask, -log_p, 0.0))
            elif q_mask is not True:
                value = jnp.where(q_mask, value, 0.0)
            return value if q["scale"] is None else q["scale"] * value
    return scaled_log_density(q) - scaled_log_density(p)


def unmask(fn: Any) -> tuple[Any, Any]:
    """A law without its mask, and the mask."""
    return (fn.base_dist, fn._mask) if isinstance(fn, dist.MaskedDistribution) else (fn, True)
