"""Why an entry is observed, given the complete row; and rows of which nothing is observed."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from deepgen import checks

HIDES = ("high", "low", None)


def self_masking(
    x: Float[Any, "..."], raw_slope: Float[Any, "*event"], bias: Float[Any, "*event"], hides: str | None
) -> Float[Any, "..."]:
    r"""The logit of each entry's being observed, given its own value.

    .. math:: \mathrm{logit}\, p(s_j = 1 \mid x_j) = a_j x_j + b_j

    Args:
        x: complete rows.
        raw_slope: a, where its sign is not known; else a is -softplus or softplus of it.
        bias: b.
        hides: ``"high"`` values (a < 0), ``"low"`` ones (a > 0), or None where the data shall say.

    Returns:
        The logits.
    """
    xp = array_namespace(x)
    if hides is None:
        return raw_slope * x + bias
    slope = xp.logaddexp(raw_slope, xp.zeros_like(raw_slope))
    return (-slope if hides == "high" else slope) * x + bias


def linear_masking(x: Float[Any, "..."], weight: Float[Any, "d d"], bias: Float[Any, "*event"]) -> Float[Any, "..."]:
    r"""The logit of each entry's being observed, given the whole row.

    .. math:: \mathrm{logit}\, p(s_j = 1 \mid x) = w_j^\top x + b_j

    Args:
        x: complete rows.
        weight: w_j in the rows, of the flattened event.
        bias: b.

    Returns:
        The logits.
    """
    xp = array_namespace(x)
    flat = xp.reshape(x, (*x.shape[: x.ndim - bias.ndim], weight.shape[0]))
    return xp.reshape(flat @ xp.matrix_transpose(weight), x.shape) + bias


def check_logits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse logits that are not one for each entry.

    Raises:
        ValueError: another shape.
    """
    if shape != wanted:
        raise checks.problem(
            "mechanism",
            got=f"logits of shape {shape} for data of shape {wanted}",
            expected="one logit for each entry",
            fix="Let its output have the shape of its input.",
        )


def check_law(independent: bool, discrete: bool, law: Any) -> None:
    """Refuse a law of x whose missing entries cannot be proposed one by one, with a gradient.

    Args:
        independent: whether its elements are independent given the latents.
        discrete: whether its values are.
        law: for the message.

    Raises:
        ValueError: a joint or a discrete law.
    """
    if not independent or discrete:
        raise checks.problem(
            "site 'x' of data missing not at random",
            got=f"{'a discrete' if independent else 'a joint'} law, {type(law).__name__}",
            expected="a continuous law whose elements are independent given the latents",
            fix="Use a program with such a law, as VAE.mlp(..., likelihood='gaussian') has.",
        )


def check_rows(program: Any, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
    """What a program's own check says of the rows of which something is observed; the others stay as they are.

    To a program alone a row of which nothing is observed says nothing. Where it depends on the values whether they are
    observed, it does.

    Args:
        program: what has ``event_shape`` and ``check_data``.
        x: (n, *event_shape) numbers.
        missing: whether missing entries are allowed.
        observed: booleans of x's shape, or None where NaN says what is missing.

    Returns:
        x as a NumPy array of the law's kind.

    Raises:
        ValueError: what the program does not take.
    """
    array, mask = checks.with_mask(x, observed)
    if not missing or array.shape[1:] != program.event_shape or (mask is not None and mask.shape != array.shape):
        return program.check_data(x, missing=missing, observed=observed)
    present = ~np.isnan(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    seen = (present if mask is None else present & mask).reshape(len(array), -1).any(1)
    if seen.all() or not seen.any():
        return program.check_data(x, missing=missing, observed=observed)
    found = program.check_data(array[seen], missing=True, observed=None if mask is None else mask[seen])
    whole = np.full(array.shape, np.nan if found.dtype.kind == "f" else -1, found.dtype)
    whole[seen] = found
    return whole
