"""What an automatic guide by a flow is made from: a named recipe, or transforms that fit the latents."""

from collections.abc import Mapping
from typing import Any

from deepgen import checks

RECIPES = ("realnvp", "nsf", "maf", "iaf")
COUPLINGS = ("realnvp", "nsf")
SMALL = {"num_transforms": 4, "hidden": (32, 32)}
"""What a recipe has where nothing else is said: latents of a model are few."""
OWN = {name: {"max_log_scale": 2.0} for name in ("realnvp", "maf", "iaf")}
"""What single recipes have besides. A guide's loss is of its own draws: where a network extrapolates, a rare one is
carried off by exp of all log-scales together, and a single such loss throws the optimizer off."""


def defaults(flow: str) -> dict[str, Any]:
    """The options of a recipe where nothing else is said.

    Args:
        flow: its name.
    """
    return {**SMALL, **OWN.get(flow, {})}


def check_arguments(flow: Any, init_scale: float, options: Mapping[str, Any] | None) -> None:
    """Refuse what is no recipe, what a recipe alone can use, and a scale that is none.

    Args:
        flow: a recipe's name, or transforms.
        init_scale: the standard deviation of the guide at first.
        options: of the recipe, or None.

    Raises:
        ValueError: an unknown recipe, no transforms, options beside transforms, or a scale that is not positive.
    """
    checks.positive("init_scale", init_scale)
    if isinstance(flow, str):
        checks.one_of("flow", flow, RECIPES)
    elif not isinstance(flow, list | tuple):
        raise checks.problem(
            "flow",
            got=type(flow).__name__,
            expected=f"a list of transforms, or one of {RECIPES}",
            fix="Pass e.g. [SplineCoupling.mlp(...), LULinear(size)], or the transforms of a flow.",
        )
    elif options is not None:
        raise checks.problem(
            "options", got=options, expected="None beside a list of transforms", fix="Make the transforms with them."
        )


def check_size(flow: Any, latent_dim: int, event_shape: Any, context_dim: int) -> None:
    """Refuse transforms of another number of entries than the model has latents.

    Args:
        flow: a recipe's name, or transforms.
        latent_dim: how many unconstrained numbers the model's latents are.
        event_shape: of what the transforms make of that many numbers; of a recipe is not looked at.
        context_dim: of the transforms.

    Raises:
        ValueError: couplings of a single latent, other shapes, or transforms that want a context.
    """
    if flow in COUPLINGS and latent_dim == 1:
        raise checks.problem(
            "flow",
            got=f"{flow!r} for one latent",
            expected="transforms that do not split the latents in two",
            fix="Take 'maf' or 'iaf', of one latent both affine, or a SplineAutoregressive.",
        )
    if not isinstance(flow, str) and (tuple(event_shape) != (latent_dim,) or context_dim):
        raise checks.problem(
            "flow",
            got=f"transforms from {latent_dim} latents to {tuple(event_shape)} with context_dim={context_dim}",
            expected=f"transforms from ({latent_dim},) to ({latent_dim},) without a context",
            fix=f"Unconstrained, the model's latents are {latent_dim} numbers: make transforms of that size.",
        )
