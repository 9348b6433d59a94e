"""Observation laws in NumPyro: from a decoder's outputs to the distribution of a datum."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from deepgen import checks
from deepgen.likelihoods import elements, laws
from deepgen.likelihoods.logistic.law import NUM_COMPONENTS, NUM_VALUES
from deepgen.likelihoods.logistic.numpyro import DiscretizedLogistic
from deepgen.likelihoods.table.numpyro import Table
from deepgen.nn.bounded import bounded


class Bernoulli(elements.BernoulliLaw, eqx.Module):
    """x_i ~ Bernoulli(sigmoid(a_i)) for binary data; the decoder gives the logits a.

    Args:
        event_shape: the shape of one datum.
    """

    event_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, outputs: jax.Array) -> dist.Distribution:
        """The law of a datum, given outputs (..., 1, *event_shape)."""
        return dist.Bernoulli(logits=_parameter(self, outputs, 0)).to_event(len(self.event_shape))

    def element(self, element_shape: Sequence[int] | None = None) -> "Bernoulli":
        """The same law of one entry, or of a part of that shape."""
        return Bernoulli(tuple(element_shape or ()))

    def features(self, x: jax.Array) -> jax.Array:
        """The datum as an encoder sees it: itself."""
        return x

    def mean(self, outputs: jax.Array) -> jax.Array:
        """E[x | outputs], the probability of a one."""
        return jax.nn.sigmoid(_parameter(self, outputs, 0))


class Gaussian(elements.GaussianLaw, eqx.Module):
    """x_i ~ N(m_i, s_i^2) with s shared, one for each dimension, or predicted by the decoder, within [0.01, 100].

    Args:
        event_shape: the shape of one datum.
        scale: ``"shared"``, ``"per_dimension"`` or ``"predicted"``.

    Raises:
        ValueError: another ``scale``.
    """

    raw_scale: jax.Array | None
    event_shape: tuple[int, ...] = eqx.field(static=True)
    scale: str = eqx.field(static=True)

    def __init__(self, event_shape: tuple[int, ...], scale: str = "shared"):
        checks.one_of("scale", scale, ("shared", "per_dimension", "predicted"))
        self.event_shape, self.scale = event_shape, scale
        shape = self.scale_shape()
        self.raw_scale = None if shape is None else jnp.zeros(shape)

    def __call__(self, outputs: jax.Array) -> dist.Distribution:
        """The law of a datum, given outputs (..., 1 or 2, *event_shape)."""
        raw = _parameter(self, outputs, 1) if self.raw_scale is None else self.raw_scale
        return dist.Normal(_parameter(self, outputs, 0), _scale(raw)).to_event(len(self.event_shape))

    def element(self, element_shape: Sequence[int] | None = None) -> "Gaussian":
        """The same law of one entry, or of a part of that shape; a scale for each dimension is refused."""
        if self.scale == "per_dimension":
            return super().element(element_shape)
        found = Gaussian(tuple(element_shape or ()), self.scale)
        return eqx.tree_at(lambda law: law.raw_scale, found, self.raw_scale) if self.scale == "shared" else found

    def features(self, x: jax.Array) -> jax.Array:
        """The datum as an encoder sees it: itself."""
        return x

    def mean(self, outputs: jax.Array) -> jax.Array:
        """E[x | outputs]."""
        return _parameter(self, outputs, 0)


class GaussianMixture(elements.GaussianMixtureLaw, eqx.Module):
    r"""x_i ~ sum_k w_ik N(m_ik, s_ik^2), for real data of several modes; s within [0.01, 100].

    Args:
        event_shape: the shape of one datum.
        num_components: K.

    Raises:
        ValueError: fewer than one component.
    """

    event_shape: tuple[int, ...] = eqx.field(static=True)
    num_components: int = eqx.field(static=True)

    def __init__(self, event_shape: tuple[int, ...], num_components: int = NUM_COMPONENTS):
        checks.at_least("num_components", num_components, 1)
        self.event_shape, self.num_components = event_shape, num_components

    def __call__(self, outputs: jax.Array) -> dist.Distribution:
        """The law of a datum, given outputs (..., 3 K, *event_shape)."""
        logits, loc, raw = self._parts(outputs)
        components = dist.Normal(loc, _scale(raw))
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), components).to_event(len(self.event_shape))

    def element(self, element_shape: Sequence[int] | None = None) -> "GaussianMixture":
        """The same law of one entry, or of a part of that shape."""
        return GaussianMixture(tuple(element_shape or ()), self.num_components)

    def features(self, x: jax.Array) -> jax.Array:
        """The datum as an encoder sees it: itself."""
        return x

    def mean(self, outputs: jax.Array) -> jax.Array:
        """E[x | outputs]."""
        logits, loc, _ = self._parts(outputs)
        return jnp.sum(jax.nn.softmax(logits) * loc, -1)

    def _parts(self, outputs: jax.Array) -> list[jax.Array]:
        return jnp.split(jnp.moveaxis(outputs, -1 - len(self.event_shape), -1), 3, axis=-1)


class StudentT(elements.StudentTLaw, eqx.Module):
    """x_i ~ t(df_i, m_i, s_i), for real data with outliers; s within [0.01, 100], df within [2.5, 100].

    Args:
        event_shape: the shape of one datum.
    """

    event_shape: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, outputs: jax.Array) -> dist.Distribution:
        """The law of a datum, given outputs (..., 3, *event_shape)."""
        loc, raw_scale, raw_df = (_parameter(self, outputs, i) for i in range(3))
        df = jnp.exp(bounded(raw_df, math.log(elements.MIN_DF), math.log(elements.MAX_DF)))
        return dist.StudentT(df, loc, _scale(raw_scale)).to_event(len(self.event_shape))

    def element(self, element_shape: Sequence[int] | None = None) -> "StudentT":
        """The same law of one entry, or of a part of that shape."""
        return StudentT(tuple(element_shape or ()))

    def features(self, x: jax.Array) -> jax.Array:
        """The datum as an encoder sees it: itself."""
        return x

    def mean(self, outputs: jax.Array) -> jax.Array:
        """E[x | outputs]."""
        return _parameter(self, outputs, 0)


class Categorical(elements.CategoricalLaw, eqx.Module):
    """x_i ~ Categorical(softmax(a_i)) for integers 0 … num_classes - 1.

    Args:
        event_shape: the shape of one datum.
        num_classes: how many classes.
    """

    event_shape: tuple[int, ...] = eqx.field(static=True)
    num_classes: int = eqx.field(static=True)

    def __call__(self, outputs: jax.Array) -> dist.Distribution:
        """The law of a datum, given outputs (..., num_classes, *event_shape)."""
        return dist.Categorical(logits=self._logits(outputs)).to_event(len(self.event_shape))

    def element(self, element_shape: Sequence[int] | None = None) -> "Categorical":
        """The same law of one entry, or of a part of that shape."""
        return Categorical(tuple(element_shape or ()), self.num_classes)

    def features(self, x: jax.Array) -> jax.Array:
        """The one-hot code, (..., num_classes, *event_shape); missing entries are all zero."""
        return jnp.moveaxis(jax.nn.one_hot(x, self.num_classes), -1, -1 - len(self.event_shape))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """The most probable class, as integers do not average."""
        return jnp.argmax(self._logits(outputs), -1)

    def _logits(self, outputs: jax.Array) -> jax.Array:
        return jnp.moveaxis(outputs, -1 - len(self.event_shape), -1)


Observation = Bernoulli | Gaussian | GaussianMixture | StudentT | Categorical | DiscretizedLogistic | Table


def observation(likelihood: str | Any, event_shape: tuple[int, ...], num_classes: int | None = None) -> Any:
    """The observation law of that name.

    Args:
        likelihood: ``"bernoulli"``, ``"gaussian"`` (one shared scale), ``"gaussian_per_dimension"``,
            ``"gaussian_predicted"``, ``"gaussian_mixture"``, ``"student_t"``, ``"categorical"``,
            ``"discretized_logistic"`` (mixtures of 5 components; `GaussianMixture` and `DiscretizedLogistic` take
            another number), or a law, which is returned as it is.
        event_shape: the shape of one datum.
        num_classes: the number of classes of a categorical law; of values of a discretised logistic one, None for 256.

    Returns:
        The law.

    Raises:
        ValueError: an unknown name, a number of classes that is missing or not wanted, or ``"table"``, which takes more
            than a name: `Table` makes it.
    """
    if not isinstance(likelihood, str):
        return likelihood
    laws.check_name(likelihood, num_classes)
    if likelihood == "gaussian_mixture":
        return GaussianMixture(event_shape)
    if likelihood.startswith("gaussian"):
        return Gaussian(event_shape, likelihood.removeprefix("gaussian").removeprefix("_") or "shared")
    if likelihood == "categorical":
        return Categorical(event_shape, int(num_classes or 0))
    if likelihood == "discretized_logistic":
        return DiscretizedLogistic(event_shape, NUM_COMPONENTS, NUM_VALUES if num_classes is None else num_classes)
    return {"bernoulli": Bernoulli, "student_t": StudentT}[likelihood](event_shape)


def build(spec: Mapping[str, Any]) -> Any:
    """The law that ``spec`` describes."""
    if spec["law"] == "table":
        return Table(tuple(column) for column in spec["columns"])
    if spec["law"] == "discretized_logistic":
        own = spec["num_components"], spec["num_values"], spec["coupled"]
        return DiscretizedLogistic(tuple(spec["event_shape"]), *own)
    if spec["law"] == "gaussian_mixture":
        return GaussianMixture(tuple(spec["event_shape"]), spec["num_components"])
    return observation(spec["law"], tuple(spec["event_shape"]), spec.get("num_classes"))


def _parameter(law: Any, outputs: jax.Array, index: int) -> jax.Array:
    return jnp.take(outputs, index, axis=outputs.ndim - 1 - len(law.event_shape))


def _scale(raw: jax.Array) -> jax.Array:
    return jnp.exp(bounded(raw, *laws.LOG_SCALE))
