"""Programs of every order in Pyro: a law given an order, and the program that draws the order first."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch.distributions.utils import lazy_property

from deepgen.likelihoods import laws
from deepgen.likelihoods import pyro as likelihoods
from deepgen.models.autoregressive import agnostic, sequence
from deepgen.models.autoregressive.pyro.distribution import clamped
from deepgen.models.autoregressive.pyro.ensemble import RandomMember
from deepgen.nn import torch as nn
from deepgen.program import LikelihoodKind, files
from deepgen.program.pyro import declare


class AnyOrder(TorchDistribution):
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

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

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
        with torch.no_grad():
            example = network(priorities.new_zeros((1, features)))
        agnostic.check(tuple(example.shape), observation, features)
        self.network, self.observation, self.priorities, self.places = network, observation, priorities, places
        super().__init__(priorities.shape[:-1], torch.Size(observation.event_shape), validate_args=validate_args)

    @lazy_property
    def support(self) -> Any:
        """That of the law of a datum."""
        return self.observation(self.priorities.new_zeros(self.observation.outputs_shape)).support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same law of more rows."""
        new: Any = self._get_checked_instance(AnyOrder, _instance)
        new.network, new.observation, new._features = self.network, self.observation, self._features
        new.priorities = self.priorities.expand(*batch_shape, -1)
        new.places = None if self.places is None else self.places.expand(batch_shape)
        super(AnyOrder, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def at_random(self) -> "AnyOrder":
        """The same law with a place at random: its log density is an estimate of the mean over orders."""
        places = torch.rand(self.batch_shape, device=self.priorities.device)
        return AnyOrder(self.network, self.observation, self.priorities, places)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of what is observed of each value."""
        x = value.reshape(*value.shape[: -len(self.event_shape)], -1)
        lead = torch.broadcast_shapes(x.shape, self.priorities.shape)
        x = x.expand(lead)
        observed = sequence.observed(x, None)
        x = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
        rank = agnostic.ranks(self.priorities.expand(lead), observed)
        if self.places is not None:
            place = agnostic.position(self.places.expand(lead[:-1]), observed)
            log_p = self._element(x, rank < place[..., None]).log_prob(x)
            return agnostic.scaled(log_p, rank, place, observed)
        total: Any = 0.0
        for d in range(lead[-1]):
            log_p = self._element(x, rank < d).log_prob(x)
            total = total + torch.where((rank == d) & observed, log_p, torch.zeros_like(log_p)).sum(-1)
        return total

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw values, entry by entry.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self.shape(sample_shape)
        dtype = torch.int64 if self.observation.integer else self.priorities.dtype
        lead = (*shape[: len(shape) - len(self.event_shape)], self.priorities.shape[-1])
        empty = torch.zeros(lead, dtype=dtype, device=self.priorities.device)
        return self._draw(empty, torch.zeros_like(empty, dtype=torch.bool)).reshape(shape)

    def sample_given(self, x: torch.Tensor, observed: torch.Tensor | None = None) -> torch.Tensor:
        """Draw the missing entries given the observed ones, which are decided first.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: as `Autoregressive.sample_given`.
        """
        x, observed = clamped(x, observed, self.event_shape)
        return self._draw(x.reshape(len(x), -1), observed.reshape(len(x), -1)).reshape(x.shape)

    @torch.no_grad()
    def _draw(self, x: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        rank = agnostic.ranks(self.priorities.expand(x.shape), observed)
        x = torch.where(observed, x, torch.zeros((), dtype=x.dtype, device=x.device))
        for d in range(x.shape[-1]):
            drawn = self._element(x, rank < d).sample().to(x.dtype)
            x = torch.where((rank == d) & ~observed, drawn, x)
        return x

    def _element(self, x: torch.Tensor, decided: torch.Tensor) -> Any:
        """The laws of all entries given those decided, of batch shape (..., D)."""
        flat, mask = x.reshape(-1, x.shape[-1]), decided.reshape(-1, x.shape[-1])
        outputs = self.network(agnostic.shown(flat, mask, **self._features, dtype=self.priorities.dtype))
        element = self.observation.element(())
        outputs = outputs.reshape(len(flat), -1, x.shape[-1]).movedim(1, -1)
        return element(outputs.reshape(*x.shape, *element.outputs_shape))


class OrderAgnostic(torch.nn.Module):
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

    def __init__(self, network: Any, observation: Any):
        super().__init__()
        self.network, self.observation = network, observation
        AnyOrder(network, observation, torch.zeros((1, self._entries), device=_device(network)))

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

        Returns:
            The program, untrained.

        Raises:
            ValueError: an unknown likelihood or one of coupled entries, sizes that are not positive, or data that do
                not fit.
        """
        law = likelihoods.observation(likelihood, tuple(event_shape), num_classes)
        entering, leaving, _ = agnostic.sizes(law)
        network = nn.MLP(entering, leaving, hidden, activation=activation)
        if data is not None:
            start = law.start(laws.check_data(law, data, missing=True)).reshape(-1)
            network = nn.output_bias(network, start)
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
        with pyro.plate("data", size if x is None else len(x)):
            priorities = pyro.sample("order", self._priorities())
            return pyro.sample("x", AnyOrder(network, observation, priorities), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """The order, as the model draws it.

        Args:
            x: (n, *event_shape), or None.
            size: the number of rows where x is None.
        """
        with pyro.plate("data", size if x is None else len(x)):
            pyro.sample("order", self._priorities())

    def sample_given(self, x: torch.Tensor, observed: torch.Tensor | None = None) -> torch.Tensor:
        """Draws of the missing entries given the observed ones, each in an order of its own.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: as `Autoregressive.sample_given`.
        """
        priorities = self._priorities().sample((len(x),))
        return AnyOrder(self.network, self.observation, priorities).sample_given(x, observed)

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

    def _priorities(self) -> Any:
        return dist.Normal(torch.zeros(self._entries, device=_device(self.network)), 1.0).to_event(1)


def build(config: Mapping[str, Any]) -> OrderAgnostic:
    """A program of the described shape, with initial weights.

    Args:
        config: what `OrderAgnostic.spec` gave.

    Returns:
        The program.
    """
    return OrderAgnostic(nn.build(config["network"]), likelihoods.build(config["observation"]))


def _device(network: Any) -> Any:
    return next((leaf.device for leaf in network.parameters()), torch.device("cpu"))
