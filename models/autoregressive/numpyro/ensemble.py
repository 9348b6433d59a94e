"""Several orders and masks of one network in NumPyro: their mixture, and the objective that takes one at random."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from numpyro.distributions import constraints

from deepgen import checks
from deepgen.inference.svi import loop
from deepgen.inference.svi.numpyro.randomised import RandomLaws
from deepgen.models.autoregressive import sequence
from deepgen.models.autoregressive.made import Member
from deepgen.models.autoregressive.numpyro.distribution import Autoregressive, clamped
from deepgen.models.autoregressive.numpyro.wrapped import Wrapped
from deepgen.nn import masked


class Planned(Wrapped):
    """A masked perceptron under another plan than its own.

    Args:
        network: an `nn.MaskedMLP`.
        plan: of `deepgen.nn.masked.plan`, its arrays NumPy's or traced.
    """

    plan: masked.Plan

    @property
    def order(self) -> Any:
        """(T, E) indices into the flattened datum, which each step decides."""
        return self.plan.order

    def __call__(self, x: jax.Array, context: Any = None) -> jax.Array:
        """The outputs for every entry, in one pass."""
        return self.network.outputs(x, context, self.plan)

    def step(self, cache: Any, t: Any, previous: jax.Array) -> tuple[jax.Array, Any]:
        """The outputs of one step, and the cache for the next."""
        return self.network.advance(self.plan, cache, t, previous)


def planned(network: Any, members: Sequence[Member]) -> tuple[Any, ...]:
    """The network under the plan of each member; itself alone where there are none."""
    plans = [masked.plan(network.sizes, order, seed) for order, seed in members]
    return tuple(Planned(network, plan) for plan in plans) if plans else (network,)


class Ensemble(dist.Distribution):
    r"""The mixture of equal weights of one network's laws under several orders and masks.

    .. math:: p(x) = \frac1M \sum_m p_m(x)

    Each draw takes one member at random. Germain et al. 2015, MADE, sections 4.2 and 4.3.

    Args:
        network: an `nn.MaskedMLP`.
        observation: the law of a datum, the same for each entry.
        members: pairs (order, seed of the hidden units' degrees), M of them; the order None for the network's own.
        context: (n, context_size) what the network sees besides, one a row; None for nothing.
        validate_args: as of any distribution.

    Raises:
        ValueError: a network and a law that do not fit together, or no members.
    """

    pytree_data_fields = ("network", "observation", "context")
    pytree_aux_fields = ("members",)

    def __init__(
        self,
        network: Any,
        observation: Any,
        members: Sequence[Member],
        context: Any = None,
        *,
        validate_args: bool | None = None,
    ):
        sequence.check(network, observation)
        checks.at_least("number of members", len(members), 1)
        self.network, self.observation, self.members, self.context = network, observation, tuple(members), context
        batch = () if context is None else (len(context),)
        super().__init__(batch, tuple(network.event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """That of the law of a datum."""
        return self.observation(jnp.zeros(self.observation.outputs_shape)).support

    def log_prob(self, value: Any) -> jax.Array:
        """The log density of each value: the members' densities are averaged."""
        found = lax.map(lambda plan: self._member(plan, self.context).log_prob(value), self._plans())
        return jax.nn.logsumexp(found, axis=0) - math.log(len(self.members))

    def sample(self, rng_key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw values, each under a member of its own.

        Args:
            rng_key: a random key.
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self.shape(sample_shape)
        lead, n = sequence.rows(shape, self.event_shape)
        key, keys = rng_key, jax.random.split(jax.random.fold_in(rng_key, 1), n)
        plans, chosen = self._plans(), jax.random.randint(key, (n,), 0, len(self.members))

        def one(key: jax.Array, m: jax.Array, context: Any) -> jax.Array:
            own = None if context is None else context[None]
            return self._member(_take(plans, m), own).sample(key).reshape(self.event_shape)

        context = sequence.contexts(self.context, lead)
        return jax.vmap(one, in_axes=(0, 0, None if context is None else 0))(keys, chosen, context).reshape(shape)

    def sample_given(self, rng_key: Any, x: Any, observed: Any = None) -> jax.Array:
        r"""Draw values whose known entries are clamped, each row under a member in proportion to its evidence.

        .. math:: P(m) \propto \prod_{t\ \mathrm{observed}} p_m(x_{o(t)} \mid x_{o(1)}, \ldots, x_{o(t-1)})

        Every member completes the row once, and one of the completions is kept. It is a draw of
        p(x_missing | x_observed) where in each row the missing entries come last in the order of every member: the
        product is then p_m(x_observed). Elsewhere the members are as many particles, each of another order, and what is
        drawn is near that law only as far as they are many. An element whose coupled entries are observed in part has
        no factor.

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
        key, keys = rng_key, jax.random.split(jax.random.fold_in(rng_key, 1), len(self.members))

        def complete(at: tuple[masked.Plan, jax.Array]) -> tuple[jax.Array, jax.Array]:
            law = self._member(at[0], self.context)
            drawn = law.sample_given(at[1], x, observed)
            return drawn, law.evidence(drawn, observed)

        drawn, evidence = lax.map(complete, (self._plans(), keys))
        chosen = jax.random.categorical(key, evidence, axis=0)
        index = chosen.reshape(1, *chosen.shape, *(1,) * self.event_dim)
        return jnp.take_along_axis(drawn, index, axis=0)[0]

    def at_random(self, rng_key: Any) -> Autoregressive:
        """The law of one member, all equally probable.

        Args:
            rng_key: a random key.

        Returns:
            The law; its log density is in expectation a lower bound of this one's.
        """
        plan = _take(self._plans(), jax.random.randint(rng_key, (), 0, len(self.members)))
        return self._member(plan, self.context)

    def in_turn(self, step: Any) -> Autoregressive:
        """The law of one member, each in its turn.

        Args:
            step: how many turns there were before.

        Returns:
            The law.
        """
        return self._member(_take(self._plans(), step % len(self.members)), self.context)

    def _member(self, plan: masked.Plan, context: Any = None) -> Autoregressive:
        return Autoregressive(Planned(self.network, plan), self.observation, context)

    def _plans(self) -> masked.Plan:
        plans = [masked.plan(self.network.sizes, order, seed) for order, seed in self.members]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *plans)


class RandomMember(RandomLaws):
    r"""Another objective, with one random part of each law of the model that averages over many.

    Of an `Ensemble` it is one member in place of their mixture, the loss by which MADE is trained with several orders
    and masks,

    .. math:: \mathbb{E}_m[-\log p_m(x)] \ge -\log p(x),

    at the price of one member a step: under `fit` the members in turn, step by step (Germain et al. 2015, section 4.3),
    in a plain ``SVI``, which counts no steps, and of held-out rows one at random. Of `AnyOrder` it is one place of the
    order in place of all, the loss of Uria, Murray & Larochelle 2014, which has the mean over places without bias at
    the price of one pass.

    Args:
        objective: the other objective; None for an `ELBO`.
    """

    takes_turns = True

    def judging(self) -> Any:
        """The objective of held-out rows, whose member is the same at every step."""
        new = copy.copy(self)
        new.objective, new.takes_turns = loop.judging(self.objective), False
        return new

    def _exchanged(self, rng_key: jax.Array, law: Any) -> Any:
        if isinstance(law, sequence.Alternating) and self.takes_turns and self.step is not None:
            return law.in_turn(self.step)
        return law.at_random(rng_key) if isinstance(law, sequence.Randomised) else law


def _take(plans: masked.Plan, m: Any) -> masked.Plan:
    return jax.tree.map(lambda part: part[m], plans)
