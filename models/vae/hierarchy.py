"""Several stochastic levels: the laws of a level in model and guide, and what a posterior says level by level."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple, Protocol, runtime_checkable

import array_api_compat

from deepgen import checks
from deepgen.models.vae import posterior
from deepgen.models.vae.normals import Correlated, Normal

POSTERIORS = ("diagonal", "full")


@runtime_checkable
class Reading(Protocol):
    """What a level's posterior promises besides: the normal that the encoder's numbers mean, and the law of one."""

    def num_params(self, latent_dim: int) -> int:
        """How many numbers the encoder gives."""

    def read(self, raw: Any) -> Any:
        """The normal that the numbers (..., num_params) mean."""

    def law(self, normal: Any) -> Any:
        """The engine's distribution."""


class Level(NamedTuple):
    """The posterior of one level, by itself and against the prior that the level above leaves to it.

    Attributes:
        loc: (n, d) its mean.
        scale: (n, d) its standard deviation.
        shift: (n, d) how far its mean lies from the prior's, in standard deviations of the prior.
        ratio: (n, d) its standard deviation as a share of the prior's.
    """

    loc: Any
    scale: Any
    shift: Any
    ratio: Any


def site(level: int) -> str:
    """The name of a level's site; levels are counted from the data, from 1."""
    return f"z{level}"


def check_latent_dims(latent_dims: Any) -> tuple[int, ...]:
    """The numbers of latents of the levels.

    Args:
        latent_dims: one for each level, from the data up.

    Returns:
        The same as a tuple.

    Raises:
        ValueError: no sequence of positive integers, or an empty one.
    """
    dims = tuple(latent_dims) if isinstance(latent_dims, Sequence) and not isinstance(latent_dims, str) else ()
    if not dims or not all(isinstance(dim, Integral) and not isinstance(dim, bool) and int(dim) > 0 for dim in dims):
        raise checks.problem(
            "latent_dims",
            got=repr(latent_dims),
            expected="a positive integer for each level, from the data up",
            fix="Pass e.g. (16, 8), or (8,) for a single level.",
        )
    return tuple(int(dim) for dim in dims)


def check_networks(encoder: Any, prior: Any, latent_dims: Sequence[int]) -> None:
    """Refuse another number of networks than the levels need.

    Raises:
        ValueError: naming the networks that are too few or too many.
    """
    for name, networks, count in (("encoder", encoder, len(latent_dims)), ("prior", prior, len(latent_dims) - 1)):
        if len(networks) != count:
            raise checks.problem(
                name,
                got=f"{len(networks)} networks",
                expected=f"{count} for {len(latent_dims)} levels",
                fix="Give the encoder a network for each level, and the prior one for each level but the top.",
            )


def check_posterior(chosen: Any) -> None:
    """Refuse a posterior of the levels that leaves no normal to multiply with the prior.

    Args:
        chosen: a posterior's name, a posterior, or a flow.

    Raises:
        ValueError: it is not one of `POSTERIORS`.
    """
    named = isinstance(chosen, str)
    if chosen not in POSTERIORS if named else not isinstance(chosen, Reading):
        raise checks.problem(
            "posterior",
            got=repr(chosen) if named else f"a {type(chosen).__name__}",
            expected="'diagonal' or 'full': each level's normal is multiplied by the law that the level above leaves",
            fix="Take one of these two; the posterior of a VAE, of one level, can be any.",
        )


def check_numbers(name: str, raw: Any, wanted: int, latent_dim: int) -> None:
    """Refuse another number of numbers than a level's law takes.

    Args:
        name: of the network, for the message.
        raw: (..., numbers).
        wanted: how many there have to be.
        latent_dim: of the level.

    Raises:
        ValueError: there are others.
    """
    if raw.shape[-1] != wanted:
        two = "two for each of" if wanted == 2 * latent_dim else "of a mean and a full covariance of"
        raise checks.problem(
            name,
            got=f"{raw.shape[-1]} numbers",
            expected=f"{wanted}, {two} {latent_dim} latents",
            fix="Give the network's last layer that many outputs; only below the top may features follow them.",
        )


def read(name: str, raw: Any, latent_dim: int) -> Normal:
    """The law that a prior's numbers mean: a mean, then a raw log s, bounded to (-7, 3).

    Args:
        name: of the network, for the message.
        raw: (..., 2 latent_dim).
        latent_dim: of the level.

    Returns:
        The law.

    Raises:
        ValueError: another number of numbers.
    """
    check_numbers(name, raw, 2 * latent_dim, latent_dim)
    return Normal(raw[..., :latent_dim], posterior.scale(raw[..., latent_dim:]))


def evidence(
    networks: Any, shown: Any, latent_dims: Sequence[int], reading: Reading
) -> list[Normal] | list[Correlated]:
    """What x says of each level, bottom-up and without a draw.

    Args:
        networks: one for each level: from the features of the level below (the first: from x) to the numbers of the
            level's normal, and behind them, below the top, its own features.
        shown: (n, ...) what the first network takes.
        latent_dims: of the levels.
        reading: how the numbers are read.

    Returns:
        For each level a normal law in z_l, to which the likelihood p(x | z_l) is taken to be proportional.

    Raises:
        ValueError: a network that gives another number of numbers.
    """
    found, features = [], shown
    for index, (network, dim) in enumerate(zip(networks, latent_dims, strict=True)):
        raw, wanted = network(features), reading.num_params(dim)
        own = raw if index == len(latent_dims) - 1 else raw[..., :wanted]
        check_numbers(f"encoder {index}", own, wanted, dim)
        found.append(reading.read(own))
        features = raw[..., wanted:]
    return found


def law(
    networks: Any,
    latent_dims: Sequence[int],
    level: int,
    above: Any,
    found: Sequence[Normal] | Sequence[Correlated] | None = None,
) -> Any:
    """p(z_l | z_{l+1}); with evidence q(z_l | z_{l+1}, x).

    Args:
        networks: of the prior, the first from z_2 to two numbers for each latent of z_1, and so on.
        latent_dims: of the levels.
        level: l, from 1.
        above: (..., d_{l+1}) z_{l+1}; for the top level zeros (..., d_L).
        found: the `evidence` of x, or None.

    Returns:
        A `Normal`, or of correlated evidence a `Correlated`. At the top it is N(0, I), with evidence the evidence
        alone; below, the network's, with evidence their product.

    Raises:
        ValueError: a network that gives another number of numbers.
    """
    if level == len(latent_dims):
        ones = array_api_compat.array_namespace(above).ones_like(above)
        return Normal(above, ones) if found is None else found[-1]
    prior = read(f"prior {level - 1}", networks[level - 1](above), latent_dims[level - 1])
    return prior if found is None else found[level - 1].times(prior)


def levels(
    networks: Any, latent_dims: Sequence[int], found: Sequence[Normal] | Sequence[Correlated]
) -> tuple[Level, ...]:
    """The posterior of every level, from the data up, the levels above it at the means of theirs.

    Args:
        networks: of the prior, as in `law`.
        latent_dims: of the levels.
        found: the `evidence` of x.

    Returns:
        The levels, the top beside N(0, I).
    """
    above: Any = array_api_compat.array_namespace(found[-1].loc).zeros_like(found[-1].loc)
    reached = []
    for level in range(len(latent_dims), 0, -1):
        prior, post = (law(networks, latent_dims, level, above, given) for given in (None, found))
        reached.append(Level(post.loc, post.sd, (post.loc - prior.loc) / prior.scale, post.sd / prior.scale))
        above = post.loc
    return tuple(reversed(reached))


def descend(networks: Any, latent_dims: Sequence[int], z: Any, level: int) -> Any:
    """z_1 under a z_l, each level on the way at the mean of p(z_k | z_{k+1}).

    Args:
        networks: of the prior, as in `law`.
        latent_dims: of the levels.
        z: (..., d_l).
        level: l, from 1.

    Returns:
        (..., d_1).
    """
    for below in range(level - 1, 0, -1):
        z = law(networks, latent_dims, below, z).loc
    return z


def encoder_sizes(
    size: int, latent_dims: Sequence[int], hidden: Sequence[int], reading: Reading
) -> list[tuple[int, int]]:
    """The sizes of the encoder's perceptrons.

    Args:
        size: how many features x has.
        latent_dims: of the levels.
        hidden: the widths of each network's hidden layers.
        reading: how many numbers each level takes.

    Returns:
        What each network takes and gives: below the top its features are as many as its last hidden layer is wide, or,
        without hidden layers, as many as it takes.
    """
    width = hidden[-1] if hidden else size
    top = len(latent_dims) - 1
    return [
        (width if index else size, reading.num_params(dim) + (width if index < top else 0))
        for index, dim in enumerate(latent_dims)
    ]
