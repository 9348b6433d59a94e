"""What transforms of images compute: blocks of pixels as channels, masks of couplings, mixed channels."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import array_api_compat
import numpy as np
from jaxtyping import Bool, Float

from deepgen import checks
from deepgen.models.flow import affine
from deepgen.nn import arguments

PATTERNS = ("channels", "checkerboard")

Law = Callable[..., tuple[Any, Any]]
AFFINE: Law = partial(affine.affine, bound=affine.NETWORK_LOG_SCALE)
"""The law of affine couplings, whose log-scales a network gives."""


def squeeze(x: Float[Any, "*batch c h w"], *, inverse: bool = False) -> Float[Any, "*batch c2 h2 w2"]:
    """Blocks of 2 x 2 pixels as channels: channel 4c + 2i + j of pixel (y, x) is channel c of pixel (2y + i, 2x + j).

    Args:
        x: images; with ``inverse`` of four times as many channels.
        inverse: from channels to blocks.

    Returns:
        (*batch, 4c, h / 2, w / 2), or with ``inverse`` (*batch, c / 4, 2h, 2w).

    Raises:
        ValueError: an odd height or width, or with ``inverse`` a number of channels that four does not divide.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.
    """
    xp = array_api_compat.array_namespace(x)
    shape = squeezed(x.shape, inverse=inverse)
    batch, (c, h, w) = tuple(x.shape[:-3]), x.shape[-3:]
    axes = (c // 4, 2, 2, h, w) if inverse else (c, h // 2, 2, w // 2, 2)
    order = (0, 3, 1, 4, 2) if inverse else (0, 2, 4, 1, 3)
    n = len(batch)
    blocks = xp.permute_dims(xp.reshape(x, (*batch, *axes)), (*range(n), *(n + i for i in order)))
    return xp.reshape(blocks, shape)


def squeezed(shape: Sequence[int], *, inverse: bool = False) -> tuple[int, ...]:
    """The shape that `squeeze` makes of one.

    Raises:
        ValueError: as `squeeze`.
    """
    batch, size = tuple(shape[:-3]), tuple(shape[-3:])
    if len(size) < 3 or (size[0] % 4 if inverse else size[1] % 2 or size[2] % 2):
        raise checks.problem(
            "image",
            got=f"shape {tuple(shape)}",
            expected="a number of channels that four divides" if inverse else "an even height and an even width",
            fix="Pad or crop the images, or take fewer scales.",
        )
    c, h, w = size
    return (*batch, c // 4, 2 * h, 2 * w) if inverse else (*batch, 4 * c, h // 2, w // 2)


def halves(channels: int) -> int:
    """How many of the channels are the first half: of an odd number the larger part."""
    return (channels + 1) // 2


def factored(event_shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """How many entries the first half of an image's channels has, and the shape of the other half."""
    c, h, w = event_shape
    return halves(c) * h * w, (c - halves(c), h, w)


def check_half(event_shape: tuple[int, ...], found: tuple[int, ...]) -> None:
    """Refuse transforms that do not give the first half of an image's channels.

    Raises:
        ValueError: naming what they give and what they should.
    """
    wanted = (halves(event_shape[0]), *event_shape[1:])
    if found != wanted:
        raise checks.problem(
            "transforms",
            got=f"images of shape {found}",
            expected=f"{wanted}, the first half of the channels of {event_shape}",
            fix=f"Begin with Unflatten({wanted}), or with a Split of that shape.",
        )


def checkerboard(height: int, width: int, flip: bool = False) -> Bool[np.ndarray, "height width"]:
    """True at the pixels whose row and column add up to an odd number, or an even one where ``flip``."""
    return (np.indices((height, width)).sum(0) % 2 == 1) != flip


def check_pattern(pattern: str, event_shape: Sequence[int]) -> tuple[int, int, int]:
    """An image's shape, of which a pattern keeps a part and moves a part.

    Raises:
        ValueError: another pattern, no shape of an image, or one that cannot be divided so.
    """
    checks.one_of("pattern", pattern, PATTERNS)
    shape = arguments.image_shape("event_shape", event_shape)
    if shape[0] < 2 if pattern == "channels" else shape[1] * shape[2] < 2:
        raise checks.problem(
            "event_shape",
            got=f"{shape} for pattern={pattern!r}",
            expected="two channels at least" if pattern == "channels" else "two pixels at least",
            fix="Put a Squeeze before it, or take the other pattern.",
        )
    return shape


def num_channels(event_shape: tuple[int, int, int], pattern: str, flip: bool) -> tuple[int, int]:
    """How many channels a coupling's network sees, and how many it has parameters for.

    Args:
        event_shape: (c, h, w).
        pattern: ``"channels"`` or ``"checkerboard"``.
        flip: whether the first half, or the even pixels, are moved.
    """
    c = event_shape[0]
    if pattern == "checkerboard":
        return c, c
    first = halves(c)
    return (c - first, first) if flip else (first, c - first)


def context_channels(context_dim: int, image: bool, event_shape: tuple[int, int, int]) -> int:
    """How many channels a context is: one for each entry, or where it is an image those of its pixels.

    Raises:
        ValueError: an image of which the context's size is no multiple.
    """
    pixels = math.prod(event_shape[1:])
    if image and (context_dim % pixels or not context_dim):
        raise checks.problem(
            "context_dim",
            got=f"{context_dim} with context_image=True",
            expected=f"a multiple of the {pixels} pixels of {event_shape}",
            fix="Flatten an image of that height and width, or pass context_image=False.",
        )
    return context_dim // pixels if image else context_dim


def shown(
    x: Float[Any, "n c h w"], context: Float[Any, "n k"] | None, pattern: str, flip: bool, context_image: bool
) -> Float[Any, "n shown h w"]:
    """What a coupling's network sees: what is not moved, and behind it the context.

    Args:
        x: images.
        context: of each, or None.
        pattern: ``"channels"`` or ``"checkerboard"``.
        flip: whether the first half, or the even pixels, are moved.
        context_image: whether the context is an image of the same height and width, row-major; else each of its entries
            stands at every pixel.
    """
    xp = array_api_compat.array_namespace(x)
    n, (h, w) = x.shape[0], x.shape[-2:]
    if pattern == "checkerboard":
        seen = x * _cast(~checkerboard(h, w, flip), x)
    else:
        first = halves(x.shape[1])
        seen = x[:, first:] if flip else x[:, :first]
    if context is None:
        return seen
    given = xp.astype(context, x.dtype, copy=False)
    if context_image:
        given = xp.reshape(given, (n, -1, h, w))
    else:
        given = xp.broadcast_to(given[:, :, None, None], (n, given.shape[1], h, w))
    return xp.concat([seen, given], axis=1)


def couple(
    x: Float[Any, "n c h w"], raw: Float[Any, "n outputs h w"], pattern: str, flip: bool, law: Law, inverse: bool
) -> tuple[Float[Any, "n c h w"], Float[Any, " n"]]:
    """Move a part of the images by an elementwise law.

    Args:
        x: images.
        raw: what the network gave: for each of the law's parameters the channels that are moved, or where the pattern
            is a checkerboard all channels.
        pattern: ``"channels"`` or ``"checkerboard"``.
        flip: whether the first half, or the even pixels, are moved.
        law: from values and parameters, whose axis comes first, to values and log-slopes; zeros are the identity.
        inverse: whether it is inverted.

    Returns:
        Images, and the log of the Jacobian of each.
    """
    xp = array_api_compat.array_namespace(x)
    n, c, h, w = x.shape
    _, moved = num_channels((c, h, w), pattern, flip)
    parameters = xp.moveaxis(xp.reshape(raw, (n, -1, moved, h, w)), 1, 0)
    if pattern == "checkerboard":
        value, log_slopes = law(x, parameters * _cast(checkerboard(h, w, flip), x), inverse=inverse)
        return value, xp.sum(log_slopes, axis=(1, 2, 3))
    first = halves(c)
    front, rear = x[:, :first], x[:, first:]
    value, log_slopes = law(front if flip else rear, parameters, inverse=inverse)
    return xp.concat([value, rear] if flip else [front, value], axis=1), xp.sum(log_slopes, axis=(1, 2, 3))


def channel_rows(x: Float[np.ndarray, "n c h w"]) -> Float[np.ndarray, "pixels c"]:
    """A row of channels for each pixel of each image."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def rescale(
    x: Float[Any, "*batch c h w"], parameters: Float[Any, "*rows two_c"], *, inverse: bool
) -> tuple[Float[Any, "*batch c h w"], Float[Any, "*batch"]]:
    """A shift and a log-scale for each channel.

    Args:
        x: images.
        parameters: all shifts, then all log-scales before they are bounded.
        inverse: whether it is inverted.

    Returns:
        Images, and the log of the Jacobian of each.
    """
    xp = array_api_compat.array_namespace(x)
    c = x.shape[-3]
    both = xp.stack([parameters[..., :c], parameters[..., c:]])[..., None, None]
    value, log_slopes = affine.affine(x, both, inverse=inverse)
    return value, xp.sum(xp.broadcast_to(log_slopes, value.shape), axis=(-3, -2, -1))


def mix(x: Float[Any, "*batch c h w"], matrix: Float[Any, "c c"]) -> Float[Any, "*batch c h w"]:
    """The channels of each pixel, multiplied by a matrix."""
    xp = array_api_compat.array_namespace(x)
    return xp.reshape(matrix @ xp.reshape(x, (*x.shape[:-2], -1)), x.shape)


def _cast(mask: np.ndarray, x: Any) -> Any:
    xp = array_api_compat.array_namespace(x)
    return xp.asarray(mask.astype(np.float32), dtype=x.dtype, device=array_api_compat.device(x))
