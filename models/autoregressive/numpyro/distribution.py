"""The autoregressive law in NumPyro: a density in one pass, draws in one compiled loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from numpyro.distributions import constraints

from deepgen.handlers.entries import observed_in_part
from deepgen.handlers.sites.numpyro import ObservedEntries, block_axis, interior
from deepgen.models.autoregressive import sequence


class Autoregressive(dist.Distribution):
    r"""Entries that are decided one after the other, each given those before it.

    .. math:: p(x) = \prod_{t=1}^{T} p(x_{o(t)} \mid \mathrm{network}(x_{o(1)}, \ldots, x_{o(t-1)}))

    in the network's order o. A draw takes T steps of the network with its cache, in one compiled loop.

    Bengio & Bengio 2000; Larochelle & Murray 2011, The neural autoregressive distribution estimator; Germain et al.
    2015, MADE.

    Args:
        network: from values to the outputs of all entries, with ``event_shape``, ``element_shape``, ``order``,
            ``num_params``, ``start`` and ``step``, such as `nn.MaskedMLP`.
        observation: the law of a datum, from ``deepgen.likelihoods``, the same for each entry. A network knows none:
            that of a constructor stands beside it, and ``AutoregressiveModel.made(...).distribution()`` brings both.
        context: (n, ...) what the network sees besides, one a row; None for nothing.
        validate_args: as of any distribution.

    Raises:
        ValueError: a network and a law that do not fit together.
    """

    pytree_data_fields = ("network", "observation", "context")

    def __init__(self, network: Any, observation: Any, context: Any = None, *, validate_args: bool | None = None):
        sequence.check(network, observation)
        self.network, self.observation, self.context = network, observation, context
        batch = () if context is None else (len(context),)
        super().__init__(batch, tuple(network.event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """That of the law of a datum."""
        return self.observation(jnp.zeros(self.observation.outputs_shape)).support

    def log_prob(self, value: Any) -> jax.Array:
        """The log density of each value, in one parallel pass."""
        value = jnp.asarray(value)
        lead, n = sequence.rows(value.shape, self.event_shape)
        outputs = self.network(value.reshape(n, *self.event_shape), sequence.contexts(self.context, lead))
        return (
            self.observation(outputs.reshape(n, *self.observation.outputs_shape))
            .log_prob(value.reshape(n, *self.event_shape))
            .reshape(lead)
        )

    def sample(self, rng_key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values, entry by entry.

        Args:
            rng_key: a random key.
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self.shape(sample_shape)
        lead, n = sequence.rows(shape, self.event_shape)
        return self._draw(rng_key, n, sequence.contexts(self.context, lead), None, None).reshape(shape)

    def sample_given(self, rng_key: Any, x: Any, observed: Any = None) -> jax.Array:
        """Draw values whose known entries are clamped, the others decided in their turn given what came before.

        It is a draw of p(x_missing | x_observed) only where in each row the missing entries come last in the order;
        elsewhere an entry does not know of the observed ones after it.

        Args:
            rng_key: a random key.
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: an ``observed`` of another shape than x, or observed entries that are no numbers.
        """
        x, observed = clamped(x, observed, self.event_shape)
        lead, n = sequence.rows(x.shape, self.event_shape)
        known = (x.reshape(n, -1), observed.reshape(n, -1))
        return self._draw(rng_key, n, sequence.contexts(self.context, lead), *known).reshape(x.shape)

    def evidence(self, value: Any, observed: Any) -> jax.Array:
        """The log density of the observed entries, each given all entries decided before it.

        Args:
            value: (n, *event_shape), complete.
            observed: booleans of value's shape. An element whose coupled entries are observed in part does not count.

        Returns:
            (n,) nats; log p(x_observed) where in each row the missing entries come last in the order.
        """
        value, observed = jnp.asarray(value), jnp.asarray(observed)
        lead, n = sequence.rows(value.shape, self.event_shape)
        flat, seen = (part.reshape(n, *self.event_shape) for part in (value, observed))
        outputs = self.network(flat, sequence.contexts(self.context, lead))
        law = self.observation(outputs.reshape(n, *self.observation.outputs_shape))
        if (axis := block_axis(law)) is not None:
            seen = seen & ~observed_in_part(seen, axis)
        return ObservedEntries(law, seen, interior(law, flat)).log_prob(flat).reshape(lead)

    def _draw(self, rng_key: Any, n: int, context: Any, x: Any, observed: Any) -> jax.Array:
        network, order = self.network, jnp.asarray(self.network.order)
        element = self.observation.element(network.element_shape)

        def decide(key: jax.Array, outputs: jax.Array) -> jax.Array:
            return element(outputs.reshape(n, *element.outputs_shape)).sample(key).reshape(n, -1)

        def body(carry: tuple[Any, jax.Array], at: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            (cache, previous), (t, key) = carry, at
            outputs, cache = network.step(cache, t, previous)
            drawn = decide(key, outputs)
            if x is not None:
                drawn = jnp.where(observed[:, order[t]], x[:, order[t]].astype(drawn.dtype), drawn)
            return (cache, drawn), drawn

        example = jax.eval_shape(decide, rng_key, jax.ShapeDtypeStruct((n, *element.outputs_shape), float))
        first = network.start(n, context), jnp.zeros(example.shape, example.dtype)
        steps = jnp.arange(len(order)), jax.random.split(rng_key, len(order))
        _, drawn = lax.scan(body, first, steps)
        flat = jnp.moveaxis(drawn, 0, 1).reshape(n, -1)[:, jnp.argsort(order.reshape(-1))]
        return flat.reshape(n, *self.event_shape)


def clamped(x: Any, observed: Any, event_shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Values, and what of them is observed; checked where they are not traced.

    Args:
        x: (n, *event_shape), NaN (negative integers) where missing.
        observed: booleans of x's shape; None where x itself says what is missing.
        event_shape: of a datum.

    Returns:
        Both as arrays.

    Raises:
        ValueError: other shapes, or entries that are said to be observed and are no numbers.
    """
    x = jnp.asarray(x)
    observed = jnp.asarray(sequence.observed(x, observed))
    if not isinstance(x, jax.core.Tracer) and not isinstance(observed, jax.core.Tracer):
        sequence.check_known(x, observed, event_shape)
    return x, observed
