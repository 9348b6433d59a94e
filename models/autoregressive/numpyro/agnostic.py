"""Programs of every order in NumPyro: a law given an order, and the program that draws the order first."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import lax
from numpyro.distributions import constraints

from deepgen.likelihoods import laws
from deepgen.likelihoods import numpyro as likelihoods
from deepgen.models.autoregressive import agnostic, sequence
from deepgen.models.autoregressive.numpyro.distribution import clamped
from deepgen.models.autoregressive.numpyro.ensemble import RandomMember
from deepgen.nn import equinox as nn
from deepgen.program import LikelihoodKind, files
from deepgen.program.numpyro import declare


class AnyOrder(dist.Distribution):
    r"""Entries decided in the order of rising priorities, by one network that sees what is decided and what is not.

    .. math:: \log p(x) = \sum_{d=1}^{D} \log p(x_{o(d)} \mid x_{o(1)}, \ldots, x_{o(d-1)})

    Missing entries (NaN, negative integers) come last whatever their priorities, and are integrated out. Uria, Murray &
    Larochelle 2014, A deep and tractable density estimator.

    Args:
        network: from (n, D (F + 1)) numbers, the features of what is decided and its mask, to (n, P D).
        observation: the law of a datum, the same for each entry.
        priorities: (n, D) distinct numbers.
        places: (n,) numbers in [0, 1) that choose a place of the order at random: then ``log_prob`` is an estimate of
            the log density's mean over orders by the conditionals at that place (`agnostic.scaled`); None for all.
        validate_args: as of any distribution.

    Raises:
        ValueError: a network of another number of outputs, or a law of coupled entries.
    """

    pytree_data_fields = ("network", "observation", "priorities", "places")

    def __init__(
        self,
        network: Any,
        observation: Any,
        priorities: Any,
        places: Any = None,
        *,
        validate_args: bool | None = None,
    ):
        features, _, self._features = agnostic.sizes(observation)
        example = jax.eval_shape(network, jax.ShapeDtypeStruct((1, features), float))
        agnostic.check(example.shape, observation, features)
        self.network, self.observation, self.priorities, self.places = network, observation, priorities, places
        super().__init__(priorities.shape[:-1], tuple(observation.event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """That of the law of a datum."""
        return self.observation(jnp.zeros(self.observation.outputs_shape)).support

    def at_random(self, rng_key: Any) -> "AnyOrder":
        """The same law with a place at random: its log density is an estimate of the mean over orders.

        Args:
            rng_key: a random key.
        """
        places = jax.random.uniform(rng_key, self.batch_shape)
        return AnyOrder(self.network, self.observation, self.priorities, places)

    def log_prob(self, value: Any) -> jax.Array:
        """The log density of what is observed of each value."""
        x = jnp.asarray(value).reshape(*jnp.shape(value)[: -len(self.event_shape)], -1)
        lead = jnp.broadcast_shapes(x.shape, self.priorities.shape)
        x = jnp.broadcast_to(x, lead)
        observed = sequence.observed(x, None)
        x = jnp.where(observed, x, jnp.zeros((), x.dtype))
        rank = agnostic.ranks(jnp.broadcast_to(self.priorities, lead), observed)
        if self.places is not None:
            place = agnostic.position(jnp.broadcast_to(self.places, lead[:-1]), observed)
            log_p = self._element(x, rank < place[..., None]).log_prob(x)
            return agnostic.scaled(log_p, rank, place, observed)

        def body(total: jax.Array, d: jax.Array) -> tuple[jax.Array, None]:
            log_p = self._element(x, rank < d).log_prob(x)
            return total + jnp.where((rank == d) & observed, log_p, 0.0).sum(-1), None

        return lax.scan(body, jnp.zeros(lead[:-1]), jnp.arange(lead[-1]))[0]

    def sample(self, rng_key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values, entry by entry.

        Args:
            rng_key: a random key.
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self.shape(sample_shape)
        dtype = jnp.int32 if self.observation.integer else jnp.result_type(float)
        empty = jnp.zeros((*shape[: len(shape) - len(self.event_shape)], self.priorities.shape[-1]), dtype)
        return self._draw(rng_key, empty, jnp.zeros(empty.shape, bool)).reshape(shape)

    def sample_given(self, rng_key: Any, x: Any, observed: Any = None) -> jax.Array:
        """Draw the missing entries given the observed ones, which are decided first.

        Args:
            rng_key: a random key.
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: as `Autoregressive.sample_given`.
        """
        x, observed = clamped(x, observed, self.event_shape)
        return self._draw(rng_key, x.reshape(len(x), -1), observed.reshape(len(x), -1)).reshape(x.shape)

    def _draw(self, rng_key: jax.Array, x: jax.Array, observed: jax.Array) -> jax.Array:
        rank = agnostic.ranks(jnp.broadcast_to(self.priorities, x.shape), observed)
        x = jnp.where(observed, x, jnp.zeros((), x.dtype))

        def body(x: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            d, key = at
            drawn = self._element(x, rank < d).sample(key).astype(x.dtype)
            return jnp.where((rank == d) & ~observed, drawn, x), None

        steps = jnp.arange(x.shape[-1]), jax.random.split(rng_key, x.shape[-1])
        return lax.scan(body, x, steps)[0]

    def _element(self, x: jax.Array, decided: jax.Array) -> Any:
        """The laws of all entries given those decided, of batch shape (..., D)."""
        flat, mask = x.reshape(-1, x.shape[-1]), decided.reshape(-1, x.shape[-1])
        dtype = jnp.result_type(float)
        outputs = self.network(agnostic.shown(flat, mask, **self._features, dtype=dtype))
        element = self.observation.element(())
        outputs = jnp.moveaxis(outputs.reshape(len(flat), -1, x.shape[-1]), 1, -1)
        return element(outputs.reshape(*x.shape, *element.outputs_shape))


class OrderAgnostic(eqx.Module):
    r"""An order of the entries at random, then the entries in that order: one network for the conditionals of all.

    .. math:: o \sim \mathrm{uniform}, \qquad x \sim \prod_d p(x_{o(d)} \mid x_{o(1)}, \ldots, x_{o(d-1)})

    The order is that of rising priorities, the latent site ``"order"`` of D standard normals, which the guide draws
    from the same law. So p(x) is the mixture over all D! orders; `log_prob` averages the densities of as many random
    orders as it has particles, a lower bound in expectation. Where entries are missing the observed ones are decided
    first: what is called log p(x_observed) is that of the mixture over their orders, and imputations are exact draws of
    the mixture over the orders of the missing. The mixture over all orders of x is that only where the network's
    conditionals agree with each other, as those of a perfectly trained one do.

    Uria, Murray & Larochelle 2014, A deep and tractable density estimator.

    Args:
        network: from (n, D (F + 1)) numbers, the features of what is decided and its mask, to (n, P D), such as
            `nn.MLP`.
        observation: the law of a datum, from ``deepgen.likelihoods``, the same for each entry.

    Raises:
        ValueError: a network of another number of outputs, or a law of coupled entries.
    """

    family: ClassVar[str] = "autoregressive"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ("observed-first",)
    takes_holes: ClassVar[bool] = True

    network: Any
    observation: Any

    def __init__(self, network: Any, observation: Any):
        self.network, self.observation = network, observation
        AnyOrder(network, observation, jnp.zeros((1, self._entries)))

    @classmethod
    def mlp(
        cls,
        event_shape: Sequence[int],
        likelihood: Any = "bernoulli",
        *,
        hidden: Sequence[int] = (500, 500),
        activation: str = "relu",
        num_classes: int | None = None,
        data: Any | None = None,
        key: jax.Array,
    ) -> "OrderAgnostic":
        """A perceptron for the conditionals of every order (deep NADE).

        Args:
            event_shape: the shape of one datum.
            likelihood: an observation law or its name, see `deepgen.likelihoods`; not one that differs from entry to
                entry.
            hidden: the widths of the hidden layers.
            activation: the network's activation.
            num_classes: of a categorical law; of a discretised logistic one the number of values, None for 256.
            data: (n, *event_shape); the outputs then start at its marginals. None for random biases.
            key: for the initial weights.

        Returns:
            The program, untrained.

        Raises:
            ValueError: an unknown likelihood or one of coupled entries, sizes that are not positive, or data that do
                not fit.
        """
        law = likelihoods.observation(likelihood, tuple(event_shape), num_classes)
        entering, leaving, _ = agnostic.sizes(law)
        network = nn.MLP(entering, leaving, hidden, activation=activation, key=key)
        if data is not None:
            start = law.start(laws.check_data(law, data, missing=True)).reshape(-1)
            network = nn.output_bias(network, jnp.asarray(start, jnp.result_type(float)))
        return cls(network, law)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.observation.event_shape

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(order, x), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing, or None to draw.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        network, observation = declare("network", self.network), declare("observation", self.observation)
        with numpyro.plate("data", size if x is None else len(x)):
            priorities = numpyro.sample("order", self._priorities())
            return numpyro.sample("x", AnyOrder(network, observation, priorities), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """The order, as the model draws it.

        Args:
            x: (n, *event_shape), or None.
            size: the number of rows where x is None.
        """
        with numpyro.plate("data", size if x is None else len(x)):
            numpyro.sample("order", self._priorities())

    def sample_given(self, rng_key: jax.Array, x: Any, observed: Any = None) -> jax.Array:
        """Draws of the missing entries given the observed ones, each in an order of its own.

        Args:
            rng_key: a random key.
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: as `Autoregressive.sample_given`.
        """
        key_order, key_draw = jax.random.split(rng_key)
        priorities = self._priorities().sample(key_order, (len(x),))
        return AnyOrder(self.network, self.observation, priorities).sample_given(key_draw, x, observed)

    def objective(self) -> Any:
        """What `fit` minimises by default: the loss of a random place of a random order."""
        return RandomMember()

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) numbers.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN (a negative integer) says what is missing.

        Returns:
            x as a NumPy array of the law's kind.

        Raises:
            ValueError: wrong dtype, shape or support, empty, not finite, missing where it may not be, or a row of which
                nothing is observed.
        """
        return laws.check_data(self.observation, x, missing=missing, observed=observed)

    def diagnose(self, x: Any) -> list[Warning]:
        """Nothing: the guide has the law of the orders, and cannot collapse."""
        return []

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {
            "program": "order_agnostic",
            "observation": self.observation.spec(),
            "network": files.describe(self.network, nn.NETWORKS),
        }

    @property
    def _entries(self) -> int:
        return int(np.prod(self.event_shape))

    def _priorities(self) -> dist.Distribution:
        return dist.Normal(jnp.zeros(self._entries), 1.0).to_event(1)


def build(config: Mapping[str, Any], *, key: jax.Array) -> OrderAgnostic:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `OrderAgnostic.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    return OrderAgnostic(nn.build(config["network"], key), likelihoods.build(config["observation"]))
