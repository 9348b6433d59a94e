"""The law of a table in NumPyro."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods.table import law, ordinal, starts
from deepgen.likelihoods.table.columns import Bounds, ColumnLaw, admissible, columns_of, features, layout
from deepgen.nn.bounded import bounded
from deepgen.nn.equinox import load_state_dict, state_dict

PADDED = -1e30
"""The logit of a level that is none."""
MOST = 1e9
"""What the mean of a count is kept below when it is drawn."""


class Table(law.TableLaw, eqx.Module):
    r"""A row of columns of different types, independent given what the decoder says of each.

    With a location m, or logits a, from the decoder, c and d the column's centre and spread, s its scale within [0.01,
    100], r its concentration within [0.01, 1000] and t_1 < t_2 < ... its cutpoints:

    ============= ======================================================================
    real          x ~ N(c + d m, (d s)^2)
    positive      log x ~ N(c + d m, (d s)^2)
    count         x ~ NegativeBinomial of mean l exp(m) and variance mean + mean^2 / r
    categorical   x ~ Categorical(softmax(a))
    ordinal       P(x < k) = sigmoid(t_k - m)
    ============= ======================================================================

    c, d and l (of counts) belong to the data and are not trained; `from_data` sets them, and everything else so that
    the law starts at the data's marginals. A datum is a row (D,) of floats in the columns' own units, codes 0, 1, … for
    the levels of categorical and ordinal columns.

    Args:
        columns: for each column its kind, or (kind, num_levels): ``["real", "positive", ("categorical", 3)]``.

    Raises:
        ValueError: no columns, an unknown kind, or a number of levels that is missing or not wanted.
    """

    centre: jax.Array
    spread: jax.Array
    log_rate: jax.Array | None
    raw_scale: jax.Array | None
    raw_concentration: jax.Array | None
    raw_cutpoints: jax.Array | None
    columns: tuple[ColumnLaw, ...] = eqx.field(static=True)

    def __init__(self, columns: Iterable[Any]):
        self.columns = columns_of(columns)
        own = starts.initial(self.columns)
        for name in law.NAMES:
            setattr(self, name, jnp.asarray(own[name], jnp.result_type(float)) if name in own else None)

    @classmethod
    def from_data(cls, columns: Iterable[Any], data: Any) -> "Table":
        """The law whose centres, spreads and other numbers are those of the data.

        Args:
            columns: as for the constructor.
            data: (n, D), NaN where missing.

        Returns:
            The law, at the data's marginals where the decoder gives zeros, or log frequencies for categorical columns.

        Raises:
            ValueError: columns that are not allowed, data that do not fit them, or a column without an observed entry.

        Warns:
            UserWarning: a column whose observed entries are all the same.
        """
        table = cls(columns)
        rows = laws.check_data(table, data, missing=True)
        own = starts.fitted(table.columns, rows)
        checks.tell_constant("data", rows)
        return load_state_dict(table, own)

    def numbers(self) -> dict[str, np.ndarray]:
        """The law's own tensors by name, as float64."""
        return {name: np.asarray(value, dtype=float) for name, value in state_dict(self).items()}

    def __call__(self, outputs: jax.Array) -> dist.Distribution:
        """The law of a datum, given outputs (..., F)."""
        return Columns(self, outputs).to_event(1)

    def features(self, x: jax.Array) -> jax.Array:
        """The datum as an encoder sees it, (..., F); what a missing entry gives means nothing."""
        seen = features(x.astype(self.centre.dtype), self.layout.codes, self.layout)
        return (seen - jax.lax.stop_gradient(self.centre)) / jax.lax.stop_gradient(self.spread)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """E[x | outputs] of real, positive and count columns, the most probable code of categorical ones, and the
        median code of ordinal ones, (..., D)."""
        return Columns(self, outputs).middle


class Columns(dist.Distribution):
    """The law of each entry of a table's row, given a decoder's outputs.

    Args:
        table: the law.
        outputs: (..., F).
    """

    pytree_data_fields = ("table", "outputs")

    def __init__(self, table: Table, outputs: jax.Array):
        self.table, self.outputs = table, outputs
        super().__init__((*outputs.shape[:-1], len(table.columns)), (), validate_args=False)

    @property
    def support(self) -> Any:
        """The real line, the positive numbers, or what each column can hold."""
        match self.table.layout.present:
            case ("real",):
                return constraints.real
            case ("positive",):
                return constraints.positive
        return Cells(self.table.columns)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw entries in the columns' own units.

        Args:
            key: a random key.
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, ..., D) floats.
        """
        keys = dict(zip(self.table.layout.present, jax.random.split(key, len(self.table.layout.present)), strict=True))
        return self._join({kind: self._draw(kind, keys[kind], tuple(sample_shape)) for kind in keys})

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """The log density, or probability, of each entry: (..., D), minus infinity at what a column cannot hold."""
        where, x = self.table.layout, jnp.asarray(value, self.outputs.dtype)
        shape = jnp.broadcast_shapes(x.shape, self.batch_shape)
        if where.present == ("real",):
            return jnp.broadcast_to(self._normal("real").log_prob(x), shape)
        bounds = Bounds(*(_like(part, x) for part in where.bounds))
        fine = admissible(x, bounds)
        safe = jnp.broadcast_to(jnp.where(fine, x, bounds.inside), shape)
        parts = {kind: self._log_prob(kind, safe[..., where.entries[kind]]) for kind in where.present}
        return jnp.where(fine, self._join(parts), -jnp.inf)

    @property
    def middle(self) -> jax.Array:
        """The mean of numbers, the most probable code of categories, the median code of ordered ones: (..., D)."""
        return self._join({kind: self._middle(kind) for kind in self.table.layout.present})

    def _join(self, parts: dict[str, jax.Array]) -> jax.Array:
        dtype = self.outputs.dtype
        return jnp.concatenate([part.astype(dtype) for part in parts.values()], axis=-1)[
            ..., self.table.layout.entry_order
        ]

    def _log_prob(self, kind: str, x: jax.Array) -> jax.Array:
        match kind:
            case "real":
                return self._normal(kind).log_prob(x)
            case "positive":
                return self._normal(kind).log_prob(jnp.log(x)) - jnp.log(x)
            case "count":
                log_mean, concentration = self._count()
                return dist.NegativeBinomialLogits(concentration, log_mean - jnp.log(concentration)).log_prob(x)
            case "categorical":
                return self._categorical().log_prob(x.astype(jnp.int32))
        cuts, gaps, ordinals = self._cutpoints()
        return ordinal.log_prob(x, self._location(kind), cuts, gaps, ordinals)

    def _draw(self, kind: str, key: Any, shape: tuple[int, ...]) -> jax.Array:
        match kind:
            case "real":
                return self._normal(kind).sample(key, shape)
            case "positive":
                limits = jnp.finfo(self.outputs.dtype)
                return jnp.clip(jnp.exp(self._normal(kind).sample(key, shape)), limits.tiny, limits.max)
            case "count":
                log_mean, concentration = self._count()
                key, key_rate = jax.random.split(key)
                rate = dist.Gamma(concentration, concentration * jnp.exp(-log_mean)).sample(key_rate, shape)
                return dist.Poisson(jnp.clip(rate, 0, MOST)).sample(key)
            case "categorical":
                return self._categorical().sample(key, shape)
        cuts, _, ordinals = self._cutpoints()
        location = self._location(kind)
        latent = dist.Logistic(location, jnp.ones_like(location)).sample(key, shape)
        return ordinal.code_of(latent, cuts, ordinals)

    def _middle(self, kind: str) -> jax.Array:
        match kind:
            case "real":
                return self._normal(kind).loc
            case "positive":
                normal = self._normal(kind)
                return jnp.clip(jnp.exp(normal.loc + normal.scale**2 / 2), max=jnp.finfo(self.outputs.dtype).max)
            case "count":
                return jnp.clip(jnp.exp(self._count()[0]), max=MOST)
            case "categorical":
                return jnp.argmax(self._categorical().logits, -1)
        cuts, _, ordinals = self._cutpoints()
        return ordinal.code_of(self._location(kind), cuts, ordinals)

    def _location(self, kind: str) -> jax.Array:
        return self.outputs[..., self.table.layout.outputs[kind]]

    def _normal(self, kind: str) -> dist.Normal:
        table: Any = self.table
        places, scaled = table.layout.outputs[kind], table.layout.scaled[kind]
        centre, spread = jax.lax.stop_gradient(table.centre)[places], jax.lax.stop_gradient(table.spread)[places]
        scale = jnp.exp(bounded(table.raw_scale[scaled], *laws.LOG_SCALE))
        return dist.Normal(centre + spread * self._location(kind), spread * scale)

    def _count(self) -> tuple[jax.Array, jax.Array]:
        table: Any = self.table
        log_mean = jax.lax.stop_gradient(table.log_rate) + self._location("count")
        return log_mean, jnp.exp(bounded(table.raw_concentration, *starts.LOG_CONCENTRATION))

    def _categorical(self) -> Any:
        places, there = self.table.layout.logits
        return dist.Categorical(logits=jnp.where(there, self.outputs[..., places], PADDED))

    def _cutpoints(self) -> tuple[jax.Array, jax.Array, ordinal.Ordinals]:
        ordinals = ordinal.Ordinals(*(_like(part, self.outputs) for part in self.table.layout.ordinals))
        return *ordinal.cutpoints(self.table.raw_cutpoints, ordinals), ordinals


class Cells(constraints.Constraint):
    """What the columns of a table can hold, column by column.

    Args:
        columns: of the table.
    """

    def __init__(self, columns: tuple[ColumnLaw, ...]):
        self.columns = columns
        self.is_discrete = any(column.kind not in ("real", "positive") for column in columns)

    def __call__(self, x: Any) -> Any:
        """Which entries of (..., D) are admissible."""
        xp: Any = jnp if isinstance(x, jax.Array) else np
        x = xp.asarray(x)
        return admissible(
            x if x.dtype.kind == "f" else x.astype(float), Bounds(*map(xp.asarray, layout(self.columns).bounds))
        )

    def __repr__(self) -> str:
        return f"Cells({', '.join(column.kind for column in self.columns)})"

    def feasible_like(self, prototype: Any) -> Any:
        """An admissible row in the shape of another."""
        return jnp.broadcast_to(layout(self.columns).bounds.inside, jnp.shape(prototype))

    def tree_flatten(self) -> Any:
        """No arrays: all of it is static."""
        return (), ((), {"columns": self.columns, "is_discrete": self.is_discrete})

    def eq(self, other: object, static: bool = False) -> bool:
        """Whether it is the same."""
        return isinstance(other, Cells) and self.columns == other.columns


def _like(array: np.ndarray, other: jax.Array) -> jax.Array:
    """Floats in the other's dtype."""
    return jnp.asarray(array, dtype=other.dtype if array.dtype.kind == "f" else None)
