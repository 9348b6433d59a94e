"""The law of integer pixels in Pyro, and the distributions that it consists of."""

from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import nn
from torch.distributions import constraints

from deepgen.handlers.sites.pyro import Blocks
from deepgen.likelihoods.logistic import law, mixture
from deepgen.nn.bounded import bounded


class DiscretizedLogisticMixture(dist.TorchDistribution):
    r"""A mixture of logistic distributions, discretised to the integers 0 … V - 1.

    .. math:: P(v) = \sum_k \mathrm{softmax}(a)_k \left[F\!\left(\tfrac{x + h - m_k}{s_k}\right)
        - F\!\left(\tfrac{x - h - m_k}{s_k}\right)\right], \quad x = \tfrac{2 v}{V - 1} - 1, \quad h = \tfrac{1}{V - 1}

    with F the logistic distribution function; the lowest bin reaches down to minus infinity and the highest up to
    infinity. Locations and scales are in units in which the values span [-1, 1].

    Salimans et al. 2017, PixelCNN++; Kingma et al. 2016.

    Args:
        logits: (..., K) a.
        loc: (..., K) m.
        log_scale: (..., K) log s.
        num_values: V.
        validate_args: as of any distribution.
    """

    arg_constraints = {  # noqa: RUF012
        "logits": constraints.real_vector,
        "loc": constraints.real_vector,
        "log_scale": constraints.real_vector,
    }
    has_rsample = False
    has_enumerate_support = True

    def __init__(
        self, logits: Any, loc: Any, log_scale: Any, num_values: int = law.NUM_VALUES, *, validate_args: Any = None
    ):
        self.logits, self.loc, self.log_scale = torch.broadcast_tensors(logits, loc, log_scale)
        self.num_values = num_values
        super().__init__(self.loc.shape[:-1], torch.Size(), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The integers 0 … V - 1."""
        return constraints.integer_interval(0, self.num_values - 1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw values.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape) integers.
        """
        uniform = _uniform((2, *self.shape(torch.Size(sample_shape))), self.loc)
        drawn = mixture.draw(uniform[0], uniform[1], self.logits, self.loc, self.log_scale, self.num_values)
        return drawn.long()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log probability of each value, minus infinity at what is no integer from 0 to V - 1."""
        value = value.to(self.loc.dtype)
        fine = mixture.admissible(value, self.num_values)
        safe = torch.where(fine, value, torch.zeros_like(value))
        found = mixture.log_prob(safe, self.logits, self.loc, self.log_scale, self.num_values)
        return torch.where(fine, found, torch.full_like(found, -torch.inf))

    @property
    def mean(self) -> torch.Tensor:
        """The mean, a number between 0 and V - 1."""
        return self._moments()[0]

    @property
    def variance(self) -> torch.Tensor:
        """The variance."""
        return self._moments()[1]

    def enumerate_support(self, expand: bool = True) -> torch.Tensor:
        """The values, (V, *batch_shape), or (V, 1, …) without ``expand``."""
        values = torch.arange(self.num_values, device=self.loc.device).reshape(-1, *(1 for _ in self.batch_shape))
        return values.expand(self.num_values, *self.batch_shape) if expand else values

    def _moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return mixture.moments(self.logits, self.loc, self.log_scale, _edges(self.num_values, self.loc))


class CoupledLogisticMixture(Blocks):
    r"""Pixels of three channels, red, green and blue, under one mixture of discretised logistic distributions.

    A pixel's channels share the component, and within it the locations move with the channels before:

    .. math:: P(r, g, b) = \sum_k \mathrm{softmax}(a)_k\, P(r \mid m_{k0})\, P(g \mid m_{k1} + c_{k0} x_r)\,
        P(b \mid m_{k2} + c_{k1} x_r + c_{k2} x_g)

    with bins and units as in `DiscretizedLogisticMixture`. The channels are the first axis of the event. Missing
    entries are integrated out pixel by pixel; of a pixel that is observed in part the log density is NaN.

    Salimans et al. 2017, PixelCNN++.

    Args:
        logits: (..., *pixels, K) a.
        loc: (..., *pixels, 3, K) m.
        log_scale: (..., *pixels, 3, K) log s.
        coefficients: (..., *pixels, 3, K) c: green by red, blue by red, blue by green.
        num_values: V.
        pixel_dims: how many axes ``pixels`` has: 0 for one pixel, 2 for an image of event shape (3, height, width).
        validate_args: as of any distribution.
    """

    arg_constraints = {  # noqa: RUF012
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "log_scale": constraints.independent(constraints.real, 2),
        "coefficients": constraints.independent(constraints.real, 2),
    }
    has_rsample = False

    def __init__(
        self,
        logits: Any,
        loc: Any,
        log_scale: Any,
        coefficients: Any,
        num_values: int = law.NUM_VALUES,
        pixel_dims: int = 0,
        *,
        validate_args: Any = None,
    ):
        self.loc, self.log_scale, self.coefficients = torch.broadcast_tensors(loc, log_scale, coefficients)
        shape = torch.broadcast_shapes(logits.shape[:-1], self.loc.shape[:-2])
        self.logits = logits.expand(*shape, self.loc.shape[-1])
        self.num_values, self.pixel_dims = num_values, pixel_dims
        batch = len(shape) - pixel_dims
        event = torch.Size((mixture.CHANNELS, *shape[batch:]))
        super().__init__(shape[:batch], event, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """The integers 0 … V - 1 in each channel."""
        return constraints.independent(constraints.integer_interval(0, self.num_values - 1), 1 + self.pixel_dims)

    @property
    def block_axis(self) -> int:
        """The axis of the channels, which are observed together."""
        return -1 - self.pixel_dims

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """Draw pixels.

        Args:
            sample_shape: leading axes of independent draws.

        Returns:
            (*sample_shape, *batch_shape, 3, *pixels) integers.
        """
        shape = (*sample_shape, *self.logits.shape[:-1], 1 + mixture.CHANNELS)
        uniform = _uniform(shape, self.loc)
        drawn = mixture.coupled_draw(uniform[..., 0], uniform[..., 1:], *self._parts(), self.num_values)
        return drawn.movedim(-1, self.block_axis).long()

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """The log probability of each event, minus infinity at what are no integers from 0 to V - 1."""
        found = self._pixels(value)
        return found.sum(tuple(range(-self.pixel_dims, 0))) if self.pixel_dims else found

    def elements(self, value: torch.Tensor) -> torch.Tensor:
        """The log probability of each pixel at its first channel, zero at the others: (..., 3, *pixels)."""
        found = self._pixels(value)
        return torch.stack([found, *[torch.zeros_like(found)] * (mixture.CHANNELS - 1)], dim=self.block_axis)

    @property
    def middle(self) -> torch.Tensor:
        """About the mean, see `deepgen.likelihoods.logistic.mixture.coupled_mean`: (*batch_shape, 3, *pixels)."""
        found = mixture.coupled_mean(*self._parts(), _edges(self.num_values, self.loc))
        return found.movedim(-1, self.block_axis)

    def _pixels(self, value: torch.Tensor) -> torch.Tensor:
        value = value.to(self.loc.dtype).movedim(self.block_axis, -1)
        fine = mixture.admissible(value, self.num_values)
        safe = torch.where(fine, value, torch.zeros_like(value))
        found = mixture.coupled_log_prob(safe, *self._parts(), self.num_values)
        return torch.where(fine.all(-1), found, torch.full_like(found, -torch.inf))

    def _parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.logits, self.loc, self.log_scale, self.coefficients


class DiscretizedLogistic(law.DiscretizedLogisticLaw, nn.Module):
    """Integer pixels 0 … V - 1 in their order, under mixtures of discretised logistic distributions.

    Each element has a mixture of its own, `DiscretizedLogisticMixture`. In images of three channels (3, h, w) instead
    each pixel has one, and its channels are coupled, `CoupledLogisticMixture`, with coefficients kept within (-1, 1) by
    tanh; missing entries are then whole pixels. Scales lie between e^-2 / (V - 1) and e^2 in units in which the values
    span [-1, 1].

    Args:
        event_shape: the shape of one datum.
        num_components: K.
        num_values: V.
        coupled: whether channels are coupled; None: in images of three channels.

    Raises:
        ValueError: fewer than one component or two values, or channels to couple where there are not three.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        num_components: int = law.NUM_COMPONENTS,
        num_values: int = law.NUM_VALUES,
        coupled: bool | None = None,
    ):
        super().__init__()
        self.event_shape, self.coupled = law.check_arguments(event_shape, num_components, num_values, coupled)
        self.num_components, self.num_values = num_components, num_values

    def forward(self, outputs: torch.Tensor) -> Any:
        """The law of a datum, given outputs (..., *outputs_shape)."""
        found = self._law(outputs)
        return found if self.coupled else found.to_event(len(self.event_shape))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The datum as an encoder sees it, within [-1, 1]; what a missing entry gives means nothing."""
        return mixture.standardised(x.to(torch.get_default_dtype()), self.num_values)

    def mean(self, outputs: torch.Tensor) -> torch.Tensor:
        """E[x | outputs], numbers between 0 and V - 1, of coupled channels approximately."""
        found = self._law(outputs)
        return found.middle if isinstance(found, CoupledLogisticMixture) else found.mean

    def element(self, element_shape: Sequence[int] | None = None) -> "DiscretizedLogistic":
        """The law of one value, or of one pixel where channels are coupled; or of a part of that shape."""
        own = self.num_components, self.num_values, self.coupled
        return DiscretizedLogistic(self.smallest(element_shape), *own)

    def _law(self, outputs: torch.Tensor) -> Any:
        last = outputs.movedim(outputs.ndim - len(self.outputs_shape), -1)
        lead, k = last.shape[:-1], self.num_components
        if not self.coupled:
            logits, loc, raw = (last[..., i * k : (i + 1) * k] for i in range(3))
            scales = bounded(raw, *self.log_scale_bounds)
            return DiscretizedLogisticMixture(logits, loc, scales, self.num_values, validate_args=False)
        own = last[..., k:].reshape(*lead, 3, mixture.CHANNELS, k)
        loc, raw, coefficients = (own[..., i, :, :] for i in range(3))
        return CoupledLogisticMixture(
            last[..., :k],
            loc,
            bounded(raw, *self.log_scale_bounds),
            torch.tanh(coefficients),
            self.num_values,
            len(self.event_shape) - 1,
            validate_args=False,
        )


def _edges(num_values: int, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(mixture.bin_edges(num_values), dtype=like.dtype, device=like.device)


def _uniform(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.rand(shape, dtype=like.dtype, device=like.device)
