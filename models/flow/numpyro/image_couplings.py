"""Couplings of images in NumPyro: channels or every other pixel are moved, by what a network reads off the others."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen.models.flow import affine, images, shapes
from deepgen.models.flow.numpyro.images import ImageTransform
from deepgen.models.flow.numpyro.transforms import rows
from deepgen.nn import arguments
from deepgen.nn import equinox as nn
from deepgen.program import files


class AdditiveCoupling2d(ImageTransform):
    r""":math:`y_b = x_b + t(x_a)`, the entries a as they are; the volume does not change.

    Dinh, Krueger & Bengio 2015, NICE: non-linear independent components estimation.

    Args:
        network: from images (n, shown, h, w) to images (n, moved, h, w).
            Of the pattern ``"channels"`` shown is the number of the kept channels and moved that of the others; of
            ``"checkerboard"`` both are all channels, those pixels zero that are moved. Behind them stand the channels
            of the context.
        event_shape: (c, h, w) of an image.
        pattern: ``"channels"``, of which the second half is moved, or ``"checkerboard"``, the pixels whose row and
            column add up to an odd number.
        flip: whether the first half is moved, or the even pixels.
        context_dim: of a context that the network sees; 0 for none.
        context_image: whether the context is itself an image of h and w, row-major, of any number of channels; else
            each of its entries is a channel that is the same everywhere.

    Raises:
        ValueError: another pattern, an image that it does not divide, or a context that is no such image.
    """

    network: Any
    event_shape: tuple[int, int, int] = eqx.field(static=True)
    pattern: str = eqx.field(static=True)
    flip: bool = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)
    context_image: bool = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        event_shape: Sequence[int],
        *,
        pattern: str = "channels",
        flip: bool = False,
        context_dim: int = 0,
        context_image: bool = False,
    ):
        self.network, self.event_shape = network, images.check_pattern(pattern, event_shape)
        self.pattern, self.flip, self.context_dim, self.context_image = pattern, flip, context_dim, context_image
        images.context_channels(context_dim, context_image, self.event_shape)

    @classmethod
    def conv(
        cls,
        event_shape: Sequence[int],
        *,
        pattern: str = "channels",
        flip: bool = False,
        hidden: Sequence[int] = (64, 64),
        kernel_size: int = 3,
        activation: str = "gelu",
        context_dim: int = 0,
        context_image: bool = False,
        key: jax.Array,
    ) -> "AdditiveCoupling2d":
        """With a `ConvNet`, whose last layer is zero: at first the identity.

        Args:
            event_shape: (c, h, w) of an image.
            pattern: ``"channels"`` or ``"checkerboard"``.
            flip: whether the first half is moved, or the even pixels.
            hidden: the channels of the network's hidden layers.
            kernel_size: of its first and last convolution.
            activation: of the network.
            context_dim: of a context.
            context_image: whether the context is an image.
            key: for the weights.

        Returns:
            The coupling.
        """
        options: dict[str, Any] = {
            "pattern": pattern,
            "flip": flip,
            "context_dim": context_dim,
            "context_image": context_image,
        }
        network = _convolutions(event_shape, options, 1, hidden, kernel_size, activation, key)
        return cls(network, event_shape, **options)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return self.event_shape

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _couple(self, x, context, 1, affine.shift, False)

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _couple(self, y, context, 1, affine.shift, True)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return _spec("AdditiveCoupling2d", self)


class AffineCoupling2d(ImageTransform):
    r""":math:`y_b = x_b\, e^{s(x_a)} + t(x_a)`, the entries a as they are, s within (-2, 2).

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.

    Args:
        network: from images (n, shown, h, w) to images (n, 2 * moved, h, w): all t, then all s before they are bounded.
            Of the pattern ``"channels"`` shown is the number of the kept channels and moved that of the others; of
            ``"checkerboard"`` both are all channels, those pixels zero that are moved. Behind them stand the channels
            of the context.
        event_shape: (c, h, w) of an image.
        pattern: ``"channels"``, of which the second half is moved, or ``"checkerboard"``, the pixels whose row and
            column add up to an odd number.
        flip: whether the first half is moved, or the even pixels.
        context_dim: of a context that the network sees; 0 for none.
        context_image: whether the context is itself an image of h and w, row-major, of any number of channels; else
            each of its entries is a channel that is the same everywhere.

    Raises:
        ValueError: another pattern, an image that it does not divide, or a context that is no such image.
    """

    network: Any
    event_shape: tuple[int, int, int] = eqx.field(static=True)
    pattern: str = eqx.field(static=True)
    flip: bool = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)
    context_image: bool = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        event_shape: Sequence[int],
        *,
        pattern: str = "channels",
        flip: bool = False,
        context_dim: int = 0,
        context_image: bool = False,
    ):
        self.network, self.event_shape = network, images.check_pattern(pattern, event_shape)
        self.pattern, self.flip, self.context_dim, self.context_image = pattern, flip, context_dim, context_image
        images.context_channels(context_dim, context_image, self.event_shape)

    @classmethod
    def conv(
        cls,
        event_shape: Sequence[int],
        *,
        pattern: str = "channels",
        flip: bool = False,
        hidden: Sequence[int] = (64, 64),
        kernel_size: int = 3,
        activation: str = "gelu",
        context_dim: int = 0,
        context_image: bool = False,
        key: jax.Array,
    ) -> "AffineCoupling2d":
        """With a `ConvNet`, whose last layer is zero: at first the identity.

        Args:
            event_shape: (c, h, w) of an image.
            pattern: ``"channels"`` or ``"checkerboard"``.
            flip: whether the first half is moved, or the even pixels.
            hidden: the channels of the network's hidden layers.
            kernel_size: of its first and last convolution.
            activation: of the network.
            context_dim: of a context.
            context_image: whether the context is an image.
            key: for the weights.

        Returns:
            The coupling.
        """
        options: dict[str, Any] = {
            "pattern": pattern,
            "flip": flip,
            "context_dim": context_dim,
            "context_image": context_image,
        }
        network = _convolutions(event_shape, options, 2, hidden, kernel_size, activation, key)
        return cls(network, event_shape, **options)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return self.event_shape

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _couple(self, x, context, 2, images.AFFINE, False)

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _couple(self, y, context, 2, images.AFFINE, True)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return _spec("AffineCoupling2d", self)


def _convolutions(
    event_shape: Sequence[int],
    options: dict[str, Any],
    num_params: int,
    hidden: Sequence[int],
    kernel_size: int,
    activation: str,
    key: jax.Array,
) -> Any:
    shape, context = images.check_pattern(options["pattern"], event_shape), options["context_dim"]
    seen, moved = images.num_channels(shape, options["pattern"], options["flip"])
    seen += images.context_channels(context, options["context_image"], shape)
    network = nn.ConvNet(seen, num_params * moved, hidden, kernel_size=kernel_size, activation=activation, key=key)
    return nn.silent(network)


def _couple(
    transform: Any, x: jax.Array, context: jax.Array | None, num_params: int, law: images.Law, inverse: bool
) -> tuple[jax.Array, jax.Array]:
    """Move a part of the images by the law whose parameters the network gives for them."""
    shapes.check_context(transform.context_dim, None if context is None else jnp.shape(context))
    arguments.last_axes(type(transform).__name__, jnp.shape(x), transform.event_shape)
    batch, flat, given = rows(x, context, 3)
    pattern, flip = transform.pattern, transform.flip
    raw = transform.network(images.shown(flat, given, pattern, flip, transform.context_image))
    _, moved = images.num_channels(transform.event_shape, pattern, flip)
    _, height, width = transform.event_shape
    shapes.check_network(num_params * moved * height * width, raw.shape, len(flat))
    value, log_det = images.couple(flat, raw, pattern, flip, law, inverse)
    return value.reshape(*batch, *transform.event_shape), log_det.reshape(batch)


def _spec(name: str, transform: Any) -> dict[str, Any]:
    return {
        "transform": name,
        "network": files.describe(transform.network, nn.NETWORKS),
        "event_shape": list(transform.event_shape),
        "pattern": transform.pattern,
        "flip": transform.flip,
        "context_dim": transform.context_dim,
        "context_image": transform.context_image,
    }
