"""How flows of images are put together, apart from any engine: scales, half of each factored out but the last."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks
from deepgen.models.flow import images, recipe, shapes
from deepgen.nn import arguments

COUPLINGS = ("affine", "additive")


class Parts(NamedTuple):
    """An engine's transforms, as a flow of images is made of them.

    Attributes:
        coupling: from (event_shape, pattern, flip) to a coupling.
        prior: the same for one that scales, whatever ``coupling`` does.
        norm: from channels and data to a shift and scale of each channel.
        mix: from channels and a permutation to their mixture.
        split: from transforms of the first half of the channels and the shape of the whole.
        squeeze: from nothing.
        unflatten: from an image's shape.
    """

    coupling: Callable[[tuple[int, ...], str, bool], Any]
    prior: Callable[[tuple[int, ...], str, bool], Any]
    norm: Callable[[int, Any], Any]
    mix: Callable[[int, Sequence[int]], Any]
    split: Callable[[Sequence[Any], Sequence[int]], Any]
    squeeze: Callable[[], Any]
    unflatten: Callable[[Sequence[int]], Any]


def ends(
    event_shape: Any, *, num_scales: Any, num_steps: Any, coupling: str, base: str, logit: float | None, data: Any
) -> recipe.Ends:
    """The arguments that the constructors of flows of images share, checked.

    Args:
        event_shape: (c, h, w) of a datum.
        num_scales: how many scales.
        num_steps: how many steps at each.
        coupling: the couplings' law.
        base: the base's law.
        logit: the alpha of a last logit, or None.
        data: (n, c, h, w), NaN where missing, or None.

    Returns:
        As `deepgen.models.flow.recipe.ends`, the data as images.

    Raises:
        ValueError: one of them is not acceptable, or an image that cannot be halved so many times.
    """
    arguments.whole("num_scales", num_scales)
    arguments.whole("num_steps", num_steps)
    checks.one_of("coupling", coupling, COUPLINGS)
    checks.image_shape(event_shape)
    found = recipe.ends(event_shape, num_transforms=1, mixing="none", base=base, logit=logit, data=data)
    if any(size % 2**num_scales for size in found.event_shape[1:]):
        raise checks.problem(
            "num_scales",
            got=f"{num_scales} for images of shape {found.event_shape}",
            expected=f"a height and a width that {2**num_scales} divides",
            fix="Take fewer scales, or pad or crop the images.",
        )
    rows = found.data
    return found if rows is None else found._replace(data=rows.reshape(-1, *found.event_shape))


def glow(parts: Parts, shape: tuple[int, ...], num_scales: int, num_steps: int, data: np.ndarray | None) -> list[Any]:
    """The transforms of Glow, from the base to the data.

    At each scale, from the data on: a squeeze, then steps of a shift and scale, mixed channels and a coupling, then,
    but at the last, a coupling that moves the second half of the channels by the first, and a split.

    Args:
        parts: of the engine.
        shape: (c, h, w) of what the scale is to give.
        num_scales: how many scales are left.
        num_steps: at each.
        data: (n, c, h, w) of this scale, or None. The first shift and scale makes them standard; couplings and mixtures
            begin as the identity and as permutations, so that the others have nothing left to do.
    """
    inner = images.squeezed(shape)
    if num_scales == 1:
        made = [parts.unflatten(inner)]
    else:
        deeper = glow(parts, (images.halves(inner[0]), *inner[1:]), num_scales - 1, num_steps, None)
        made = [parts.split(deeper, inner), parts.prior(inner, "channels", False)]
    for i in reversed(range(num_steps)):
        first = images.squeeze(data) if data is not None and i == 0 else None
        order = shapes.shuffled(inner[0], num_scales * num_steps + i)
        made += [parts.coupling(inner, "channels", False), parts.mix(inner[0], order), parts.norm(inner[0], first)]
    return [*made, parts.squeeze()]


def realnvp(
    parts: Parts, shape: tuple[int, ...], num_scales: int, num_steps: int, data: np.ndarray | None
) -> list[Any]:
    """The transforms of RealNVP for images, from the base to the data.

    At each scale, from the data on: couplings of checkerboards whose colours take turns, a squeeze, couplings of
    channels whose halves take turns, and a split; at the last one more coupling of checkerboards alone. Before each
    coupling stands a shift and scale, for the paper's batch normalisation.

    Args:
        parts: of the engine.
        shape: (c, h, w) of what the scale is to give.
        num_scales: how many scales are left.
        num_steps: couplings of either kind at each.
        data: as `glow`.
    """
    if num_scales == 1:
        return [parts.unflatten(shape), *_coupled(parts, shape, "checkerboard", num_steps + 1, data)]
    inner = images.squeezed(shape)
    deeper = realnvp(parts, (images.halves(inner[0]), *inner[1:]), num_scales - 1, num_steps, None)
    made = [parts.split(deeper, inner), *_coupled(parts, inner, "channels", num_steps, None), parts.squeeze()]
    return made + _coupled(parts, shape, "checkerboard", num_steps, data)


def _coupled(parts: Parts, shape: tuple[int, ...], pattern: str, number: int, data: np.ndarray | None) -> list[Any]:
    made: list[Any] = []
    for i in reversed(range(number)):
        made += [parts.coupling(shape, pattern, bool(i % 2)), parts.norm(shape[0], data if i == 0 else None)]
    return made


def scales(size: int, transforms: Sequence[Any], split: type) -> tuple[int, ...]:
    """How many of the base's entries belong to each scale, the coarsest first, in the order in which they stand.

    Args:
        size: of the base.
        transforms: from the base to the data.
        split: the engine's `Split`.
    """
    found: list[int] = []
    while transforms and isinstance(transforms[0], split):
        first: Any = transforms[0]
        inner, _ = images.factored(first.event_shape)
        found, size, transforms = [size - inner, *found], inner, list(first.transforms)
    return (size, *found)
