"""How flows of images are made in NumPyro: Glow, and RealNVP with convolutions."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from deepgen.models.flow import multiscale
from deepgen.models.flow.numpyro import linear
from deepgen.models.flow.numpyro.image_couplings import AdditiveCoupling2d, AffineCoupling2d
from deepgen.models.flow.numpyro.images import ActNorm2d, InvertibleConv1x1, Split, Squeeze

COUPLINGS: dict[str, Any] = {"affine": AffineCoupling2d, "additive": AdditiveCoupling2d}


def glow(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_scales: int = 2,
    num_steps: int = 4,
    hidden: Sequence[int] = (64, 64),
    kernel_size: int = 3,
    activation: str = "gelu",
    coupling: str = "affine",
    base: str = "normal",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A flow of images at several scales: shifts and scales of channels, mixed channels, and couplings.

    Kingma & Dhariwal 2018, Glow: generative flow with invertible 1x1 convolutions.

    Args:
        cls: the class.
        event_shape: (c, h, w) of an image, h and w divided by 2 to the power of ``num_scales``.
        num_scales: how many scales; at each but the last half of the channels go to the base.
        num_steps: how many steps at each scale, of a shift and scale, mixed channels and a coupling.
        hidden: the channels of each network's hidden layers.
        kernel_size: of each network's first and last convolution.
        activation: of the networks.
        coupling: ``"affine"`` or ``"additive"``.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, c, h, w), NaN allowed, a large first batch; the flow then starts with the means and variances of its
            channels.
        key: for the initial weights.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, an image that cannot be halved so often, or data that do not fit.
    """
    found = multiscale.ends(
        event_shape,
        num_scales=num_scales,
        num_steps=num_steps,
        coupling=coupling,
        base=base,
        logit=logit,
        data=data,
    )
    options = {"hidden": hidden, "kernel_size": kernel_size, "activation": activation, "context_dim": context_dim}
    parts = _parts(coupling, options, context_dim, key)
    transforms = multiscale.glow(parts, found.event_shape, num_scales, num_steps, found.data)
    if logit is not None:
        transforms.append(linear.Logit(logit, axes=3))
    return cls(found.size, transforms, base=base)


def realnvp_image(
    cls: Any,
    event_shape: Sequence[int],
    *,
    num_scales: int = 2,
    num_steps: int = 3,
    hidden: Sequence[int] = (64, 64),
    kernel_size: int = 3,
    activation: str = "gelu",
    coupling: str = "affine",
    base: str = "normal",
    context_dim: int = 0,
    logit: float | None = None,
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A flow of images at several scales: couplings of checkerboards and of channels.

    Dinh, Sohl-Dickstein & Bengio 2017, Density estimation using Real NVP.

    Args:
        cls: the class.
        event_shape: (c, h, w) of an image, h and w divided by 2 to the power of ``num_scales``.
        num_scales: how many scales; at each but the last half of the channels go to the base.
        num_steps: how many couplings of either kind at each scale, whose moved halves take turns.
        hidden: the channels of each network's hidden layers.
        kernel_size: of each network's first and last convolution.
        activation: of the networks.
        coupling: ``"affine"`` or ``"additive"``.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``.
        context_dim: of a context that the density is conditional on; 0 for none.
        logit: for data in [0, 1], the alpha of a logit of them; None for data of any real numbers.
        data: (n, c, h, w), NaN allowed, a large first batch; the flow then starts with the means and variances of its
            channels.
        key: for the initial weights.

    Returns:
        The program, untrained: the base moved and scaled to the data.

    Raises:
        ValueError: an argument that no flow has, an image that cannot be halved so often, or data that do not fit.
    """
    found = multiscale.ends(
        event_shape,
        num_scales=num_scales,
        num_steps=num_steps,
        coupling=coupling,
        base=base,
        logit=logit,
        data=data,
    )
    options = {"hidden": hidden, "kernel_size": kernel_size, "activation": activation, "context_dim": context_dim}
    parts = _parts(coupling, options, context_dim, key)
    transforms = multiscale.realnvp(parts, found.event_shape, num_scales, num_steps, found.data)
    if logit is not None:
        transforms.append(linear.Logit(logit, axes=3))
    return cls(found.size, transforms, base=base)


def _parts(coupling: str, options: dict[str, Any], context_dim: int, key: jax.Array) -> multiscale.Parts:
    numbers = itertools.count()

    def couple(kind: Any) -> Callable[[tuple[int, ...], str, bool], Any]:
        def make(shape: tuple[int, ...], pattern: str, flip: bool) -> Any:
            own = jax.random.fold_in(key, next(numbers))
            return kind.conv(shape, pattern=pattern, flip=flip, **options, key=own)

        return make

    return multiscale.Parts(
        coupling=couple(COUPLINGS[coupling]),
        prior=couple(AffineCoupling2d),
        norm=lambda channels, data: ActNorm2d(channels, data=data, context_dim=context_dim),
        mix=lambda channels, order: InvertibleConv1x1(channels, permutation=order, context_dim=context_dim),
        split=Split,
        squeeze=Squeeze,
        unflatten=linear.Unflatten,
    )
