"""The entries of a datum in the order in which a sequence decides them."""

import numpy as np
from jaxtyping import Bool, Int


def by_step(values: np.ndarray, order: Int[np.ndarray, "steps entries"]) -> np.ndarray:
    """The entries of each step.

    Args:
        values: (n, *event_shape).
        order: flat indices into the event.

    Returns:
        (steps, n, entries).
    """
    return np.moveaxis(values.reshape(len(values), -1)[:, order], 1, 0)


def by_place(values: np.ndarray, order: Int[np.ndarray, "steps entries"], event_shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `by_step`.

    Args:
        values: (steps, *batch, entries).
        order: flat indices into the event.
        event_shape: the shape of one datum.

    Returns:
        (*batch, *event_shape).
    """
    flat = np.moveaxis(values, 0, -2)
    flat = flat.reshape(*flat.shape[:-2], order.size)
    return flat[..., np.argsort(order.reshape(-1))].reshape(*flat.shape[:-1], *event_shape)


def missing_last(
    observed: Bool[np.ndarray, "n ..."], order: Int[np.ndarray, "steps entries"], *, joint: bool = False
) -> Bool[np.ndarray, " n"]:
    """The rows in which no entry is observed in a later step than one that is missing.

    Args:
        observed: what is observed of each row.
        order: flat indices into the event.
        joint: whether a step's entries depend on each other, so that none of them may be observed without the others.

    Returns:
        Booleans.
    """
    seen = by_step(observed, order)
    whole, some = np.asarray(seen.all(2)), np.asarray(seen.any(2))
    before = np.concatenate([np.ones_like(whole[:1]), np.logical_and.accumulate(whole, 0)[:-1]])
    return np.asarray(((~some | before) & (~some | whole if joint else True)).all(0))


def first_missing(
    observed: Bool[np.ndarray, "n ..."], order: Int[np.ndarray, "steps entries"]
) -> Int[np.ndarray, " n"]:
    """The first step of each row in which something is missing; the number of steps where nothing is.

    Args:
        observed: what is observed of each row.
        order: flat indices into the event.
    """
    holes = ~np.asarray(by_step(observed, order).all(2))
    return np.where(holes.any(0), holes.argmax(0), len(holes))
