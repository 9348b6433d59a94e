"""The losses of score matching, row by row, from scores and what was derived of them; their arguments checked once."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen import checks


@runtime_checkable
class HasScore(Protocol):
    """A law that says its score itself; that of any other is the gradient of its ``log_prob``, normalised or not."""

    def score(self, value: Any) -> Any:
        """The gradient of log p at each value, of the value's shape."""


@runtime_checkable
class Denoises(Protocol):
    """A law with a score at every level of noise."""

    def residual(self, value: Any, noise: Any, level: Any, drop: Any) -> Any:
        """What a level's score lacks on noised values, in units of the noise: σ s(α x + σ ε, σ) + ε.

        Args:
            value: (*batch, *event) data x.
            noise: ε, standard normal, of the value's shape.
            level: (*batch,) numbers in [0, 1) that choose the level of each row.
            drop: (*batch,) numbers in [0, 1) that choose whose context is hidden, where there is one.

        Returns:
            Of the value's shape.
        """


def exact(score: Float[Any, "*batch d"], trace: Float[Any, "*batch"]) -> Float[Any, "*batch"]:
    r"""Hyvärinen's loss, :math:`\mathrm{tr}\,\nabla_x s(x) + \tfrac12 \lVert s(x) \rVert^2`.

    Args:
        score: s(x) of each row, flattened.
        trace: the trace of its Jacobian.

    Returns:
        The loss of each row.
    """
    xp = array_namespace(score)
    return trace + 0.5 * xp.sum(score * score, axis=-1)


def sliced(
    score: Float[Any, "*batch d"],
    projection: Float[Any, "*batch d"],
    curvature: Float[Any, "*batch"],
    *,
    variance_reduced: bool,
) -> Float[Any, "*batch"]:
    r"""The loss along a random direction v with E[v v'] = I.

    .. math:: v^\top \nabla_x s(x)\, v + \tfrac12 (v^\top s(x))^2, \quad\text{or variance reduced}\quad
        v^\top \nabla_x s(x)\, v + \tfrac12 \lVert s(x) \rVert^2

    Args:
        score: s(x) of each row, flattened.
        projection: v.
        curvature: v' (ds/dx) v.
        variance_reduced: whether the second term is taken in expectation.

    Returns:
        The loss of each row, in expectation that of `exact`.
    """
    xp = array_namespace(score)
    if variance_reduced:
        return exact(score, curvature)
    return curvature + 0.5 * xp.sum(projection * score, axis=-1) ** 2


def denoising(residual: Float[Any, "*batch d"]) -> Float[Any, "*batch"]:
    r"""The denoising loss weighted by σ², :math:`\tfrac12 \lVert \sigma s(x + \sigma \epsilon) + \epsilon \rVert^2`.

    Args:
        residual: what is in the norm, flattened.

    Returns:
        The loss of each row.
    """
    xp = array_namespace(residual)
    return 0.5 * xp.sum(residual * residual, axis=-1)


def stratified(start: Any, size: int, like: Any) -> Any:
    """Numbers in [0, 1), each uniform, that together cover the interval evenly: (start + i / size) mod 1.

    Args:
        start: () uniform in [0, 1).
        size: how many.
        like: an array of the kind and dtype wanted.

    Returns:
        (size,).
    """
    xp = array_namespace(like)
    kwargs = {"device": like.device} if hasattr(like, "device") else {}
    return (start + xp.arange(size, dtype=like.dtype, **kwargs) / size) % 1.0


def check_sigma(sigma: Any) -> None:
    """Refuse a noise level that is neither None nor a positive number.

    Raises:
        ValueError: naming it.
    """
    if sigma is not None:
        checks.positive("sigma", sigma)


def check_projections(num_projections: Any) -> None:
    """Refuse a number of random directions that is none.

    Raises:
        ValueError: below 1.
        TypeError: no integer.
    """
    if isinstance(num_projections, bool) or not isinstance(num_projections, int):
        raise TypeError(f"num_projections: got {num_projections!r}; expected an integer >= 1. Pass one.")
    checks.at_least("num_projections", num_projections, 1)


def observed_sites(sites: Mapping[str, Any]) -> dict[str, Any]:
    """The observed sites of a model, all of its sites being observed.

    Args:
        sites: its sample sites by name.

    Returns:
        The same, where there is at least one.

    Raises:
        ValueError: a latent, or nothing that is observed.
    """
    latents = [name for name, site in sites.items() if not site["is_observed"]]
    if latents or not sites:
        raise checks.problem(
            "model",
            got=f"the latents {latents}" if latents else "no site that is observed",
            expected="observed sites alone, whose laws have a density of their own",
            fix="Score matching fits p(x) itself; take ELBO or IWAE for a model with latents.",
        )
    return dict(sites)


def check_real(discrete: bool, site: str) -> None:
    """Refuse a law of whole numbers, which has no score.

    Args:
        discrete: whether the law's support is.
        site: its name.

    Raises:
        ValueError: it is.
    """
    if discrete:
        raise checks.problem(
            f"site {site!r}",
            got="a law of zeros and ones or other whole numbers",
            expected="real numbers, whose density has a gradient",
            fix="Take ContrastiveDivergence for such an energy, or ELBO for a law with a likelihood.",
        )


def denoises(law: Any, site: str) -> Any:
    """The law, where it has a score at every level of noise.

    Args:
        law: of an observed site.
        site: its name.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(law, Denoises):
        raise checks.problem(
            "sigma",
            got=f"None, and the law of site {site!r} is a {type(law).__name__}, which declares no levels of noise",
            expected="a level",
            fix="Pass sigma=0.1, say; only laws such as ScoreBased know levels of their own.",
        )
    return law
