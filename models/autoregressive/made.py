"""How a masked perceptron is laid out for the law of its outputs (MADE)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepgen import checks
from deepgen.nn import masked

Member = tuple[Any, int | None]


def arguments(law: Any) -> dict[str, Any]:
    """The arguments by which a masked perceptron sees the data of a law and gives what the law wants.

    Categories are seen as one-hot codes and integer pixels within [-1, 1]; a pixel's coupled channels are decided
    together.

    Args:
        law: of ``deepgen.likelihoods``.

    Returns:
        Keyword arguments of `nn.MaskedMLP`.

    Raises:
        ValueError: a law that differs from entry to entry.
    """
    element = law.element()
    found: dict[str, Any] = {"num_params": element.num_params, "element_shape": tuple(element.event_shape)}
    if law.name == "categorical":
        found["num_categories"] = law.num_classes
    if law.name == "discretized_logistic":
        found |= {"input_range": (0.0, law.num_values - 1.0), "coupled": law.coupled}
    return found


def orders(law: Any, order: Any, num_members: int, seed: int) -> tuple[Any, tuple[Member, ...]]:
    """The network's order, and the members of its ensemble.

    Args:
        law: of the datum.
        order: None for row-major, ``"random"``, or indices into the flattened datum (of pixels where coupled: (T, 3)).
        num_members: how many pairs of an order and masks share the weights; beyond the first, masks are random, and so
            is the order where it is ``"random"``.
        seed: of the random orders and masks.

    Returns:
        The order, and the members, none where there is but one.

    Raises:
        ValueError: an unknown order, or a number of members that is not positive.
    """
    checks.at_least("num_members", num_members, 1)
    if isinstance(order, str):
        checks.one_of("order", order, ("random",))
    rng = np.random.default_rng(seed)
    element = tuple(law.element().event_shape)
    width = int(np.prod(element, dtype=int))
    natural = np.arange(int(np.prod(law.event_shape))).reshape(width, -1).T

    def one() -> Any:
        return rng.permutation(natural).tolist() if isinstance(order, str) else order

    first = one()
    if num_members == 1:
        return first, ()
    seeds = rng.integers(2**31, size=num_members).tolist()
    return first, ((first, None), *((one(), number) for number in seeds[1:]))


def checked(network: Any, members: Sequence[Any]) -> tuple[Member, ...]:
    """Members as tuples of plain numbers.

    Raises:
        ValueError: a network that cannot have members, or an order that is no permutation of its entries.
    """
    if members and not hasattr(network, "sizes"):
        raise checks.problem(
            "members",
            got=f"{len(members)} of a {type(network).__name__}",
            expected="none, as only a MaskedMLP has orders and masks that can be exchanged",
            fix="Leave members out, or take nn.MaskedMLP.",
        )
    for order, seed in members:
        masked.member(network.sizes, order, seed)
    return tuple((None if order is None else _tuples(order), seed) for order, seed in members)


def listed(order: Sequence[Any] | None) -> list[Any] | None:
    """An order as JSON knows it."""
    return None if order is None else np.asarray(order).tolist()


def _tuples(order: Any) -> Any:
    return tuple(_tuples(part) for part in order) if np.ndim(order) else int(order)
