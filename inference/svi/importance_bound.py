"""The importance-weighted bound: which rows have weights of their own, and the log of a row's mean weight."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen import checks
from deepgen.inference.svi import kl

JOINT_FIX = (
    "Put every site of model and guide inside that plate, or pass joint=True: one weight for all rows together, a "
    "bound that is right but looser the more rows there are."
)


class Plate(NamedTuple):
    """A plate around a site.

    Attributes:
        name: of the plate.
        dim: its batch dimension, negative.
        size: how many rows of it are present.
    """

    name: str
    dim: int
    size: int


def log_mean_exp(log_weights: Float[Any, "k *rows"]) -> Float[Any, "*rows"]:
    r"""The log of the mean weight of each row.

    .. math:: \log \frac1K \sum_k e^{\ell_k} = m + \log \frac1K \sum_k e^{\ell_k - m}, \quad m = \max_k \ell_k

    Args:
        log_weights: of K draws for each row, in nats.

    Returns:
        One number a row, in nats; with K = 1 the log weight itself.
    """
    xp = array_namespace(log_weights)
    largest = xp.max(log_weights, axis=0)
    # where every weight is zero: no infinity minus infinity
    anchor = xp.where(xp.isfinite(largest), largest, xp.zeros_like(largest))
    total = xp.sum(xp.exp(log_weights - anchor[None, ...]), axis=0)
    return anchor + xp.log(total / log_weights.shape[0])


def normalised_weights(log_weights: Float[Any, "k *rows"]) -> Float[Any, "k *rows"]:
    """Each row's weights divided by their sum, w_k / sum_j w_j.

    Args:
        log_weights: of K draws for each row.

    Returns:
        Weights that sum to one over the draws.
    """
    xp = array_namespace(log_weights)
    weights = xp.exp(log_weights - xp.max(log_weights, axis=0)[None, ...])
    return weights / xp.sum(weights, axis=0)[None, ...]


def row_plates(plates: Mapping[str, Iterable[Plate]], sizes: Mapping[str, int], *, joint: bool) -> dict[int, int]:
    """The batch dimensions whose rows have weights of their own: those of the plates that every site stands in.

    Args:
        plates: by site of model and guide, the plates around it.
        sizes: by site, how many numbers its log density has.
        joint: whether there is to be one weight for all.

    Returns:
        From dimension to size; empty for one weight.

    Raises:
        ValueError: no plate is around every site, several rows are present, and ``joint`` is False.
    """
    around = {name: set(found) for name, found in plates.items()}
    shared = set.intersection(*around.values()) if around else set()
    if joint or (not shared and all(size == 1 for size in sizes.values())):
        return {}
    if not shared:
        count: dict[Plate, int] = {}
        for found in around.values():
            for plate in found:
                count[plate] = count.get(plate, 0) + 1
        if count:
            most = max(count, key=lambda plate: count[plate])
            outside = sorted(name for name, found in around.items() if most not in found)
            got = f"the sites {outside} outside of the plate {most.name!r} (dim {most.dim}, {most.size} rows)"
        else:
            got = f"the sites {sorted(name for name, size in sizes.items() if size > 1)} of several rows in no plate"
        raise checks.problem(
            "an importance-weighted bound of each row", got=got, expected="a plate around every site", fix=JOINT_FIX
        )
    return {plate.dim: plate.size for plate in shared}


def sum_to_rows(log_density: Any, rows: Mapping[int, int]) -> Any:
    """Sum out every batch dimension that is not one of the rows'.

    Args:
        log_density: (batch shape), nats.
        rows: from dimension (negative) to size.

    Returns:
        An array with -min(rows) axes: the rows' sizes, and one elsewhere.
    """
    xp = array_namespace(log_density)
    depth = -min(rows, default=0)
    extra = max(log_density.ndim - depth, 0)
    if extra:
        log_density = xp.sum(log_density, axis=tuple(range(extra)))
    log_density = xp.reshape(log_density, (1,) * (depth - log_density.ndim) + tuple(log_density.shape))
    others = tuple(axis for axis in range(depth) if axis - depth not in rows and log_density.shape[axis] > 1)
    if others:
        log_density = xp.sum(log_density, axis=others, keepdims=True)
    return xp.broadcast_to(log_density, tuple(rows.get(axis - depth, 1) for axis in range(depth)))


def check_scale(site: str, shape: tuple[int, ...], rows: Mapping[int, int]) -> None:
    """Refuse a scale that differs within a row.

    Args:
        site: the site that has it.
        shape: of the scale.
        rows: from dimension (negative) to size.

    Raises:
        ValueError: the scale has an axis that is no row's.
    """
    if any(size > 1 and axis - len(shape) not in rows for axis, size in enumerate(shape)):
        raise checks.problem(
            f"the scale of site {site!r}",
            got=f"shape {shape}",
            expected=f"one number a row, along dims {sorted(rows)}" if rows else "one number, for one weight",
            fix="A scale multiplies a row's bound as a whole, never a part of its log weight.",
        )


def different_scales(first: str, second: str) -> ValueError:
    """The error for two sites of a row that are scaled differently (or by traced arrays that cannot be compared)."""
    return checks.problem(
        "an importance-weighted bound",
        got=f"the sites {first!r} and {second!r} under different scales",
        expected="one scale for all sites of a row, since it multiplies the row's bound as a whole",
        fix="Put the same scale handler and the same subsampled plates around every site of model and guide (as one "
        "object, where scales are arrays in compiled code); tempered terms are what ELBO(beta=...) is for.",
    )


def onto_draws(weights: Float[Any, "k *rows"], ndim: int, event_dim: int) -> Any:
    """Weights of rows, made ready to multiply draws (k, *batch_shape, *event_shape).

    Args:
        weights: of K draws in the rows' layout.
        ndim: of the draws.
        event_dim: how many of their axes are the event's.

    Returns:
        The weights with ``ndim`` axes.
    """
    xp = array_namespace(weights)
    between = ndim - weights.ndim - event_dim
    return xp.reshape(weights, (weights.shape[0], *(1,) * between, *weights.shape[1:], *(1,) * event_dim))


def check_settings(num_particles: Any, joint: Any, vectorize_particles: Any) -> None:
    """Refuse what no importance-weighted bound can mean.

    Raises:
        ValueError: ``num_particles`` below 1.
        TypeError: a ``num_particles`` that is no integer, or an option that is no boolean.
    """
    kl.check_particles(num_particles)
    for name, value in (("joint", joint), ("vectorize_particles", vectorize_particles)):
        if not isinstance(value, bool):
            raise TypeError(f"{name}: got {value!r}; expected True or False. Pass one of them.")
