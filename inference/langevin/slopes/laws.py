"""Laws of which the score alone is known, whose log density is NaN."""

import copy
from typing import Any, Protocol, runtime_checkable

from deepgen import checks


@runtime_checkable
class MayLackValue(Protocol):
    """A law that may be asked for its score alone."""

    @property
    def lacks_value(self) -> bool:
        """Whether ``log_prob`` is NaN, with the score for a derivative."""

    def slope(self) -> Any:
        """The law with zero in place of NaN."""


def sloped(law: Any) -> Any:
    """The law with zero in place of a value that it lacks, also where it stands inside of others.

    Args:
        law: of a site, of either engine.

    Returns:
        Another law with the same derivatives, or the same one where nothing is lacking.
    """
    if isinstance(law, MayLackValue):
        return law.slope() if law.lacks_value else law
    base = getattr(law, "base_dist", None)
    inner = None if base is None else sloped(base)
    if inner is base:
        return law
    outer = copy.copy(law)
    outer.base_dist = inner
    return outer


def substitute(name: str, law: Any, adjusted: bool) -> Any:
    """The law that a kernel follows at a site.

    Args:
        name: of the site.
        law: of the site.
        adjusted: whether the kernel has an acceptance test.

    Returns:
        The law, with zero in place of a value that it lacks.

    Raises:
        ValueError: it lacks a value, for a kernel with an acceptance test.
    """
    found = sloped(law)
    if adjusted and found is not law:
        raise checks.problem(
            f"site {name!r}",
            got="a law with a score alone for a kernel with an acceptance test",
            expected="a law with a log density, whose differences the test needs",
            fix="Take distribution(gradient='score') or 'flow', or an unadjusted kernel such as ULA.",
        )
    return found
