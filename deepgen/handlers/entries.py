"""Which entries of a site's data are missing: found once, on the host, and checked before any compute."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from deepgen.checks import TO_NUMBERS, problem


@dataclass(frozen=True, eq=False)
class Entries:
    """The data of one site, split into what is observed and what is missing.

    Attributes:
        data: the data, with zeros where it is missing.
        observed: booleans of the data's shape.
        positions: the m missing entries in row-major order, as indices into the flattened data.
    """

    data: np.ndarray
    observed: np.ndarray
    positions: np.ndarray

    @property
    def count(self) -> int:
        """The number of missing entries m."""
        return len(self.positions)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data."""
        return self.data.shape


def split(what: str, data: Any, observed: Any = None) -> Entries:
    """Find the missing entries: NaN, masked entries of a NumPy masked array, or ``observed == False``.

    Args:
        what: the data's name, for the messages.
        data: numbers of any shape, convertible to NumPy.
        observed: booleans of the same shape, or None where NaN (or the masked array's mask) says what is missing.

    Returns:
        The entries.

    Raises:
        ValueError: the data is not numeric or is infinite, ``observed`` is not boolean or not of the data's shape, or
            an entry is NaN although ``observed`` says that it is observed.
    """
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        raise problem(
            what,
            got=f"dtype {array.dtype}",
            expected="a numeric array",
            fix=TO_NUMBERS,
        )
    nan = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
    if observed is None:
        seen = np.asarray(~(nan | np.ma.getmaskarray(data)) if np.ma.isMaskedArray(data) else ~nan)
    else:
        seen = np.asarray(observed)
        if seen.dtype != np.bool_ or seen.shape != array.shape:
            raise problem(
                f"observed of {what}",
                got=f"dtype {seen.dtype}, shape {seen.shape}",
                expected=f"booleans of the data's shape {array.shape}",
                fix="Pass True where a value is observed and False where it is missing.",
            )
        if (nan & seen).any():
            raise problem(
                what,
                got=f"NaN at {_first(nan & seen)}, which observed says is observed",
                expected="a number wherever observed is True",
                fix="Set observed to False there.",
            )
    if array.dtype.kind == "f" and (infinite := np.isinf(array) & seen).any():
        raise problem(
            what,
            got=f"{int(infinite.sum())} infinite values, the first at {_first(infinite)}",
            expected="finite values",
            fix="Replace them, or set them to NaN where they stand for missing.",
        )
    return Entries(np.where(seen, array, np.zeros((), array.dtype)), seen, np.flatnonzero(~seen))


def split_all(data: Any, observed: Any) -> dict[str, Entries]:
    """Split the data of every site that ``missing`` was given.

    Raises:
        ValueError: ``data`` is no mapping from site names, is empty, or ``observed`` names other sites.
    """
    if not isinstance(data, Mapping) or not data or not all(isinstance(name, str) for name in data):
        raise problem(
            "data",
            got=f"{type(data).__name__} {sorted(map(str, data)) if isinstance(data, Mapping) else ''}".strip(),
            expected="a dict from names of sample sites to their data",
            fix='Write missing(model, data={"x": x_with_nans}).',
        )
    observed = {} if observed is None else observed
    if not isinstance(observed, Mapping) or not set(observed) <= set(data):
        raise problem(
            "observed",
            got=sorted(map(str, observed)) if isinstance(observed, Mapping) else type(observed).__name__,
            expected=f"a dict with some of the data's names {sorted(data)}",
            fix='Write missing(model, data={"x": x}, observed={"x": mask}).',
        )
    return {name: split(f"data[{name!r}]", value, observed.get(name)) for name, value in data.items()}


def check_draws(entries: Entries, shape: tuple[int, ...]) -> None:
    """Refuse draws of the missing entries that are not (..., m).

    Raises:
        ValueError: the last axis is not the number of missing entries.
    """
    if not shape or shape[-1] != entries.count:
        raise problem(
            "x_missing",
            got=f"shape {shape}",
            expected=f"(..., {entries.count}): the missing entries in row-major order on the last axis",
            fix='Pass the draws of the site "<name>_missing" that belong to this data.',
        )


def lead_of_draws(entries: Entries, shape: tuple[int, ...], own: int) -> tuple[int, ...]:
    """The leading axes of draws of the site of missing entries, without ones for the site's own batch axes.

    Args:
        entries: the site's data.
        shape: (*lead, 1, ..., 1, m), with one axis of size one for each of the site's own batch axes, or less.
        own: the number of these axes.

    Returns:
        ``lead``.

    Raises:
        ValueError: the last axis is not the number of missing entries.
    """
    check_draws(entries, shape)
    lead = shape[:-1]
    for _ in range(own):
        if lead and lead[-1] == 1:
            lead = lead[:-1]
    return lead


def check_valid(name: str, entries: Entries, valid: np.ndarray, support: Any) -> None:
    """Refuse observed entries outside of the site's support.

    Args:
        name: the site's name.
        entries: its data.
        valid: whether each entry is in the support, of shape (..., *data.shape) or broadcast to it.
        support: the support, for the message.

    Raises:
        ValueError: naming the site, the first such entry and the support.
    """
    wrong = ~np.atleast_1d(valid) & entries.observed
    wrong = wrong.reshape(-1, *entries.shape).any(0)
    if wrong.any():
        where = _first(wrong)
        raise problem(
            f"data[{name!r}]",
            got=f"{entries.data[where]} at {where}",
            expected=f"values in the support {support} of the site",
            fix="Transform or correct the data, set the entry to NaN if it is not known, or change the distribution.",
        )


def site_shape(
    name: str, data: tuple[int, ...], site: tuple[int, ...], event_dim: int, plates: Mapping[int, int]
) -> tuple[int, ...]:
    """The part of the site's batch shape that belongs to the plates (or the enumeration) outside of the handler.

    Args:
        name: the site's name.
        data: the shape of its data.
        site: the shape of the site, batch and event, as the handler meets it.
        event_dim: the number of event axes.
        plates: dim (negative) -> size of what stands outside; size 0 where any size is right (enumeration).

    Returns:
        The leading part of ``site``; the rest is ``data``.

    Raises:
        ValueError: the data does not have the site's shape, or a plate outside of the handler is one of its axes.
    """
    batch_dims = len(data) - event_dim
    if inner := [dim for dim in plates if -dim <= batch_dims]:
        raise problem(
            f"data[{name!r}]",
            got=f"a plate outside of missing that is axis {max(inner)} of the site's batch",
            expected="missing outside of the plates that its data runs over",
            fix="Wrap the whole model, missing(model, data=...), or enter missing before the plate.",
        )
    extra = len(site) - len(data)
    lead = site[: max(extra, 0)]
    foreign = [s for i, s in enumerate(lead) if s != 1 and plates.get(i - extra - batch_dims) not in (s, 0)]
    if extra < 0 or site[extra:] != data or foreign:
        raise problem(
            f"data[{name!r}]",
            got=f"shape {data}",
            expected=f"the site's shape {site}",
            fix="Pass the data for the whole site, batch first, of exactly this shape (for a subsampled plate: the rows"
            " of this subsample, in a plate of their number).",
        )
    return lead


def observed_in_part(observed: Any, axis: int) -> Any:
    """Which entries belong to a block of which some entries are observed and some are not.

    Args:
        observed: (..., *event_shape) booleans of any array library.
        axis: along which blocks lie.

    Returns:
        Booleans, of size one along that axis.
    """
    xp = array_api_compat.array_namespace(observed)
    return xp.any(observed, axis=axis, keepdims=True) & ~xp.all(observed, axis=axis, keepdims=True)


def check_blocks(name: str, entries: Entries, axis: int | None) -> None:
    """Refuse blocks, such as the channels of a pixel, of which some entries are missing and some are not.

    Args:
        name: the site's name.
        entries: its data.
        axis: along which blocks lie, or None where there are none.

    Raises:
        ValueError: naming the site and the first such block.
    """
    if axis is None:
        return
    in_part = observed_in_part(entries.observed, axis)
    if in_part.any():
        raise problem(
            f"data[{name!r}]",
            got=f"{int(in_part.sum())} blocks along axis {axis} with some of their entries missing, the first at "
            f"{_first(in_part)}",
            expected="blocks observed or missing whole, as their entries depend on each other",
            fix="Hide all entries of these blocks (all channels of a pixel), or take a law of independent entries.",
        )


def taken(name: str) -> ValueError:
    """The site already has a value."""
    return problem(
        f"site {name!r}",
        got="a site that already has a value (obs=..., or a handler inside of missing)",
        expected="a site that the model leaves unobserved",
        fix="Leave obs away (or pass obs=None): missing provides the data. A model that is called with its data, holes "
        "and all, is wrapped by ObservedModel instead.",
    )


def unsupported(name: str, support: Any) -> ValueError:
    """The support is not elementwise."""
    return problem(
        f"site {name!r}",
        got=f"support {support}",
        expected="a support that constrains each entry by itself (real, positive, interval, …)",
        fix="Missing entries of a simplex, a covariance, … have no coordinates of their own: write the site as a"
        " transform of an unconstrained one and observe that.",
    )


def enumerated(name: str, support: Any) -> ValueError:
    """The bounds of the support depend on an enumerated variable."""
    return problem(
        f"site {name!r}",
        got=f"support {support}, whose bounds differ between the values of an enumerated variable",
        expected="one support for each missing entry",
        fix="Sample that variable instead of enumerating it, or give the site bounds that do not depend on it.",
    )


def discrete(name: str) -> ValueError:
    """A discrete site cannot get a latent site."""
    return problem(
        f"site {name!r}",
        got="a discrete distribution with latent=True",
        expected="latent=False for discrete sites",
        fix="With latent=False missing entries are summed out exactly and Predictive draws them. If the model reads"
        " the site's value, write the missing ones as a latent site of their own and enumerate it.",
    )


def dependent(name: str, distribution: str) -> ValueError:
    """The event is not elementwise independent."""
    return problem(
        f"site {name!r}",
        got=f"{distribution}, whose event is joint, with latent=False",
        expected="an event of independent elements: event_dim 0, or .to_event(...) of such a distribution",
        fix="Use latent=True: dropping missing entries from a joint density elementwise would ignore their"
        " correlation with the observed ones.",
    )


def unmet(names: Iterable[str], seen: Iterable[str]) -> ValueError:
    """Data was given for sites that the model does not have."""
    return problem(
        "data",
        got=f"site names {sorted(names)} that the model never met",
        expected=f"names of its sample sites, which are {list(seen)}",
        fix="Correct the name; a site hidden by a block inside of missing is not seen.",
    )


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])
