"""What the constructors of flows put together, apart from any engine."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepgen import checks
from deepgen.likelihoods.laws import is_missing, refuse_missing
from deepgen.models.flow import affine, shapes

BASES = ("normal", "logistic")
MIXINGS = ("permutation", "lu", "none")
EXACT_SIZE = 32
"""Up to so many entries `log_prob` takes the exact divergence of a continuous flow with probes; beyond, estimates."""
ESTIMATES = 16
"""How many estimates of each row it takes then."""


class Ends(NamedTuple):
    """What stands between the couplings and the data.

    Attributes:
        event_shape: of a datum.
        size: how many entries it has.
        data: (n, size) rows in the space of the last coupling, NaN where missing; or None.
    """

    event_shape: tuple[int, ...]
    size: int
    data: np.ndarray | None


def described(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a described transform, its network and its own transforms still described.

    Raises:
        ValueError: a masked affine map described before it shifted in the base's units.
    """
    form = spec.get("form")
    if (
        spec["transform"] == "AffineAutoregressive"
        and spec.get("parallel", "inverse") == "inverse"
        and form != affine.FORM
    ):
        raise checks.problem(
            "AffineAutoregressive",
            got="the description of a masked map (y - t) e^-s, of an earlier deepgen",
            expected=f"one of {affine.FORM}",
            fix="Fit the program again.",
        )
    return {name: value for name, value in spec.items() if name not in ("transform", "form")}


def ends(event_shape: Any, *, num_transforms: Any, mixing: str, base: str, logit: float | None, data: Any) -> Ends:
    """The arguments that all constructors share, checked.

    Args:
        event_shape: of a datum.
        num_transforms: how many couplings or autoregressive transforms.
        mixing: what stands between them.
        base: the base's law.
        logit: the alpha of a last logit, or None.
        data: (n, *event_shape), NaN where missing, or None.

    Raises:
        ValueError: one of them is not acceptable.
    """
    shape = checks.event_shape(tuple(event_shape) if isinstance(event_shape, list) else event_shape)
    check_count(num_transforms)
    checks.one_of("mixing", mixing, MIXINGS)
    checks.one_of("base", base, BASES)
    size = int(np.prod(shape))
    if data is None:
        return Ends(shape, size, None)
    rows = checks.data("data", data, shape, missing=True).reshape(-1, size).astype(np.float64)
    if logit is not None:
        if np.nanmin(rows) < 0 or np.nanmax(rows) > 1:
            raise checks.problem(
                "data",
                got=f"values from {np.nanmin(rows)} to {np.nanmax(rows)}",
                expected="values in [0, 1], of which the logit is taken",
                fix="Divide by the largest value, or pass logit=None.",
            )
        rows, _ = affine.logit(rows, logit)
    return Ends(shape, size, rows)


def check_count(num_transforms: Any) -> None:
    """Refuse a number of transforms below one.

    Raises:
        ValueError: naming it.
    """
    checks.at_least("num_transforms", num_transforms, 1)


def check_x(
    x: Any, event_shape: tuple[int, ...], *, missing: bool = False, observed: np.ndarray | None = None
) -> np.ndarray:
    """Data as a flow takes them: floats, NaN where missing.

    Args:
        x: (n, *event_shape) numbers; a masked array's mask says what is missing.
        event_shape: of a datum.
        missing: whether missing entries are allowed.
        observed: booleans of x's shape, or None where NaN says what is missing.

    Raises:
        ValueError: wrong dtype or shape, empty, not finite, missing where it may not be, or a row of which nothing is
            observed.
    """
    x, observed = checks.with_mask(x, observed)
    array = checks.data("x", x, event_shape, missing=missing, observed=observed)
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    array = array if observed is None else np.where(observed, array, np.nan).astype(array.dtype)
    refuse_missing(~is_missing(array), missing)
    return array


def check_interval(x: np.ndarray, transforms: Iterable[Any]) -> None:
    """Refuse data outside what a flow's last transforms can give.

    Args:
        x: (n, *event_shape), NaN where missing.
        transforms: of the flow; the images of one with an ``interval`` lie in it, those that stand behind it only
            arrange entries.

    Raises:
        ValueError: naming the interval and what came.
    """
    ends = [transform.interval for transform in transforms if hasattr(transform, "interval")]
    if not ends:
        return
    low, high = ends[-1]
    beyond = 4 * np.finfo(x.dtype).eps
    if np.nanmin(x) < low - beyond or np.nanmax(x) > high + beyond:
        raise checks.problem(
            "x",
            got=f"values from {np.nanmin(x)} to {np.nanmax(x)}",
            expected="values in [0, 1], of which the flow takes the logit",
            fix="Divide by the largest value, or make the flow with logit=None.",
        )


class InversionWarning(UserWarning):
    """A flow does not bring its own data back: its draws and densities disagree."""


def diagnose(x: np.ndarray, back: np.ndarray) -> list[Warning]:
    """A warning where data that went to the base and back are not what they were.

    Args:
        x: (n, ...) the data.
        back: what came back.

    Returns:
        At most one warning: where a row is off by more than 1 % of the data's spread.
    """
    spread = max(float(np.std(x)), 1e-6)
    off = (np.abs(back - x) > 0.01 * spread).reshape(len(x), -1).any(1)
    if not off.any():
        return []
    return [
        InversionWarning(
            f"{int(off.sum())} of {len(x)} rows do not come back from the base by 1 % of the data's spread: the flow "
            "has become too steep there. Train with a smaller learning_rate, with clip_norm, or on standardised data."
        )
    ]


def one_context(dims: Sequence[int]) -> int:
    """The size of the context that all transforms of a flow see; 0 where none sees one.

    Raises:
        ValueError: they want contexts of several sizes.
    """
    sizes = sorted({dim for dim in dims if dim})
    if len(sizes) > 1:
        raise checks.problem(
            "transforms",
            got=f"contexts of {sizes}",
            expected="one size of context",
            fix="Make all with one context_dim.",
        )
    return sizes[0] if sizes else 0


def reversed_order(size: int, number: int) -> list[int] | None:
    """The order of an autoregressive transform: first to last, and every other one last to first."""
    return list(range(size))[::-1] if number % 2 else None


def mask(size: int, number: int) -> tuple[bool, ...]:
    """The mask of a coupling: the halves take turns."""
    return shapes.half(size, flip=bool(number % 2))
