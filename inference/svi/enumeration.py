"""What the bounds that sum out a discrete latent have in common: which site, and what may stand beside it."""

from collections.abc import Iterator, Mapping
from typing import Any

from deepgen import checks
from deepgen.inference.svi import kl


def check_settings(alpha: Any, num_particles: Any) -> None:
    """Refuse what the objective cannot mean.

    Raises:
        ValueError: naming the argument.
        TypeError: a number of draws that is no integer.
    """
    checks.positive("alpha", alpha, zero=True)
    kl.check_particles(num_particles)


def is_marked(site: Mapping[str, Any]) -> bool:
    """Whether a site is to be enumerated."""
    return site["type"] == "sample" and (site["infer"] or {}).get("enumerate") == "parallel"


def marked_site(p: Mapping[str, Any], q: Mapping[str, Any]) -> str:
    """The one latent of the guide that is summed out.

    Args:
        p: the model's sample sites.
        q: the guide's sample sites.

    Returns:
        Its name.

    Raises:
        ValueError: there is none, or more than one, or the model lacks it.
    """
    marked = [name for name, site in q.items() if is_marked(site) and not site["is_observed"]]
    if len(marked) != 1:
        raise checks.problem(
            "guide",
            got=f"{marked or 'no site'} marked to be enumerated",
            expected="one discrete latent with infer={'enumerate': 'parallel'}",
            fix="Mark one; for several use the engine's own TraceEnum_ELBO, for none ELBO.",
        )
    if marked[0] not in p:
        raise checks.problem(
            f"latent {marked[0]!r}", got="a site of the guide alone", expected="one of the model too", fix="Add it."
        )
    return marked[0]


def check_others(p: Mapping[str, Any], q: Mapping[str, Any], name: str, alternatives: str) -> None:
    """Refuse a further latent without a reparameterised sampler.

    Raises:
        ValueError: naming it.
    """
    for where, sites in (("model", p), ("guide", q)):
        for other, site in sites.items():
            latent = other != name and not site["is_observed"] and (where == "guide" or other not in q)
            if latent and not site["fn"].has_rsample:
                raise kl.no_gradient(other, site["fn"], where, alternatives)


def pairs(p: Mapping[str, Any], q: Mapping[str, Any]) -> Iterator[tuple[Any, Any, bool]]:
    """What counts in log p - log q: a latent's two sites together, a site of one side alone with None.

    A latent of the model alone is drawn from the model and cancels. With each comes whether its KL may be taken in
    closed form: the latent is not the summed one, and comes after the same latents in the guide as in the model.
    """
    shared = [name for name, site in p.items() if name in q and not site["is_observed"]]
    closed = kl.closed_form_sites(shared, [name for name in q if name in shared])
    for name, site in p.items():
        if name in q or site["is_observed"]:
            yield site, q.get(name), name in closed and not is_marked(q[name])
    yield from ((None, site, False) for name, site in q.items() if name not in p)


def check_shape(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse a site that does not stand in the plates of the summed latent, and would be counted once for each row.

    Raises:
        ValueError: naming the site.
    """
    if tuple(shape[-len(wanted) + 1 :]) != tuple(wanted[1:]) or len(shape) > len(wanted):
        raise checks.problem(
            f"site {name!r}",
            got=f"a log density of shape {tuple(shape)}",
            expected=f"one of shape {tuple(wanted[1:])}, or {tuple(wanted)} with the values in front",
            fix="Declare it in the plates of the latent that is summed out, or use the engine's own TraceEnum_ELBO.",
        )
