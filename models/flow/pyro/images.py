"""Transforms of images without networks in Pyro: squeezes, splits, shifts and scales, mixed channels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.distributions import constraints

from deepgen import checks
from deepgen.models.flow import affine, images, recipe, shapes
from deepgen.models.flow.pyro.transforms import FlowTransform, rows, silent_linear
from deepgen.nn import arguments, geometry

IMAGE = constraints.independent(constraints.real, 3)


class ImageTransform(FlowTransform):
    """A transform of images (..., c, h, w)."""

    domain = IMAGE
    codomain = IMAGE


class Squeeze(ImageTransform):
    """From channels to blocks of pixels, (4c, h / 2, w / 2) to (c, h, w); its inverse squeezes space into channels.

    Channel 4c + 2i + j of pixel (y, x) is channel c of pixel (2y + i, 2x + j).

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context_dim = 0

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (None, None, None)

    def forward_shape(self, shape: Any) -> torch.Size:
        """The image's shape."""
        return torch.Size(images.squeezed(shape, inverse=True))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """The argument's shape."""
        return torch.Size(images.squeezed(shape))

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, True)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, False)

    def _carry(self, x: torch.Tensor, context: torch.Tensor | None, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(0, None if context is None else tuple(context.shape))
        return images.squeeze(x, inverse=inverse), x.new_zeros(x.shape[:-3])

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "Squeeze"}


class Split(FlowTransform):
    r"""From vectors to images: the first half of the channels goes on through ``transforms``, the other is the base's.

    .. math:: y = (f(v_1), v_2), \quad \log |\det| = \log |\det \partial f / \partial v_1|

    with v_1 as many entries as the first half of the channels has (of an odd number the larger part), v_2 the others in
    row-major order. Its inverse factors half of the channels out, at one of several scales.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.

    Args:
        transforms: of this room, from vectors to images of the first half of the channels; they may hold a `Split`.
        event_shape: (c, h, w) of the image.

    Raises:
        ValueError: transforms that give another shape, or want contexts of several sizes.
    """

    transforms: Any

    def __init__(self, transforms: Sequence[Any], event_shape: Sequence[int]):
        super().__init__()
        self.transforms = torch.nn.ModuleList(transforms)
        self.event_shape = images.check_pattern("channels", event_shape)
        self.context_dim = recipe.one_context([transform.context_dim for transform in self.transforms])
        size, _ = images.factored(self.event_shape)
        images.check_half(self.event_shape, shapes.carried(size, self.transforms, torch.Size))

    codomain = IMAGE

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (int(np.prod(self.event_shape)),)

    def forward_shape(self, shape: Any) -> torch.Size:
        """The image's shape."""
        return torch.Size((*shape[:-1], *self.event_shape))

    def inverse_shape(self, shape: Any) -> torch.Size:
        """The argument's shape."""
        return torch.Size((*shape[:-3], int(np.prod(self.event_shape))))

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        batch, flat, given = rows(x, context)
        size, rest = images.factored(self.event_shape)
        value, log_det = flat[:, :size], flat.new_zeros(len(flat))
        for transform in self.transforms:
            value, own = transform.forward_and_log_det(value, given if transform.context_dim else None)
            log_det = log_det + own
        y = torch.cat([value, flat[:, size:].reshape(-1, *rest)], dim=1)
        return y.reshape(*batch, *self.event_shape), log_det.reshape(batch)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        batch, flat, given = rows(y, context, 3)
        first = images.halves(self.event_shape[0])
        value, log_det = flat[:, :first], flat.new_zeros(len(flat))
        for transform in reversed(list(self.transforms)):
            value, own = transform.inverse_and_log_det(value, given if transform.context_dim else None)
            log_det = log_det + own
        x = torch.cat([value, flat[:, first:].reshape(len(flat), -1)], dim=1)
        return x.reshape(*batch, -1), log_det.reshape(batch)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {
            "transform": "Split",
            "event_shape": list(self.event_shape),
            "transforms": [transform.spec() for transform in self.transforms],
        }


class ActNorm2d(ImageTransform):
    r""":math:`y = x\, e^s + t` for each channel, s within (-5, 5), set so that data have zero mean and unit variance.

    With a context c it is :math:`y = x\, e^{s + S c} + t + T c`, S and T zero at first.

    Kingma & Dhariwal 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        channels: c.
        data: (n, c, h, w), a large first batch that `initialise` takes; None for the identity.
        context_dim: of a context; 0 for none.

    Raises:
        ValueError: data of another shape, of fewer than two pixels, or of which a channel is never observed.
    """

    def __init__(self, channels: int, *, data: Any | None = None, context_dim: int = 0):
        super().__init__()
        channels, self.context_dim = arguments.whole("channels", channels), context_dim
        loc, log_scale = (np.zeros(channels),) * 2 if data is None else _statistics(data, channels)
        dtype = torch.get_default_dtype()
        self.shift = torch.nn.Parameter(torch.as_tensor(loc, dtype=dtype))
        self.raw_log_scale = torch.nn.Parameter(torch.as_tensor(affine.raw_log_scale(log_scale), dtype=dtype))
        self.context = silent_linear(context_dim, 2 * channels) if context_dim else None

    def initialise(self, x: Any) -> "ActNorm2d":
        """Set the transform so that its inverse gives data zero mean and unit variance.

        Args:
            x: (n, c, h, w), NaN where missing.

        Returns:
            The same transform, with this shift and scale.

        Raises:
            ValueError: as the class.
        """
        loc, log_scale = _statistics(x, len(self.shift))
        with torch.no_grad():
            self.shift.copy_(torch.as_tensor(loc))
            self.raw_log_scale.copy_(torch.as_tensor(affine.raw_log_scale(log_scale)))
        return self

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.shift), None, None)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, False)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, True)

    def _carry(self, x: torch.Tensor, context: torch.Tensor | None, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        geometry.spatial("ActNorm2d", tuple(x.shape), len(self.shift), 2)
        parameters = torch.cat([self.shift, self.raw_log_scale])
        if self.context is not None:
            parameters = parameters + self.context(context)
        return images.rescale(x, parameters, inverse=inverse)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {"transform": "ActNorm2d", "channels": len(self.shift), "context_dim": self.context_dim}


class InvertibleConv1x1(ImageTransform):
    r""":math:`x_p = L U P y_p` at each pixel p, L unit lower triangular, U upper triangular with a positive diagonal.

    The product is the inverse, the direction of densities; draws solve two triangular systems. L and U are at first the
    identity, the permutation P stays as it is. The log-Jacobian is minus the height times the width times the sum of
    the logs of U's diagonal, within (-5, 5) each. With a context c the rows of U are scaled so that the logs of its
    diagonal are those of d + S c in place of d, S zero at first.

    Kingma & Dhariwal 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        channels: c.
        permutation: (c,) P, each of 0 … c - 1 once; None for the identity.
        context_dim: of a context; 0 for none.

    Raises:
        ValueError: channels that are no whole number, or no permutation of them.
    """

    def __init__(self, channels: int, *, permutation: Sequence[int] | None = None, context_dim: int = 0):
        super().__init__()
        channels, self.context_dim = arguments.whole("channels", channels), context_dim
        self.weight = torch.nn.Parameter(torch.zeros(channels, channels))
        self.log_diagonal = torch.nn.Parameter(torch.zeros(channels))
        self.permutation = shapes.channel_order(channels, permutation)
        self.context = silent_linear(context_dim, channels) if context_dim else None

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (len(self.log_diagonal), None, None)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        batch, flat, lower, upper, gain, log_det = self._parts(x, context)
        pixels = flat.movedim(1, 0).reshape(len(lower), -1)
        solved = torch.linalg.solve_triangular(lower, pixels, upper=False, unitriangular=True)
        if gain is not None:
            solved = (solved.reshape(len(lower), len(flat), -1) * torch.exp(-gain).T[..., None]).reshape(pixels.shape)
        value = torch.linalg.solve_triangular(upper, solved, upper=True)[np.argsort(self.permutation).tolist()]
        value = value.reshape(len(lower), len(flat), *flat.shape[2:]).movedim(0, 1)
        return value.reshape(*batch, *flat.shape[1:]), -log_det.reshape(batch)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        batch, flat, lower, upper, gain, log_det = self._parts(y, context)
        order = np.argsort(self.permutation).tolist()
        if gain is None:
            value = images.mix(flat, (lower @ upper)[:, order])
        else:
            value = images.mix(torch.exp(gain)[..., None, None] * images.mix(flat, upper[:, order]), lower)
        return value.reshape(*batch, *flat.shape[1:]), log_det.reshape(batch)

    def _parts(self, x: torch.Tensor, context: Any) -> tuple[Any, ...]:
        """The leading axes, the rows, L, U, the logs of the factors (n, c) of U's rows or None, and log-Jacobians."""
        shapes.check_context(self.context_dim, None if context is None else tuple(context.shape))
        height, width = geometry.spatial("InvertibleConv1x1", tuple(x.shape), len(self.log_diagonal), 2)
        batch, flat, given = rows(x, context, 3)
        own = affine.kept(self.log_diagonal)
        logs, gain = own.expand(len(flat), -1), None
        if self.context is not None:
            logs = affine.kept(self.log_diagonal + self.context(given))
            gain = logs - own
        return batch, flat, *affine.triangles(self.weight, own), gain, height * width * logs.sum(-1)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {
            "transform": "InvertibleConv1x1",
            "channels": len(self.log_diagonal),
            "permutation": list(self.permutation),
            "context_dim": self.context_dim,
        }


def _statistics(data: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    size = geometry.spatial("data of ActNorm2d", np.shape(data), channels, 2)
    found = checks.data("data", data, (channels, *size), missing=True).astype(np.float64)
    return affine.statistics(images.channel_rows(found))
