"""The law of integer pixels, apart from its engine: its support, its features, and what it starts from."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepgen import checks
from deepgen.likelihoods import laws
from deepgen.likelihoods.logistic.mixture import CHANNELS, standardised
from deepgen.nn.bounded import unbounded

NUM_VALUES, NUM_COMPONENTS = 256, 5
LARGEST_LOG_SCALE = 2.0


class DiscretizedLogisticLaw(laws.Law):
    """Integers 0 … num_values - 1 in their order; the decoder gives weights, locations and scales of the components.

    Attributes:
        num_components: K.
        num_values: V.
        coupled: whether the three channels of a pixel share their component and move each other's locations.
    """

    name = "discretized_logistic"
    integer = True
    num_components: int
    num_values: int
    coupled: bool

    @property
    def num_params(self) -> int:
        """3 K for each element; where channels are coupled, 10 K for each pixel."""
        return (1 + 3 * CHANNELS if self.coupled else 3) * self.num_components

    @property
    def outputs_shape(self) -> tuple[int, ...]:
        """(3 K, *event_shape), or (10 K, *event_shape[1:]) where channels are coupled."""
        return (self.num_params, *(self.event_shape[1:] if self.coupled else self.event_shape))

    @property
    def outputs_words(self) -> str:
        """What the decoder's numbers are, for messages."""
        each = "pixel" if self.coupled else "element"
        return f"{self.num_params} for each {each} of {self.event_shape}"

    @property
    def log_scale_bounds(self) -> tuple[float, float]:
        """Between which a component's log scale is kept: a small part of a bin, and several times all values."""
        return -math.log(self.num_values - 1) - 2.0, LARGEST_LOG_SCALE

    def smallest(self, element_shape: Sequence[int] | None) -> tuple[int, ...]:
        """The shape of a part of the datum: ``element_shape``, or None for one value or one coupled pixel.

        Raises:
            ValueError: a part that does not hold all three of its channels where they are coupled.
        """
        if element_shape is None:
            return (CHANNELS,) if self.coupled else ()
        if self.coupled and tuple(element_shape[:1]) != (CHANNELS,):
            raise checks.problem(
                "element_shape",
                got=tuple(element_shape),
                expected="(3,), a pixel's channels, as they are coupled",
                fix="Decide whole pixels (element_shape=(3,)), or pass likelihoods.DiscretizedLogistic(event_shape, "
                "coupled=False) as likelihood.",
            )
        return tuple(element_shape)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description, with the numbers of components and of values."""
        own = {"num_components": self.num_components, "num_values": self.num_values, "coupled": self.coupled}
        return {**super().spec(), **own}

    def check_support(self, x: np.ndarray, observed: np.ndarray) -> None:
        """Refuse observed values other than the integers from 0 to V - 1, and pixels observed in part where coupled."""
        values, top = x[observed], self.num_values - 1
        low, high = values.min(), values.max()
        if low < 0 or high > top or (np.floor(values) != values).any():
            fix = f"Round them to these, or set num_values (num_classes of a constructor) to {int(max(high, 1)) + 1}."
            if low >= 0 and high <= 1:
                fix = f"Scale them: np.rint({top} * x).astype('int32'), with -1 where missing."
            elif low >= -1 and high <= 1:
                fix = f"Scale them: np.rint({top} * (x + 1) / 2).astype('int32'), with -1 where missing."
            raise checks.problem(
                "x",
                got=f"values from {low:g} to {high:g} under the discretised logistic likelihood",
                expected=f"the integers 0 to {top}",
                fix=fix,
            )
        if self.coupled and (in_part := observed.any(1) & ~observed.all(1)).any():
            raise checks.problem(
                "x",
                got=f"{int(in_part.sum())} pixels with some of their channels missing",
                expected="pixels observed or missing whole, as their channels are coupled",
                fix="Hide all channels of these pixels, or pass likelihoods.DiscretizedLogistic(event_shape, "
                "coupled=False) of deepgen.numpyro or deepgen.pyro as likelihood.",
            )

    def feature_mean(self, data: np.ndarray) -> np.ndarray:
        """The data's mean of each element within [-1, 1], over the observed entries; 0 where there are none."""
        seen = (~laws.is_missing(data)).any(0)
        return np.where(seen, standardised(laws.mean(data), self.num_values), 0.0)

    def start(self, data: np.ndarray) -> np.ndarray:
        """(*outputs_shape): components of equal weight at the data's marginals, channels not moving each other.

        The k-th component of an element has the mean and the standard deviation of the k-th of K equal parts of its
        observed values in their order, so that before rounding all have the data's mean and, but for the least scale
        of half a bin, their standard deviation.
        """
        loc, deviation = (part.reshape(-1, *self.event_shape) for part in _parts(data, self.num_components))
        loc, deviation = standardised(loc, self.num_values), deviation * 2 / (self.num_values - 1)
        scale = np.maximum(math.sqrt(3) / math.pi * deviation, 1 / (self.num_values - 1))
        raw = unbounded(np.log(scale), *self.log_scale_bounds)
        if not self.coupled:
            return np.concatenate([np.zeros_like(loc), loc, raw])
        pixels = self.event_shape[1:]
        own = [np.moveaxis(part, 1, 0).reshape(-1, *pixels) for part in (loc, raw)]
        return np.concatenate([np.zeros((self.num_components, *pixels)), *own, np.zeros_like(own[0])])


def check_arguments(
    event_shape: tuple[int, ...], num_components: int, num_values: int, coupled: bool | None
) -> tuple[tuple[int, ...], bool]:
    """The event's shape, and whether channels are coupled, of a law's arguments.

    Raises:
        ValueError: fewer than one component or two values, or channels to couple where there are not three.
    """
    event_shape = checks.event_shape(event_shape) if event_shape != () else ()
    for what, number, least in (("num_components", num_components, 1), ("num_values", num_values, 2)):
        checks.at_least(what, number, least)
    if coupled is None:
        coupled = len(event_shape) == 3 and event_shape[0] == CHANNELS
    if coupled and event_shape[:1] != (CHANNELS,):
        raise checks.problem(
            "coupled",
            got=f"True for an event of shape {event_shape}",
            expected="three channels in front, as in (3, 32, 32)",
            fix="Leave coupled out: other events have no channels that move each other.",
        )
    return event_shape, bool(coupled)


def _parts(data: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, *event) means and standard deviations of equal parts of each element's observed values, in order.

    Where fewer than ``count`` values are observed, those of all of them; the middle where there are none.
    """
    flat = data.reshape(len(data), -1)
    absent = laws.is_missing(flat)
    number = (~absent).sum(0)
    in_order = np.sort(np.where(absent, np.iinfo(np.int32).max, flat).astype(np.int32), axis=0)
    rank = np.arange(len(flat))[:, None]
    part = np.where(rank < number, rank * count // np.maximum(number, 1), -1)
    all_mean, all_deviation = laws.mean(flat), laws.deviation(flat)
    means, deviations = [], []
    for k in range(count):
        within = part == k
        size = within.sum(0)
        mean = np.where(within, in_order, 0).sum(0, dtype=float) / np.maximum(size, 1)
        square = np.where(within, (in_order - mean) ** 2, 0).sum(0) / np.maximum(size, 1)
        enough = number >= count
        means.append(np.where(enough, mean, all_mean))
        deviations.append(np.where(enough, np.sqrt(square), all_deviation))
    return np.stack(means), np.stack(deviations)
