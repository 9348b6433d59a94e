"""The distributions that stand at a Pyro site with missing entries."""

import copy
import math
from abc import abstractmethod
from typing import Any

import torch
from pyro.distributions import ExpandedDistribution, MaskedDistribution, TorchDistribution
from torch.distributions import Independent, biject_to, constraints

from deepgen.handlers import entries as rules
from deepgen.handlers.entries import Entries


class Blocks(TorchDistribution):
    """A joint law whose event falls into independent blocks, each along one axis and observed whole or not at all.

    Its missing blocks can be left out of the density as missing elements of an independent event can.
    """

    @property
    @abstractmethod
    def block_axis(self) -> int:
        """The axis of the event, counted from the end, whose entries belong together."""

    @abstractmethod
    def elements(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of each block at its first entry, zero at the others.

        Args:
            value: (..., *event_shape).

        Returns:
            (..., *event_shape).
        """


class MissingEntries(TorchDistribution):
    r"""The latent site of m missing entries: :math:`\log p = 0` on the support that their site gives them.

    Their density is the density of the completed site, which is observed; this distribution only brings their shape,
    their support and something to start from: a draw of the m entries from the site's own distribution.

    Args:
        base: the site's distribution, of shape (*lead, *site) up to enumerated axes.
        support: the constraint of one entry, its bounds already of shape (*batch_shape, m).
        positions: (m,) indices into the flattened site.
        lead: the sizes of the plates outside of the handler, one at other axes.
        site: the shape of the data.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(
        self,
        base: Any,
        support: constraints.Constraint,
        positions: torch.Tensor,
        lead: tuple[int, ...],
        site: tuple[int, ...],
    ) -> None:
        self.base_dist = base
        self._support = constraints.independent(support, 1)
        self._positions = positions
        self._lead = lead
        self._site = site
        batch_shape = batch_shape_outside(lead, len(site) - base.event_dim)
        super().__init__(torch.Size(batch_shape), torch.Size((len(positions),)), validate_args=False)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> Any:
        """The elementwise support of the missing entries."""
        return self._support

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw the missing entries from the site's distribution; given the observed ones only if all are independent.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, m) draws.
        """
        draw = self.base_dist.sample(torch.Size(sample_shape))
        draw = one_of_enumerated(draw, self._lead, self._site)
        return _gather(draw, self._positions, self._site).reshape(self.shape(torch.Size(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Zero for every value: (*batch_shape,)."""
        return value.new_zeros(torch.broadcast_shapes(self.batch_shape, value.shape[:-1]))


class ObservedEntries(TorchDistribution):
    r"""A site of independent elements whose density is that of its observed elements alone.

    .. math:: \log p(x_\mathrm{observed}) = \sum_{i\ \mathrm{observed}} \log p_i(x_i)

    Of `Blocks` those that are observed count; one that is observed in part makes the density NaN.

    Args:
        base: the site's distribution, independent over elements or blocks.
        observed: booleans of the site's shape.
        fill: interior points of the support that stand in at the missing elements; the density does not depend on them.
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, base: Any, observed: torch.Tensor, fill: torch.Tensor) -> None:
        self.base_dist = base
        self._observed = observed
        self._fill = fill
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the site."""
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ObservedEntries":
        """The same for further rows."""
        return ObservedEntries(self.base_dist.expand(torch.Size(batch_shape)), self._observed, self._fill)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw the whole site.

        Args:
            sample_shape: leading axes of independent draws.
        """
        return self.base_dist.sample(torch.Size(sample_shape))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of the observed elements, summed over each event: (*batch_shape,)."""
        safe = torch.where(self._observed, value, self._fill)
        elements = _elementwise_log_prob(self.base_dist, safe)
        elements = torch.where(self._observed, elements, torch.zeros_like(elements))
        if (axis := block_axis(self.base_dist)) is not None:
            in_part = rules.observed_in_part(self._observed, axis)
            elements = torch.where(in_part, torch.full_like(elements, torch.nan), elements)
        return elements.sum(tuple(range(-self.event_dim, 0))) if self.event_dim else elements


class CompletedEntries(TorchDistribution):
    r"""A row whose observed elements are what they are, and whose missing ones are drawn from their law.

    .. math:: \log p(x_\mathrm{missing}) = \sum_{i\ \mathrm{missing}} \log p_i(x_i)

    Args:
        base: the law of the row, elementwise independent.
        observed: booleans of the site's shape.
        data: its observed elements, and anything finite elsewhere.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, base: Any, observed: torch.Tensor, data: torch.Tensor) -> None:
        self.base_dist = base
        self._observed = observed
        self._data = data
        self.has_rsample = bool(base.has_rsample)
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the row."""
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CompletedEntries":
        """The same for further rows, each with draws of its own."""
        return CompletedEntries(self.base_dist.expand(torch.Size(batch_shape)), self._observed, self._data)

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw the missing elements, differentiably: the completed row.

        Args:
            sample_shape: leading axes of independent draws.
        """
        return torch.where(self._observed, self._data, self.base_dist.rsample(torch.Size(sample_shape)))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw the missing elements: the completed row.

        Args:
            sample_shape: leading axes of independent draws.
        """
        return torch.where(self._observed, self._data, self.base_dist.sample(torch.Size(sample_shape)))

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of the missing elements, summed over each event: (*batch_shape,)."""
        fill = interior(self.base_dist, self._data)
        return ObservedEntries(self.base_dist, ~self._observed, fill).log_prob(value)


def interior(fn: Any, value: torch.Tensor) -> torch.Tensor:
    """What can stand in for elements that do not count: the value, or an interior point of a bounded support.

    At the edges of a support a density and its gradient may be infinite.

    Args:
        fn: the distribution of the elements.
        value: of the site's shape.
    """
    entry = entry_constraint(fn.support)
    if entry is None or entry.is_discrete or entry is constraints.real:
        return value
    with torch.no_grad():
        return biject_to(entry)(torch.zeros_like(value))


def entry_constraint(support: Any) -> Any:
    """The constraint of one entry, or None where entries are constrained together."""
    # torch before 2.6 has no constraint of its own for mixtures
    mixture = getattr(constraints, "MixtureSameFamilyConstraint", constraints.independent)
    mixed = False
    while isinstance(support, constraints.independent | mixture):
        mixed = mixed or not isinstance(support, constraints.independent)
        support = support.base_constraint
    if support.event_dim > 0 or (mixed and any(bound.ndim for bound in _bounds(support).values())):
        return None
    if not support.is_discrete:
        try:
            biject_to(support)
        except NotImplementedError:
            return None
    return support


def restrict(name: str, entry: Any, entries: Entries, positions: torch.Tensor, batch_shape: tuple[int, ...]) -> Any:
    """The constraint with its bounds taken at the missing entries.

    Args:
        name: the site's name.
        entry: the constraint of one entry.
        entries: the site's data.
        positions: (m,) indices into the flattened data.
        batch_shape: of the site of missing entries: the plates outside, then ones for the site's own axes.

    Returns:
        The constraint, its bounds broadcast to (*batch_shape, m).

    Raises:
        ValueError: the bounds depend on an enumerated variable.
    """
    restricted = copy.copy(entry)
    for side, bound in _bounds(entry).items():
        if bound.ndim == 0:
            continue
        bound = bound.expand(torch.broadcast_shapes(bound.shape, entries.shape))
        lead = bound.shape[: bound.ndim - len(entries.shape)]
        while lead and lead[0] == 1:
            lead = lead[1:]
        if len(lead) > len(batch_shape) or any(a not in (1, b) for a, b in zip(lead, batch_shape, strict=False)):
            raise rules.enumerated(name, entry)
        ones = (1,) * (len(batch_shape) - len(lead)) if lead else ()
        setattr(restricted, side, _gather(bound, positions, entries.shape).reshape(lead + ones + positions.shape))
    return restricted


def independent(fn: Any) -> bool:
    """Whether the elements, or `Blocks`, of each event are independent by construction."""
    fn = _innermost(fn)
    return len(fn.event_shape) == 0 or isinstance(fn, Blocks)


def block_axis(fn: Any) -> int | None:
    """The axis along which entries are observed together, or None where each is by itself."""
    inner = _innermost(fn)
    return inner.block_axis if isinstance(inner, Blocks) else None


def one_of_enumerated(draw: torch.Tensor, lead: tuple[int, ...], site: tuple[int, ...]) -> torch.Tensor:
    """The draw at the first value of enumerated variables: missing entries are shared by all of them."""
    for i, size in enumerate(reversed(lead)):
        if size == 1:
            draw = draw.narrow(-1 - len(site) - i, 0, 1)
    return draw


def batch_shape_outside(lead: tuple[int, ...], own: int) -> tuple[int, ...]:
    """The batch shape of the site of missing entries: the plates outside, then ones for the site's own axes."""
    while lead and lead[0] == 1:
        lead = lead[1:]
    return lead + (1,) * own if lead else ()


def _innermost(fn: Any) -> Any:
    while isinstance(fn, Independent | ExpandedDistribution | MaskedDistribution):
        fn = fn.base_dist
    return fn


def _bounds(constraint: Any) -> dict[str, torch.Tensor]:
    sides = {side: getattr(constraint, side, None) for side in ("lower_bound", "upper_bound")}
    return {side: bound for side, bound in sides.items() if isinstance(bound, torch.Tensor)}


def _gather(x: torch.Tensor, positions: torch.Tensor, site: tuple[int, ...]) -> torch.Tensor:
    lead = x.shape[: x.ndim - len(site)]
    return x.reshape((*lead, math.prod(site))).index_select(-1, positions)


def _elementwise_log_prob(fn: Any, value: torch.Tensor) -> torch.Tensor:
    if isinstance(fn, MaskedDistribution):
        elements = _elementwise_log_prob(fn.base_dist, value)
        mask = torch.as_tensor(fn._mask, device=elements.device)
        return torch.where(mask.reshape(mask.shape + (1,) * fn.event_dim), elements, torch.zeros_like(elements))
    if isinstance(fn, Independent | ExpandedDistribution):
        return _elementwise_log_prob(fn.base_dist, value)
    return fn.elements(value) if isinstance(fn, Blocks) else fn.log_prob(value)
