"""Programs whose data are draws of a base that an invertible map carries there, such as flows."""

from typing import Any, NamedTuple, Protocol, runtime_checkable


class Chart(Protocol):
    r"""Coordinates v of a datum, real numbers, one for each entry, in which the program's density is known.

    .. math:: v = f(z), \quad x_i = g_i(v_i), \quad \log p(v) = \log p(z) + \log \left| \det \frac{dz}{dv} \right|

    Each entry has its own coordinate, so observed entries fix theirs, and p(v_missing | v_observed) is the law of the
    missing entries. Arguments are (..., n, D) with any axes in front of the rows; D is the flattened datum's size.

    Attributes:
        base: the law of z, a distribution of the engine with event (D,).
        context: (n, ...) what the rows are told, or None where all rows have one law.
    """

    base: Any
    context: Any

    def take(self, rows: Any) -> Any:
        """The chart of some of the rows, by their numbers."""

    def to_base(self, v: Any) -> tuple[Any, Any]:
        """z of (..., n, D), and log |det dz/dv| (..., n)."""

    def from_base(self, z: Any) -> tuple[Any, Any]:
        """v of (..., n, D), and log |det dv/dz| (..., n)."""

    def log_base(self, z: Any) -> Any:
        """log p(z), (..., n) nats."""

    def log_prob(self, v: Any) -> Any:
        """log p(v), (..., n) nats."""

    def to_data(self, v: Any) -> Any:
        """x of (..., n, D), as (..., n, *event_shape)."""

    def from_data(self, x: Any) -> tuple[Any, Any]:
        """v of (..., n, *event_shape), and log |dv_i/dx_i| of each entry, both (..., n, D); NaN where x is."""


@runtime_checkable
class Invertible(Protocol):
    """What a program promises besides, where its data are the image of a base under an invertible map.

    Its likelihood is exact, it has no latents, and its ``densities`` name ``"completions"``.
    """

    def chart(self) -> Any:
        """The map, as a `Chart` of the program's engine; of what a conditional program is ``given``, that of its rows.

        Raises:
            ValueError: a conditional program without its context.
        """


class Cells(NamedTuple):
    """What rows are known by: an interval of each observed entry's coordinate.

    Attributes:
        chart: of the numbers behind the rows.
        low: (n, D) lower ends, minus infinity where open or where the entry is missing.
        high: (n, D) upper ends, likewise.
    """

    chart: Any
    low: Any
    high: Any


@runtime_checkable
class Rounded(Protocol):
    """What a program promises whose data are an invertible program's, rounded to levels.

    Its likelihood is a bound, and it takes rows with holes to be completed alone.
    """

    def cells(self, x: Any, observed: Any) -> Cells:
        """The cells of rows, anything where they are missing."""

    def rounded(self, y: Any) -> Any:
        """The levels of numbers (..., *event_shape)."""
