"""One draw of a guide in NumPyro and the model at it, as every objective here takes it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from numpyro import handlers
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
