"""The distributions that stand at a NumPyro site with missing entries."""

import math
from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.distribution import Distribution, ExpandedDistribution, Independent, MaskedDistribution

from deepgen.checks import problem
from deepgen.handlers.entries import Entries, observed_in_part


class Blocks(Distribution):
    """A joint law whose event falls into independent blocks, each along one axis and observed whole or not at all.

    Its missing blocks can be left out of the density as missing elements of an independent event can.
    """

    @property
    @abstractmethod
    def block_axis(self) -> int:
        """The axis of the event, counted from the end, whose entries belong together."""

    @abstractmethod
    def elements(self, value: Any) -> Any:
        """The log density of each block at its first entry, zero at the others.

        Args:
            value: (..., *event_shape).

        Returns:
            (..., *event_shape).
        """


class MissingEntries(Distribution):
    r"""The latent site of m missing entries: :math:`\log p = 0` on the support that their site gives them.

    Their density is the density of the completed site, which is observed; this distribution only brings their shape,
    their support and something to start from: a draw of the m entries from the site's own distribution.

    Args:
        base: the site's distribution, of shape (*lead, *site).
        support: the constraint of one entry, its bounds already of shape (*batch_shape, m).
        positions: (m,) indices into the flattened site.
        batch_shape: ``lead`` followed by ones for the site's own batch axes, or () without ``lead``.
        site: the shape of the data.
    """

    pytree_data_fields = ("base_dist", "_support", "_positions")
    pytree_aux_fields = ("_site",)

    def __init__(
        self,
        base: Distribution,
        support: constraints.Constraint,
        positions: np.ndarray,
        batch_shape: tuple[int, ...],
        site: tuple[int, ...],
    ) -> None:
        self.base_dist = base
        self._support = constraints.independent(support, 1)
        self._positions = positions
        self._site = site
        super().__init__(batch_shape, (len(positions),), validate_args=False)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw the missing entries from the site's distribution; given the observed ones only if all are independent.

        Args:
            key: a random key.
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, m) draws.

        Raises:
            ValueError: there is no random key.
        """
        if key is None:
            raise problem(
                "rng_key",
                got="None",
                expected="a random key for the missing entries",
                fix="Wrap the model in numpyro.handlers.seed, or substitute values for the site of missing entries.",
            )
        draw = jnp.asarray(self.base_dist.sample(key, sample_shape))
        return _gather(draw, self._positions, self._site).reshape(self.shape(sample_shape))

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """Zero for every value: (*batch_shape,)."""
        return jnp.zeros(jnp.broadcast_shapes(self.batch_shape, jnp.shape(value)[:-1]), jnp.result_type(float))


class ObservedEntries(Distribution):
    r"""A site of independent elements whose density is that of its observed elements alone.

    .. math:: \log p(x_\mathrm{observed}) = \sum_{i\ \mathrm{observed}} \log p_i(x_i)

    Of `Blocks` those that are observed count; one that is observed in part makes the density NaN.

    Args:
        base: the site's distribution, independent over elements or blocks.
        observed: booleans of the site's shape.
        fill: interior points of the support that stand in at the missing elements; the density does not depend on them.
    """

    pytree_data_fields = ("base_dist", "_observed", "_fill")

    def __init__(self, base: Distribution, observed: Any, fill: Any) -> None:
        self.base_dist = base
        self._observed = observed
        self._fill = fill
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the site."""
        return self.base_dist.support

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw the whole site.

        Args:
            key: a random key.
            sample_shape: leading axes of independent draws.
        """
        return self.base_dist.sample(key, sample_shape)

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """The log density of the observed elements, summed over each event: (*batch_shape,)."""
        safe = jnp.where(self._observed, value, self._fill)
        elements = jnp.where(self._observed, _elementwise_log_prob(self.base_dist, safe), 0.0)
        if (axis := block_axis(self.base_dist)) is not None:
            elements = jnp.where(observed_in_part(self._observed, axis), jnp.nan, elements)
        return elements.sum(axis=tuple(range(-self.event_dim, 0)))


class CompletedEntries(Distribution):
    r"""A row whose observed elements are what they are, and whose missing ones are drawn from their law.

    .. math:: \log p(x_\mathrm{missing}) = \sum_{i\ \mathrm{missing}} \log p_i(x_i)

    Args:
        base: the law of the row, elementwise independent.
        observed: booleans of the site's shape.
        data: its observed elements, and anything finite elsewhere.
    """

    pytree_data_fields = ("base_dist", "_observed", "_data")

    def __init__(self, base: Distribution, observed: Any, data: Any) -> None:
        self.base_dist = base
        self._observed = observed
        self._data = data
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """The support of the row."""
        return self.base_dist.support

    @property
    def has_rsample(self) -> bool:
        """Whether draws of the law are differentiable by its parameters."""
        return bool(self.base_dist.has_rsample)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Any:
        """Draw the missing elements: the completed row.

        Args:
            key: a random key.
            sample_shape: leading axes of independent draws.
        """
        return jnp.where(self._observed, self._data, self.base_dist.sample(key, sample_shape))

    def log_prob(self, value: Any, intermediates: Any = None) -> Any:
        """The log density of the missing elements, summed over each event: (*batch_shape,)."""
        fill = interior(self.base_dist, self._data)
        return ObservedEntries(self.base_dist, ~self._observed, fill).log_prob(value)


def interior(fn: Any, value: Any) -> Any:
    """What can stand in for elements that do not count: the value, or an interior point of a bounded support.

    At the edges of a support a density and its gradient may be infinite.

    Args:
        fn: the distribution of the elements.
        value: of the site's shape.
    """
    entry = entry_constraint(fn.support)
    if entry is None or entry.is_discrete or entry is constraints.real:
        return value
    return lax.stop_gradient(biject_to(entry)(jnp.zeros_like(value)))


def entry_constraint(support: Any) -> Any:
    """The constraint of one entry, or None where entries are constrained together."""
    while isinstance(support, constraints._IndependentConstraint):
        support = support.base_constraint
    if support is None or support.event_dim > 0:
        return None
    if not support.is_discrete:
        try:
            biject_to(support)
        except NotImplementedError:
            return None
    return support


def restrict(entry: Any, entries: Entries, batch_shape: tuple[int, ...]) -> Any:
    """The constraint with its bounds taken at the missing entries."""

    def bound(b: Any) -> Any:
        if jnp.ndim(b) == 0:
            return b
        full = jnp.broadcast_to(b, jnp.broadcast_shapes(jnp.shape(b), entries.shape))
        taken = _gather(full, entries.positions, entries.shape)
        ones = (1,) * (len(batch_shape) - (taken.ndim - 1))
        return taken.reshape(taken.shape[:-1] + ones + taken.shape[-1:]) if taken.ndim > 1 else taken

    return jax.tree.map(bound, entry)


def independent(fn: Any) -> bool:
    """Whether the elements, or `Blocks`, of each event are independent by construction."""
    fn = _innermost(fn)
    return fn.event_dim == 0 or isinstance(fn, Blocks)


def block_axis(fn: Any) -> int | None:
    """The axis along which entries are observed together, or None where each is by itself."""
    inner = _innermost(fn)
    return inner.block_axis if isinstance(inner, Blocks) else None


def _innermost(fn: Any) -> Any:
    while isinstance(fn, Independent | ExpandedDistribution | MaskedDistribution):
        fn = fn.base_dist
    return fn


def _gather(x: Any, positions: Any, site: tuple[int, ...]) -> Any:
    lead = x.shape[: x.ndim - len(site)]
    return x.reshape((*lead, math.prod(site)))[..., positions]


def _elementwise_log_prob(fn: Any, value: Any) -> Any:
    if isinstance(fn, MaskedDistribution):
        elements = _elementwise_log_prob(fn.base_dist, value)
        mask = jnp.reshape(fn._mask, jnp.shape(fn._mask) + (1,) * fn.event_dim)
        return jnp.where(mask, elements, 0.0)
    if isinstance(fn, Independent | ExpandedDistribution):
        return _elementwise_log_prob(fn.base_dist, value)
    return fn.elements(value) if isinstance(fn, Blocks) else fn.log_prob(value)
