"""The law of a table, apart from its engine: its support, its numbers from data, and its features."""

from abc import abstractmethod
from typing import Any

import numpy as np

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods.table import gaussian, starts
from deepgen.likelihoods.table.columns import ColumnLaw, Layout, admissible, features, layout

NAMES = ("centre", "spread", "log_rate", "raw_scale", "raw_concentration", "raw_cutpoints")

_EXPECTED = {
    "real": ("finite numbers", "Replace them, or set them to NaN where they stand for missing."),
    "positive": ("finite numbers > 0", "Take the kind 'real', or set zeros that mean 'below detection' to NaN."),
    "count": ("whole numbers >= 0", "Take the kind 'positive' or 'real' for measurements."),
    "categorical": ("level codes {}", "Number the levels from 0 on, or set num_levels to how many there are."),
    "ordinal": ("level codes {}", "Number the levels from 0 on, in their order, or set num_levels to how many."),
}


class TableLaw(laws.Law):
    """A table's columns, each with a law of its own; the decoder gives a location, or logits, for each.

    Attributes:
        columns: the kind of each, and the number of levels of a categorical or ordinal one.
    """

    name = "table"
    held = NAMES[:3]
    columns: tuple[ColumnLaw, ...]

    @property
    def event_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(D,)."""
        return (len(self.columns),)

    @property
    def outputs_shape(self) -> tuple[int, ...]:
        """(F,): one number for each column, one logit for each level of a categorical one."""
        return (self.layout.size,)

    @property
    def outputs_words(self) -> str:
        """What the decoder's numbers are, for messages."""
        return "one for each column, one for each level of a categorical one"

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """(F,): one number for each column, one indicator for each level of a categorical one."""
        return (self.layout.size,)

    @property
    def layout(self) -> Layout:
        """Where each column stands."""
        return layout(self.columns)

    @abstractmethod
    def numbers(self) -> dict[str, np.ndarray]:
        """The law's own tensors by name, as float64."""

    def feature_mask(self, absent: Any) -> Any:
        """Which features are missing: all levels of a missing entry.

        Args:
            absent: (..., D) booleans of any array library, True where an entry is missing.

        Returns:
            (..., F) booleans.
        """
        return absent[..., self.layout.column_of]

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes the law again, but for its numbers."""
        return {**super().spec(), "columns": [list(column) for column in self.columns]}

    def check_support(self, x: np.ndarray, observed: np.ndarray) -> None:
        """Refuse observed values that their columns cannot hold."""
        wrong = observed & ~admissible(np.asarray(x, dtype=float), self.layout.bounds)
        if wrong.any():
            index = int(np.argmax(wrong.any(0)))
            column = self.columns[index]
            expected, fix = _EXPECTED[column.kind]
            raise checks.problem(
                f"x, column {index}",
                got=f"{int(wrong[:, index].sum())} values that are no {column.kind!r} ones, the first "
                f"{x[np.argmax(wrong[:, index]), index]:g}",
                expected=expected.format(f"0 to {column.num_levels - 1}"),
                fix=fix,
            )

    def feature_mean(self, data: np.ndarray) -> np.ndarray:
        """(F,) the data's mean of each feature, over the observed entries."""
        return super().feature_mean(self.standardised(data))

    def start(self, data: np.ndarray) -> np.ndarray:
        """(F,): the decoder's output bias at which p(x | z) has the data's marginals.

        Exactly for the laws that `from_data` made of them, and for categorical columns; else as far as a location can.
        """
        return starts.biases(self.columns, self.numbers(), data)

    def standardised(self, data: np.ndarray) -> np.ndarray:
        """(n, F) float64: the features, NaN where missing."""
        data, own = np.asarray(data, dtype=float), self.numbers()
        seen = (features(data, self.layout.codes, self.layout) - own["centre"]) / own["spread"]
        return np.where(self.feature_mask(np.isnan(data)), np.nan, seen)

    def least_residual(self) -> np.ndarray:
        """(F,) what each feature keeps of variance given the latents, in units of its own.

        None for real and positive columns; a half for indicators and one part in K for an ordinal code of K levels, as
        a rule of thumb; for counts what a Poisson variable of the data's mean has.
        """
        return gaussian.least_residual(self.columns, self.numbers())

    def from_gaussian(
        self, mean: np.ndarray, loadings: np.ndarray, residual: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The linear decoder whose columns given z are like features N(mean + loadings z, diag(residual)).

        Exactly so for real and positive columns whose residual standard deviations are within [0.02, 50] of the
        column's own. See `deepgen.likelihoods.table.gaussian` for the others.

        Args:
            mean: (F,), in the units of ``standardised``.
            loadings: (F, L).
            residual: (F,) variances.

        Returns:
            The decoder's weight (F, L), its bias (F,), and the law's own tensors by name, those that change.

        Raises:
            ValueError: arrays of wrong shapes, or variances that are not positive.
        """
        parts = laws.gaussian(self.layout.size, mean, loadings, residual)
        return gaussian.linear_decoder(self.columns, self.numbers(), *parts)
