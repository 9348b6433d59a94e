"""What an observation law is, apart from its engine: its support, its parameters' start, its features and its name.

Both engines' classes take these as a base, so that refusals, initial values and descriptions stand once.
"""

import math
from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np

from deepgen import checks
from deepgen.nn.bounded import unbounded

MIN_SCALE, MAX_SCALE = 1e-2, 1e2
LOG_SCALE = (math.log(MIN_SCALE), math.log(MAX_SCALE))


class Law:
    """What every observation law has in common.

    Attributes:
        event_shape: the shape of one datum.
        num_params: how many numbers the decoder gives for each element of the datum.
        num_outputs: how many numbers the decoder gives for a datum.
        outputs_shape: the shape in which the law takes them.
        feature_shape: the shape of one datum as an encoder sees it.
        held: names of the law's own tensors that are saved with its parameters but belong to the data: never trained.
    """

    name: str
    integer = False
    held: tuple[str, ...] = ()
    event_shape: tuple[int, ...]

    @property
    def num_params(self) -> int:
        """How many numbers the decoder gives for each element of the datum."""
        return 1

    @property
    def num_outputs(self) -> int:
        """How many numbers the decoder gives for a datum."""
        return math.prod(self.outputs_shape)

    @property
    def outputs_shape(self) -> tuple[int, ...]:
        """The shape in which the law takes a decoder's numbers for one datum."""
        return (self.num_params, *self.event_shape)

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of one datum as an encoder sees it."""
        return self.event_shape

    @property
    def outputs_words(self) -> str:
        """What the decoder's numbers are, for messages."""
        return f"{self.num_params} for each element of {self.event_shape}"

    def feature_mask(self, absent: Any) -> Any:
        """Which features are missing.

        Args:
            absent: (..., *event_shape) booleans of any array library, True where an entry is missing.

        Returns:
            (..., *feature_shape) booleans: all features of a missing entry.
        """
        xp = array_api_compat.array_namespace(absent)
        batch = tuple(absent.shape[: absent.ndim - len(self.event_shape)])
        classes = (1,) * (len(self.feature_shape) - len(self.event_shape))
        return xp.broadcast_to(xp.reshape(absent, (*batch, *classes, *self.event_shape)), (*batch, *self.feature_shape))

    def element(self, element_shape: Sequence[int] | None = None) -> Any:
        """The same law of a part of the datum, as an autoregressive program decides one after the other.

        Args:
            element_shape: the part's shape; None for the smallest, ``()``, or a pixel where channels are coupled.

        Returns:
            The law, its own parameters shared.

        Raises:
            ValueError: the law is not the same for every part.
        """
        raise checks.problem(
            "likelihood",
            got=repr(self.name),
            expected="a law that is the same for every entry, so that one can be decided after the other",
            fix="Take 'bernoulli', 'categorical', 'gaussian', 'gaussian_predicted', 'gaussian_mixture', 'student_t' or "
            "'discretized_logistic'.",
        )

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes the law again."""
        return {"law": self.name, "event_shape": list(self.event_shape)}

    def check_support(self, x: np.ndarray, observed: np.ndarray) -> None:
        """Refuse observed values that the law cannot produce. Every real number is allowed here."""

    def feature_mean(self, data: np.ndarray) -> np.ndarray:
        """The data's mean of each feature, over the observed entries: what an encoder is shown where x is missing."""
        return mean(data)

    def start(self, data: np.ndarray) -> np.ndarray:
        """(*outputs_shape): the decoder's output bias at which p(x | z) has the data's own marginals.

        Raises:
            TypeError: a law of the user's own that does not define it.
        """
        raise TypeError(
            f"law {type(self).__name__}: got no start; expected a method start(data) that returns the decoder's output "
            f"biases, of shape {self.outputs_shape}, at which the law has the marginals of data (n, *event_shape), NaN "
            "where missing. Define it on the class, or make the program without data."
        )

    def standardised(self, data: np.ndarray) -> np.ndarray:
        """The data's features, one row a datum: what a linear-Gaussian start is fitted to.

        Args:
            data: (n, *event_shape), NaN where missing.

        Returns:
            (n, F) float64, the numbers of ``features`` flattened, NaN where missing.

        Raises:
            ValueError: the law has no linear-Gaussian start.
        """
        raise _no_gaussian(self)

    def least_residual(self) -> np.ndarray:
        """(F,) what a linear-Gaussian law of ``standardised`` has to leave each feature of variance given the latents.

        Zero where features are real numbers. A code or a count keeps a variance however much the latents say, and a
        block of indicators adds up to one, so that without it the normal would take it for known without error.
        """
        return np.zeros(math.prod(self.feature_shape))

    def from_gaussian(
        self, mean: np.ndarray, loadings: np.ndarray, residual: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """The linear decoder at which the features given z are N(mean + loadings z, diag(residual)).

        Args:
            mean: (F,), in the units of ``standardised``.
            loadings: (F, L).
            residual: (F,) variances.

        Returns:
            The decoder's weight (num_outputs, L), its bias (num_outputs,), and the law's own tensors by name.

        Raises:
            ValueError: the law has no linear-Gaussian start, or arrays of wrong shapes or variances that are not
                positive.
        """
        raise _no_gaussian(self)


def gaussian(size: int, mean: Any, loadings: Any, residual: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parts of a linear-Gaussian law of so many features as float64, checked.

    Raises:
        ValueError: wrong shapes, or variances that are not positive.
    """
    mean, loadings, residual = (np.asarray(part, dtype=float) for part in (mean, loadings, residual))
    if mean.shape != (size,) or residual.shape != (size,) or loadings.ndim != 2 or len(loadings) != size:
        raise checks.problem(
            "linear-Gaussian start",
            got=f"mean {mean.shape}, loadings {loadings.shape}, residual {residual.shape}",
            expected=f"({size},), ({size}, latents) and ({size},)",
            fix="Fit them to what the law's `standardised` gives.",
        )
    if not (np.isfinite(residual).all() and (residual > 0).all()):
        raise checks.problem(
            "residual",
            got=f"the smallest variance {residual.min():g}",
            expected="finite variances > 0",
            fix="Give every feature a little variance of its own.",
        )
    return mean, loadings, residual


def is_missing(x: np.ndarray) -> np.ndarray:
    """NaN in float data, a negative code in integer data.

    Args:
        x: any array.

    Returns:
        Booleans of its shape.
    """
    return np.isnan(x) if x.dtype.kind == "f" else x < 0


def raw_scale(scale: np.ndarray) -> np.ndarray:
    """The unbounded number that the bounded scale takes to ``scale``."""
    return unbounded(np.log(np.clip(scale, 2 * MIN_SCALE, MAX_SCALE / 2)), *LOG_SCALE)


def _no_gaussian(law: Law) -> ValueError:
    return checks.problem(
        "likelihood",
        got=repr(law.name),
        expected="a law with a linear-Gaussian start: 'gaussian', 'gaussian_per_dimension', 'gaussian_predicted' or a "
        "Table",
        fix="Take one of these, or start the program otherwise.",
    )


def mean(data: np.ndarray) -> np.ndarray:
    """The mean of each element over the observed entries, 0 where there are none."""
    observed = ~is_missing(data)
    return np.where(observed, data, 0).sum(0, dtype=float) / np.maximum(observed.sum(0), 1)


def deviation(data: np.ndarray) -> np.ndarray:
    """The standard deviation of each element over the observed entries."""
    observed = ~is_missing(data)
    square = np.where(observed, (data - mean(data)) ** 2, 0).sum(0) / np.maximum(observed.sum(0), 1)
    return np.sqrt(square)


NAMES = (
    "bernoulli",
    "gaussian",
    "gaussian_per_dimension",
    "gaussian_predicted",
    "gaussian_mixture",
    "student_t",
    "categorical",
    "discretized_logistic",
)


def check_name(likelihood: str, num_classes: int | None) -> None:
    """Refuse a law that is unknown or takes more than a name, and a number of classes missing or not to be used.

    Raises:
        ValueError: naming what is wrong.
    """
    if likelihood == "table":
        raise checks.problem(
            "likelihood",
            got="'table'",
            expected="a Table, which knows its columns",
            fix="Make it by likelihoods.Table.from_data(columns, x) of deepgen.numpyro or deepgen.pyro, where columns "
            "has a kind for each column, and pass it as likelihood.",
        )
    checks.one_of("likelihood", likelihood, NAMES)
    if likelihood == "categorical" and (num_classes is None or num_classes < 2):
        raise checks.problem(
            "num_classes", got=num_classes, expected="a number >= 2", fix="Say how many categories the data have."
        )
    if likelihood not in ("categorical", "discretized_logistic") and num_classes is not None:
        raise checks.problem(
            "num_classes",
            got=num_classes,
            expected="None",
            fix="Only likelihood='categorical' and 'discretized_logistic' take it: leave it out.",
        )


def check_data(law: Law, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
    """``x`` as the law takes it: floats, or integers with -1 where missing.

    Args:
        law: the law.
        x: (n, *event_shape) numbers; a masked array's mask says what is missing.
        missing: whether missing entries are allowed.
        observed: booleans of x's shape, or None where NaN (a negative integer) says what is missing.

    Returns:
        Floats with NaN, or integers with -1, where missing.

    Raises:
        ValueError: wrong dtype, shape or support, empty, not finite, missing where it may not be, or a row of which
            nothing is observed.
    """
    x, observed = checks.with_mask(x, observed)
    array = checks.data("x", x, law.event_shape, missing=missing, observed=observed)
    present = ~is_missing(array) if law.integer or array.dtype.kind == "f" else np.ones(array.shape, dtype=bool)
    if observed is not None:
        present = present & observed
    refuse_missing(present, missing)
    law.check_support(array, present)
    if law.integer:
        return np.where(present, array, -1).astype(np.int32)
    dtype = array.dtype if array.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    return np.where(present, array, np.nan).astype(dtype)


def refuse_missing(present: np.ndarray, missing: bool) -> None:
    """Refuse entries that are missing where they may not be, and rows of which nothing is observed.

    Args:
        present: (n, ...) booleans, what is observed.
        missing: whether missing entries are allowed.

    Raises:
        ValueError: there are some.
    """
    if not missing and not present.all():
        raise checks.problem(
            "x", got="missing entries", expected="complete data", fix="Drop these rows, or complete them with impute."
        )
    empty = ~present.reshape(len(present), -1).any(1)
    if empty.any():
        raise checks.problem(
            "x",
            got=f"{int(empty.sum())} rows of which nothing is observed, the first at {int(np.argmax(empty))}",
            expected="at least one observed entry in each row",
            fix="Drop these rows; draws given nothing at all are what `sample` gives.",
        )


def output_shape(law: Law, shape: tuple[int, ...], batch_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape (*batch_shape, *outputs_shape) of a decoder's outputs, however they come.

    Args:
        law: the law.
        shape: of the decoder's outputs, batch first.
        batch_shape: of what went into the decoder.

    Returns:
        The shape to bring them into.

    Raises:
        ValueError: the decoder gives another number of numbers a datum.
    """
    size = law.num_outputs
    if shape[: len(batch_shape)] != batch_shape or math.prod(shape[len(batch_shape) :]) != size:
        raise checks.problem(
            "decoder",
            got=f"outputs of shape {shape} for a batch of shape {batch_shape}",
            expected=f"{size} numbers a datum: {law.outputs_words}",
            fix="Give the decoder's last layer that many outputs.",
        )
    return (*batch_shape, *law.outputs_shape)
