"""The laws of single elements, apart from their engine: binary, real and integer data."""

import math
from typing import Any

import numpy as np

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.nn.bounded import unbounded

MIN_DF, MAX_DF = 2.5, 100.0


class BernoulliLaw(laws.Law):
    """Binary data; the decoder gives logits."""

    name = "bernoulli"

    def check_support(self, x: np.ndarray, observed: np.ndarray) -> None:
        """Refuse observed values other than 0 and 1, and say how to get there."""
        if not ((x == 0) | (x == 1) | ~observed).all():
            values = x[observed]
            low, high = values.min(), values.max()
            share = "x / 255" if low >= 0 and 1 < high <= 255 else "x"
            first = "Binarise" if share != "x" or (low >= 0 and high <= 1) else "Scale x to [0, 1], then binarise"
            raise checks.problem(
                "x",
                got=f"values from {low:g} to {high:g} under the Bernoulli likelihood",
                expected="0 and 1 only",
                fix=f"{first} with `(rng.random(x.shape) < {share}).astype('float32')`, "
                "or take a likelihood for real numbers such as 'gaussian_predicted'.",
            )

    def start(self, data: np.ndarray) -> np.ndarray:
        """The logit of each element's mean, kept from 0 and 1."""
        mean = np.clip(laws.mean(data), 0.01, 0.99)
        return np.log(mean / (1 - mean))[None]


class GaussianLaw(laws.Law):
    """Real data; the decoder gives the mean, and the scale where it is predicted."""

    scale: str

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name by which constructors know the law."""
        return "gaussian" if self.scale == "shared" else f"gaussian_{self.scale}"

    @property
    def num_params(self) -> int:
        """Two where the scale is predicted, else one."""
        return 2 if self.scale == "predicted" else 1

    def scale_shape(self) -> tuple[int, ...] | None:
        """The shape of the law's own scale parameter, or None where the decoder predicts the scale."""
        return {"shared": (), "per_dimension": self.event_shape, "predicted": None}[self.scale]

    def start(self, data: np.ndarray) -> np.ndarray:
        """Each element's mean, and its standard deviation where the scale is predicted."""
        mean = laws.mean(data)
        return np.stack([mean, laws.raw_scale(laws.deviation(data))]) if self.scale == "predicted" else mean[None]

    def standardised(self, data: np.ndarray) -> np.ndarray:
        """(n, F) float64: the data themselves, flattened, NaN where missing."""
        return np.asarray(data, dtype=float).reshape(len(data), -1)

    def from_gaussian(
        self, mean: np.ndarray, loadings: np.ndarray, residual: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The linear decoder at which x given z is N(mean + loadings z, diag(residual)).

        It is exact for standard deviations within [0.02, 50]; a shared scale takes the mean of the variances, which
        maximises the expected log density.

        Args:
            mean: (F,).
            loadings: (F, L).
            residual: (F,) variances.

        Returns:
            The decoder's weight (num_outputs, L), its bias (num_outputs,), and the law's own tensors by name.

        Raises:
            ValueError: arrays of wrong shapes, or variances that are not positive.
        """
        mean, loadings, residual = laws.gaussian(math.prod(self.event_shape), mean, loadings, residual)
        if self.scale == "predicted":
            weight = np.concatenate([loadings, np.zeros_like(loadings)])
            return weight, np.concatenate([mean, laws.raw_scale(np.sqrt(residual))]), {}
        own = residual.mean(keepdims=True) if self.scale == "shared" else residual
        return loadings, mean, {"raw_scale": laws.raw_scale(np.sqrt(own)).reshape(self.scale_shape() or ())}


class GaussianMixtureLaw(laws.Law):
    """Real data of several modes; the decoder gives weights, means and scales of the components."""

    name = "gaussian_mixture"
    num_components: int

    @property
    def num_params(self) -> int:
        """Weight, mean and scale of each component."""
        return 3 * self.num_components

    def spec(self) -> dict[str, Any]:
        """The JSON-able description, with the number of components."""
        return {**super().spec(), "num_components": self.num_components}

    def start(self, data: np.ndarray) -> np.ndarray:
        """Components with weight, mean and deviation of equal parts of each element's values in their order.

        The mixture then has the mean of the data. Where fewer values are observed than there are components, all have
        the mean and deviation of all.
        """
        parts = _in_parts(data.reshape(len(data), -1), self.num_components)
        weight, loc, deviation = (part.reshape(-1, *self.event_shape) for part in parts)
        # a component no narrower than a tenth of all values, lest it start at a few that are equal
        scale = np.maximum(deviation, 0.1 * laws.deviation(data))
        return np.concatenate([np.log(weight), loc, laws.raw_scale(scale)])


class StudentTLaw(laws.Law):
    """Real data with outliers; the decoder gives mean, scale and degrees of freedom."""

    name = "student_t"

    @property
    def num_params(self) -> int:
        """Mean, scale and degrees of freedom."""
        return 3

    def start(self, data: np.ndarray) -> np.ndarray:
        """Each element's mean, its standard deviation and ten degrees of freedom."""
        df = unbounded(np.full(self.event_shape, math.log(10.0)), math.log(MIN_DF), math.log(MAX_DF))
        return np.stack([laws.mean(data), laws.raw_scale(laws.deviation(data)), df])


class CategoricalLaw(laws.Law):
    """Integers 0 … num_classes - 1; the decoder gives logits, the encoder sees one-hot features."""

    name = "categorical"
    integer = True
    num_classes: int

    @property
    def num_params(self) -> int:
        """One logit a class."""
        return self.num_classes

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The one-hot code: classes first, then the event."""
        return (self.num_classes, *self.event_shape)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description, with the number of classes."""
        return {**super().spec(), "num_classes": self.num_classes}

    def check_support(self, x: np.ndarray, observed: np.ndarray) -> None:
        """Refuse observed values other than the classes' numbers."""
        values = x[observed]
        if not (np.isin(values, np.arange(self.num_classes))).all():
            raise checks.problem(
                "x",
                got=f"values from {values.min():g} to {values.max():g} under the categorical likelihood",
                expected=f"the integers 0 to {self.num_classes - 1}",
                fix="Encode the categories as such integers, or set num_classes to their number.",
            )

    def feature_mean(self, data: np.ndarray) -> np.ndarray:
        """Each class's frequency, (num_classes, *event_shape)."""
        observed = ~laws.is_missing(data)
        count = np.maximum(observed.sum(0), 1)
        return np.stack([((data == k) & observed).sum(0) / count for k in range(self.num_classes)])

    def start(self, data: np.ndarray) -> np.ndarray:
        """The log frequency of each class, kept from zero."""
        return np.log(np.clip(self.feature_mean(data), 0.01, 1.0))


def _in_parts(flat: np.ndarray, count: int) -> np.ndarray:
    """(3, count, D) sizes, means and deviations of equal parts of each column's observed values in their order."""
    found = []
    for column in flat.T:
        values = np.sort(column[~laws.is_missing(column)].astype(float))
        parts = np.array_split(values, count) if len(values) >= count else [values if len(values) else np.zeros(1)]
        moments = [(len(part), part.mean(), part.std()) for part in parts]
        found.append(moments if len(moments) == count else moments * count)
    return np.array(found).transpose(2, 1, 0)
