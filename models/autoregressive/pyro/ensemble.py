"""Several orders and masks of one network in Pyro: their mixture, and the objective that takes one at random."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch.distributions.utils import lazy_property

from deepgen import checks
from deepgen.inference.svi import loop
from deepgen.inference.svi.pyro.randomised import RandomLaws
from deepgen.models.autoregressive import sequence
from deepgen.models.autoregressive.made import Member
from deepgen.models.autoregressive.pyro.distribution import Autoregressive, clamped
from deepgen.models.autoregressive.pyro.wrapped import Wrapped
from deepgen.nn import masked


class Planned(Wrapped):
    """A masked perceptron under another plan than its own.

    Args:
        network: an `nn.MaskedMLP`.
        plan: of `deepgen.nn.masked.member`.
    """

    def __init__(self, network: Any, plan: masked.Sizes) -> None:
        super().__init__(network)
        self.plan = plan

    @property
    def order(self) -> Any:
        """(T, E) indices into the flattened datum, which each step decides."""
        return np.asarray(self.plan.order)

    def __call__(self, x: torch.Tensor, context: Any = None) -> torch.Tensor:
        """The outputs for every entry, in one pass."""
        return self.network.outputs(x, context, self.plan)

    def step(self, cache: Any, t: Any, previous: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The outputs of one step, and the cache for the next."""
        return self.network.advance(self.plan, cache, t, previous)


def planned(network: Any, members: Sequence[Member]) -> tuple[Any, ...]:
    """The network under the plan of each member; itself alone where there are none."""
    plans = [masked.member(network.sizes, order, seed) for order, seed in members]
    return tuple(Planned(network, plan) for plan in plans) if plans else (network,)


class Ensemble(TorchDistribution):
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

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

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
        super().__init__(torch.Size(batch), torch.Size(network.event_shape), validate_args=validate_args)

    @lazy_property
    def support(self) -> Any:
        """That of the law of a datum."""
        return Autoregressive(self.network, self.observation).support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same law of more rows."""
        new: Any = self._get_checked_instance(Ensemble, _instance)
        new.network, new.observation, new.members = self.network, self.observation, self.members
        new.context = self.context
        super(Ensemble, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of each value: the members' densities are averaged."""
        found = torch.stack([self._member(m, self.context).log_prob(value) for m in range(len(self.members))])
        return torch.logsumexp(found, dim=0) - math.log(len(self.members))

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw values, each under a member of its own.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self.shape(sample_shape)
        lead, n = sequence.rows(tuple(shape), tuple(self.event_shape))
        context = sequence.contexts(self.context, lead)
        chosen = torch.randint(len(self.members), (n,))
        drawn: Any = None
        for m in chosen.unique().tolist():
            mine = chosen == m
            own = None if context is None else context[mine.to(context.device)]
            part = self._member(m, own).sample(() if own is not None else (int(mine.sum()),))
            drawn = part.new_empty((n, *self.event_shape)) if drawn is None else drawn
            drawn[mine.to(part.device)] = part
        return drawn.reshape(shape)

    def sample_given(self, x: torch.Tensor, observed: torch.Tensor | None = None) -> torch.Tensor:
        r"""Draw values whose known entries are clamped, each row under a member in proportion to its evidence.

        .. math:: P(m) \propto \prod_{t\ \mathrm{observed}} p_m(x_{o(t)} \mid x_{o(1)}, \ldots, x_{o(t-1)})

        Every member completes the row once, and one of the completions is kept. It is a draw of
        p(x_missing | x_observed) where in each row the missing entries come last in the order of every member: the
        product is then p_m(x_observed). Elsewhere the members are as many particles, each of another order, and what is
        drawn is near that law only as far as they are many. An element whose coupled entries are observed in part has
        no factor.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: an ``observed`` of another shape than x, or observed entries that are no numbers.
        """
        x, observed = clamped(x, observed, self.event_shape)
        drawn, evidence = [], []
        for m in range(len(self.members)):
            law = self._member(m, self.context)
            drawn.append(law.sample_given(x, observed))
            evidence.append(law.evidence(drawn[-1], observed).detach())
        weights = torch.stack(evidence)
        chosen = (weights - torch.empty_like(weights).exponential_().log()).argmax(0)
        index = chosen.reshape(1, *chosen.shape, *(1,) * len(self.event_shape))
        return torch.take_along_dim(torch.stack(drawn), index, dim=0)[0]

    def at_random(self) -> Any:
        """The law of one member, all equally probable.

        Returns:
            The law; its log density is in expectation a lower bound of this one's.
        """
        return self._member(int(torch.randint(len(self.members), ())), self.context).expand(self.batch_shape)

    def in_turn(self, step: Any) -> Any:
        """The law of one member, each in its turn.

        Args:
            step: how many turns there were before.

        Returns:
            The law.
        """
        return self._member(step % len(self.members), self.context).expand(self.batch_shape)

    def _member(self, m: int, context: Any = None) -> Any:
        plan = masked.member(self.network.sizes, *self.members[m])
        return Autoregressive(Planned(self.network, plan), self.observation, context)


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

    def _exchanged(self, law: Any) -> Any:
        if isinstance(law, sequence.Alternating) and self.takes_turns and self.step is not None:
            return law.in_turn(self.step)
        return law.at_random() if isinstance(law, sequence.Randomised) else law
