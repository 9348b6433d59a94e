"""The autoregressive law in Pyro: a density in one pass, draws in one loop of cached steps."""

from typing import Any

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch.distributions.utils import lazy_property

from deepgen.handlers.entries import observed_in_part
from deepgen.handlers.sites.pyro import ObservedEntries, block_axis, interior
from deepgen.models.autoregressive import sequence


class Autoregressive(TorchDistribution):
    r"""Entries that are decided one after the other, each given those before it.

    .. math:: p(x) = \prod_{t=1}^{T} p(x_{o(t)} \mid \mathrm{network}(x_{o(1)}, \ldots, x_{o(t-1)}))

    in the network's order o. A draw takes T steps of the network with its cache.

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

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, network: Any, observation: Any, context: Any = None, *, validate_args: bool | None = None):
        sequence.check(network, observation)
        self.network, self.observation, self.context = network, observation, context
        batch = () if context is None else (len(context),)
        super().__init__(torch.Size(batch), torch.Size(network.event_shape), validate_args=validate_args)

    @lazy_property
    def support(self) -> Any:
        """That of the law of a datum."""
        like = next(self.network.parameters())
        return self.observation(like.new_zeros(self.observation.outputs_shape)).support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same law of more rows."""
        new: Any = self._get_checked_instance(Autoregressive, _instance)
        new.network, new.observation, new.context = self.network, self.observation, self.context
        super(Autoregressive, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log density of each value, in one parallel pass."""
        if self._validate_args:
            self._validate_sample(value)
        lead, n = sequence.rows(tuple(value.shape), tuple(self.event_shape))
        flat = value.reshape(n, *self.event_shape)
        outputs = self.network(flat, sequence.contexts(self.context, lead)).reshape(n, *self.observation.outputs_shape)
        return self.observation(outputs).log_prob(flat).reshape(lead)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw values, entry by entry.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, *event_shape).
        """
        shape = self.shape(sample_shape)
        lead, n = sequence.rows(tuple(shape), tuple(self.event_shape))
        return self._draw(n, sequence.contexts(self.context, lead), None, None).reshape(shape)

    def sample_given(self, x: torch.Tensor, observed: torch.Tensor | None = None) -> torch.Tensor:
        """Draw values whose known entries are clamped, the others decided in their turn given what came before.

        It is a draw of p(x_missing | x_observed) only where in each row the missing entries come last in the order;
        elsewhere an entry does not know of the observed ones after it.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            observed: booleans of x's shape; None where x itself says what is missing.

        Returns:
            (n, *event_shape), observed entries as they came.

        Raises:
            ValueError: an ``observed`` of another shape than x, or observed entries that are no numbers.
        """
        x, observed = clamped(x, observed, self.event_shape)
        lead, n = sequence.rows(tuple(x.shape), tuple(self.event_shape))
        known = (x.reshape(n, -1), observed.reshape(n, -1))
        return self._draw(n, sequence.contexts(self.context, lead), *known).reshape(x.shape)

    def evidence(self, value: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """The log density of the observed entries, each given all entries decided before it.

        Args:
            value: (n, *event_shape), complete.
            observed: booleans of value's shape. An element whose coupled entries are observed in part does not count.

        Returns:
            (n,) nats; log p(x_observed) where in each row the missing entries come last in the order.
        """
        lead, n = sequence.rows(tuple(value.shape), tuple(self.event_shape))
        flat, seen = (part.reshape(n, *self.event_shape) for part in (value, observed))
        outputs = self.network(flat, sequence.contexts(self.context, lead)).reshape(n, *self.observation.outputs_shape)
        law = self.observation(outputs)
        if (axis := block_axis(law)) is not None:
            seen = seen & ~observed_in_part(seen, axis)
        return ObservedEntries(law, seen, interior(law, flat)).log_prob(flat).reshape(lead)

    @torch.no_grad()
    def _draw(self, n: int, context: Any, x: Any, observed: Any) -> torch.Tensor:
        network = self.network
        element = self.observation.element(network.element_shape)
        cache, drawn = network.start(n, context), next(network.parameters()).new_zeros((n, network.order.shape[1]))
        found = []
        for t, entries in enumerate(network.order.tolist()):
            outputs, cache = network.step(cache, t, drawn)
            drawn = element(outputs.reshape(n, *element.outputs_shape)).sample().reshape(n, -1)
            if x is not None:
                drawn = torch.where(observed[:, entries], x[:, entries].to(drawn.dtype), drawn)
            found.append(drawn)
        flat = torch.stack(found, dim=1).reshape(n, -1)
        return flat[:, torch.as_tensor(np.argsort(network.order.reshape(-1)), device=flat.device)].reshape(
            n, *self.event_shape
        )


def clamped(x: Any, observed: Any, event_shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Values, and what of them is observed; checked.

    Args:
        x: (n, *event_shape), NaN (negative integers) where missing.
        observed: booleans of x's shape; None where x itself says what is missing.
        event_shape: of a datum.

    Returns:
        Both as tensors.

    Raises:
        ValueError: other shapes, or entries that are said to be observed and are no numbers.
    """
    x = torch.as_tensor(x)
    observed = torch.as_tensor(sequence.observed(x, observed), device=x.device)
    sequence.check_known(x, observed, tuple(event_shape))
    return x, observed
