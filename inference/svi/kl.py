"""The KL terms of an evidence lower bound: which have a closed form, how they are grouped, and free bits."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from array_api_compat import array_namespace

from deepgen import checks

JOINT = "the joint latent"


def closed_form_sites(model_order: Sequence[str], guide_order: Sequence[str]) -> set[str]:
    """The latent sites whose KL may be taken site by site, in closed form.

    E_q[log q(z_i | parents in the guide) - log p(z_i | parents in the model)] is a KL of the two conditionals only
    where no model parent of z_i is drawn after z_i in the guide. That holds for certain where every latent before z_i
    in the model is also before it in the guide.

    Args:
        model_order: the latents that model and guide share, in the model's order.
        guide_order: the same names, in the guide's order.

    Returns:
        The names for which that holds; for the others log q - log p of the draw is unbiased, whatever the order.

    >>> sorted(closed_form_sites(["z2", "z1"], ["z2", "z1"]))
    ['z1', 'z2']
    >>> sorted(closed_form_sites(["z2", "z1"], ["z1", "z2"]))
    ['z2']
    """
    return {
        name
        for i, name in enumerate(model_order)
        if set(model_order[:i]) <= set(guide_order[: guide_order.index(name)])
    }


def same_scale(a: Any, b: Any) -> bool:
    """Whether two sites' scales are certainly the same."""
    return a is b or (isinstance(a, int | float) and isinstance(b, int | float) and a == b)


def group_of(latents: Iterable[str], auxiliary: Iterable[str]) -> dict[str, str]:
    """The group that each site of the guide belongs to: free bits are granted to a group as a whole.

    A latent site is a group of its own. An auxiliary site of the guide (one that the model does not have) named
    ``<latent>_unconstrained``, as the automatic guides name it, joins that latent's group. Any other auxiliary site
    carries the density of several latents at once, and then all of them form one group.

    Args:
        latents: the latents that model and guide share.
        auxiliary: the other sites of the guide.

    Returns:
        From site to group.

    >>> group_of(["a", "b"], ["a_unconstrained"])
    {'a': 'a', 'b': 'b', 'a_unconstrained': 'a'}
    """
    groups = {name: name for name in latents}
    for name in auxiliary:
        groups[name] = groups.get(name.removesuffix("_unconstrained"), JOINT)
    if JOINT in groups.values():
        return dict.fromkeys(groups, JOINT)
    return groups


def free_bits_of(group: str, free_bits: float | Mapping[str, float]) -> float:
    """The nats that a group has free: the number itself, or the group's entry of a dictionary (0 where it has none)."""
    return float(free_bits.get(group, 0.0)) if isinstance(free_bits, Mapping) else float(free_bits)


def penalised(kl: Any, rows: Any, free_bits: float) -> Any:
    """Free bits: the KL of a group of latents, counted from ``free_bits`` nats a row on.

    rows * max(KL / rows, free_bits), where KL is the sum over the minibatch's rows: the minimum is applied to the
    average over the minibatch, not row by row (Kingma et al. 2016, "Improving variational inference with inverse
    autoregressive flow", equation 15). Without free bits it is the KL itself, of either sign.

    Args:
        kl: the sum of the KL over the rows, in nats; a scalar array.
        rows: how many rows (scaled as the KL is) the sum runs over.
        free_bits: nats a row.

    Returns:
        The penalised sum, in nats.
    """
    if free_bits == 0.0:
        return kl
    xp = array_namespace(kl)
    return xp.maximum(kl, xp.zeros_like(kl) + rows * free_bits)


def check_settings(beta: Any, free_bits: float | Mapping[str, float], num_particles: Any) -> None:
    """Refuse what no objective can mean.

    Raises:
        ValueError: naming the argument.
        TypeError: a beta that is neither a number nor callable.
    """
    if isinstance(beta, int | float):
        checks.positive("beta", beta, zero=True)
    elif not callable(beta):
        raise TypeError(
            f"beta: got {type(beta).__name__}; expected a number >= 0 or a schedule, a callable from the step to one. "
            "Pass e.g. beta=0.5 or beta=Linear(1000)."
        )
    for name, value in free_bits.items() if isinstance(free_bits, Mapping) else [("", free_bits)]:
        checks.positive(f"free_bits[{name!r}]" if name else "free_bits", value, zero=True)
    check_particles(num_particles)


def check_particles(num_particles: Any) -> None:
    """Refuse a number of draws that is none.

    Raises:
        ValueError: below 1.
        TypeError: no integer.
    """
    if isinstance(num_particles, bool) or not isinstance(num_particles, int):
        raise TypeError(f"num_particles: got {num_particles!r}; expected an integer >= 1. Pass one.")
    checks.positive("num_particles", num_particles)


def check_groups(free_bits: float | Mapping[str, float], groups: Iterable[str]) -> None:
    """Refuse free bits for a group that the guide does not have.

    Raises:
        ValueError: naming the unknown groups and those that exist.
    """
    groups = sorted(set(groups))
    unknown = sorted(set(free_bits) - set(groups)) if isinstance(free_bits, Mapping) else []
    if unknown:
        raise checks.problem(
            "free_bits",
            got=f"the latent groups {unknown}",
            expected=f"some of {groups}",
            fix="Name latent sites of the guide; where an auxiliary site is shared by all of them, pass one number.",
        )


def no_gradient(name: str, distribution: Any, where: str, alternatives: str) -> ValueError:
    """The error for a latent site that cannot be differentiated through."""
    return checks.problem(
        f"latent site {name!r} in the {where}",
        got=f"{type(distribution).__name__}, which has no reparameterised sampler",
        expected="a distribution whose draws can be differentiated",
        fix=f"Use {alternatives} as the objective, or a continuous relaxation of this latent.",
    )
