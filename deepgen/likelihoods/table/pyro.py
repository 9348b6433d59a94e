"""The law of a table in Pyro."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import constraints

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods.table import law, ordinal, starts
from deepgen.likelihoods.table.columns import Bounds, ColumnLaw, admissible, columns_of, features, layout
from deepgen.nn.bounded import bounded

PADDED = -1e30
"""The logit of a level that is none."""
MOST = 1e9
"""What the mean of a count is kept below when it is drawn."""


class Table(law.TableLaw, nn.Module):
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

    centre: torch.Tensor
    spread: torch.Tensor
    log_rate: torch.Tensor | None
    raw_scale: nn.Parameter | None
    raw_concentration: nn.Parameter | None
    raw_cutpoints: nn.Parameter | None

    def __init__(self, columns: Iterable[Any]):
        super().__init__()
        self.columns = columns_of(columns)
        own = starts.initial(self.columns)
        for name in law.NAMES:
            value = torch.as_tensor(own[name], dtype=torch.get_default_dtype()) if name in own else None
            if name in self.held:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, None if value is None else nn.Parameter(value))

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
        table.load_state_dict({name: torch.as_tensor(value) for name, value in own.items()})
        return table

    def numbers(self) -> dict[str, np.ndarray]:
        """The law's own tensors by name, as float64."""
        return {name: value.detach().cpu().double().numpy() for name, value in self.state_dict().items()}

    def forward(self, outputs: torch.Tensor) -> Any:
        """The law of a datum, given outputs (..., F)."""
        return Columns(self, outputs).to_event(1)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The datum as an encoder sees it, (..., F); what a missing entry gives means nothing."""
        x = x.to(self.centre.dtype)
        seen = features(x, _like(self.layout.codes, x), self.layout)
        return (seen - self.centre) / self.spread

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """E[x | outputs] of real, positive and count columns, the most probable code of categorical ones, and the
        median code of ordinal ones, (..., D)."""
        return Columns(self, outputs).middle


class Columns(dist.TorchDistribution):
    """The law of each entry of a table's row, given a decoder's outputs.

    Args:
        table: the law.
        outputs: (..., F).
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, table: Table, outputs: torch.Tensor):
        self.table, self.outputs = table, outputs
        super().__init__(torch.Size((*outputs.shape[:-1], len(table.columns))), torch.Size(), validate_args=False)

    @constraints.dependent_property(event_dim=0)
    def support(self) -> Any:
        """The real line, the positive numbers, or what each column can hold."""
        match self.table.layout.present:
            case ("real",):
                return constraints.real
            case ("positive",):
                return constraints.positive
        return Cells(self.table.columns)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw entries in the columns' own units.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, ..., D) floats.
        """
        return self._join({kind: self._draw(kind, torch.Size(sample_shape)) for kind in self.table.layout.present})

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density, or probability, of each entry: (..., D), minus infinity at what a column cannot hold."""
        where, x = self.table.layout, value.to(self.outputs.dtype)
        shape = torch.broadcast_shapes(x.shape, self.batch_shape)
        if where.present == ("real",):
            return self._normal("real").log_prob(x).expand(shape)
        bounds = Bounds(*(_like(part, x) for part in where.bounds))
        fine = admissible(x, bounds)
        safe = torch.where(fine, x, bounds.inside).expand(shape)
        parts = {kind: self._log_prob(kind, safe[..., where.entries[kind]]) for kind in where.present}
        found = self._join(parts)
        return torch.where(fine, found, torch.full_like(found, -torch.inf))

    @property
    def middle(self) -> torch.Tensor:
        """The mean of numbers, the most probable code of categories, the median code of ordered ones: (..., D)."""
        return self._join({kind: self._middle(kind) for kind in self.table.layout.present})

    def _join(self, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        dtype = self.outputs.dtype
        return torch.cat([part.to(dtype) for part in parts.values()], dim=-1)[..., self.table.layout.entry_order]

    def _log_prob(self, kind: str, x: torch.Tensor) -> torch.Tensor:
        match kind:
            case "real":
                return self._normal(kind).log_prob(x)
            case "positive":
                return self._normal(kind).log_prob(torch.log(x)) - torch.log(x)
            case "count":
                log_mean, concentration = self._count()
                logits = log_mean - torch.log(concentration)
                return dist.NegativeBinomial(concentration, logits=logits, validate_args=False).log_prob(x)
            case "categorical":
                return self._categorical().log_prob(x)
        cuts, gaps, ordinals = self._cutpoints()
        return ordinal.log_prob(x, self._location(kind), cuts, gaps, ordinals)

    def _draw(self, kind: str, shape: torch.Size) -> torch.Tensor:
        match kind:
            case "real":
                return self._normal(kind).sample(shape)
            case "positive":
                limits = torch.finfo(self.outputs.dtype)
                return self._normal(kind).sample(shape).exp().clamp(limits.tiny, limits.max)
            case "count":
                log_mean, concentration = self._count()
                inverse = concentration * torch.exp(-log_mean)
                rate = dist.Gamma(concentration, inverse, validate_args=False).sample(shape)
                return dist.Poisson(rate.clamp(0, MOST), validate_args=False).sample()
            case "categorical":
                return self._categorical().sample(shape)
        cuts, _, ordinals = self._cutpoints()
        location = self._location(kind)
        latent = dist.Logistic(location, torch.ones_like(location), validate_args=False).sample(shape)
        return ordinal.code_of(latent, cuts, ordinals)

    def _middle(self, kind: str) -> torch.Tensor:
        match kind:
            case "real":
                return self._normal(kind).loc
            case "positive":
                normal = self._normal(kind)
                return (normal.loc + normal.scale**2 / 2).exp().clamp(max=torch.finfo(self.outputs.dtype).max)
            case "count":
                return self._count()[0].exp().clamp(max=MOST)
            case "categorical":
                return self._categorical().logits.argmax(-1)
        cuts, _, ordinals = self._cutpoints()
        return ordinal.code_of(self._location(kind), cuts, ordinals)

    def _location(self, kind: str) -> torch.Tensor:
        return self.outputs[..., self.table.layout.outputs[kind]]

    def _normal(self, kind: str) -> Any:
        table: Any = self.table
        places, scaled = table.layout.outputs[kind], table.layout.scaled[kind]
        centre, spread = table.centre[places], table.spread[places]
        scale = torch.exp(bounded(table.raw_scale[scaled], *laws.LOG_SCALE))
        return dist.Normal(centre + spread * self._location(kind), spread * scale, validate_args=False)

    def _count(self) -> tuple[torch.Tensor, torch.Tensor]:
        table: Any = self.table
        log_mean = table.log_rate + self._location("count")
        return log_mean, torch.exp(bounded(table.raw_concentration, *starts.LOG_CONCENTRATION))

    def _categorical(self) -> Any:
        places, there = self.table.layout.logits
        logits = self.outputs[..., places].masked_fill(~_like(there, self.outputs), PADDED)
        return dist.Categorical(logits=logits, validate_args=False)

    def _cutpoints(self) -> tuple[torch.Tensor, torch.Tensor, ordinal.Ordinals]:
        ordinals = ordinal.Ordinals(*(_like(part, self.outputs) for part in self.table.layout.ordinals))
        return *ordinal.cutpoints(self.table.raw_cutpoints, ordinals), ordinals


class Cells(constraints.Constraint):
    """What the columns of a table can hold, column by column.

    Args:
        columns: of the table.
    """

    event_dim = 0

    def __init__(self, columns: tuple[ColumnLaw, ...]):
        self.columns = columns
        self.is_discrete = any(column.kind not in ("real", "positive") for column in columns)
        super().__init__()

    def check(self, value: torch.Tensor) -> torch.Tensor:
        """Which entries of (..., D) are admissible."""
        value = value if value.is_floating_point() else value.to(torch.get_default_dtype())
        return admissible(value, Bounds(*(_like(part, value) for part in layout(self.columns).bounds)))

    def __repr__(self) -> str:
        return f"Cells({', '.join(column.kind for column in self.columns)})"


def _like(array: np.ndarray, other: torch.Tensor) -> torch.Tensor:
    """On the other's device, floats in its dtype."""
    return torch.as_tensor(array, device=other.device, dtype=other.dtype if array.dtype.kind == "f" else None)
