"""Arrays in tuples, lists and dictionaries, for an engine that has no trees of its own."""

from collections.abc import Callable
from typing import Any


def tree_map(function: Callable[..., Any], *trees: Any) -> Any:
    """The function of the arrays at each place of trees of one structure.

    Args:
        function: of as many arrays as there are trees.
        trees: tuples (also named), lists, dictionaries and None, as deep as may be.

    Returns:
        A tree of the same structure.
    """
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {name: tree_map(function, *(tree[name] for tree in trees)) for name in first}
    if isinstance(first, tuple | list):
        parts = [tree_map(function, *items) for items in zip(*trees, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return function(*trees)


def leaves(tree: Any) -> list[Any]:
    """The arrays of a tree.

    Args:
        tree: as in `tree_map`.
    """
    found: list[Any] = []
    tree_map(found.append, tree)
    return found
