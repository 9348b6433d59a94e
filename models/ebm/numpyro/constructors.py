"""How energy-based models are made in NumPyro."""

from collections.abc import Sequence
from typing import Any

import jax

from deepgen import checks
from deepgen.models.ebm import recipe
from deepgen.models.ebm.numpyro import energies
from deepgen.models.ebm.numpyro.distribution import Base
from deepgen.nn import equinox as nn
from deepgen.nn.arguments import wholes


def mlp(
    cls: Any,
    event_shape: Sequence[int],
    base: str = "diagonal",
    *,
    hidden: Sequence[int] = (128, 128),
    activation: str = "gelu",
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A program whose energy is a multilayer perceptron.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        base: ``"diagonal"`` or ``"full"`` for normals, ``"bernoulli"`` for zeros and ones.
        hidden: the widths of the hidden layers.
        activation: the network's activation; a smooth one, for chains follow its gradient.
        data: (n, *event_shape), NaN allowed, to which the base is fitted; None for a standard one.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: sizes that are not positive, an unknown base, or data that do not fit.
    """
    shape = checks.event_shape(tuple(event_shape))
    law = Base(base, shape, data)
    network = nn.MLP(recipe.size(shape), 1, wholes("hidden", hidden), activation=activation, key=key)
    return cls(law, energies.NetworkEnergy(network))


def conv(
    cls: Any,
    event_shape: Sequence[int],
    base: str = "diagonal",
    *,
    channels: Sequence[int] = (32, 64),
    hidden: Sequence[int] = (128,),
    kernel_size: int = 3,
    activation: str = "silu",
    data: Any | None = None,
    key: jax.Array,
) -> Any:
    """A program whose energy is a convolutional network of images.

    Args:
        cls: the class.
        event_shape: (channels, height, width).
        base: ``"diagonal"`` for normals, ``"bernoulli"`` for zeros and ones.
        channels: of each convolution's output; each halves the image.
        hidden: the widths of the perceptron that follows.
        kernel_size: of all convolutions.
        activation: the network's activation; a smooth one, for chains follow its gradient.
        data: (n, *event_shape), NaN allowed, to which the base is fitted; None for a standard one.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: as `mlp`, or a datum that is no image.
    """
    checks.image_shape(tuple(event_shape))
    shape = checks.event_shape(tuple(event_shape))
    law = Base(base, shape, data)
    widths = wholes("hidden", hidden)
    network = nn.ConvEncoder(
        shape,
        1,
        tuple(channels),
        hidden=widths,
        kernel_size=kernel_size,
        activation=activation,
        key=key,
    )
    return cls(law, energies.NetworkEnergy(network))


def rbm(cls: Any, event_shape: Sequence[int], hidden_dim: int, *, data: Any | None = None, key: jax.Array) -> Any:
    """A restricted Boltzmann machine of zeros and ones.

    Its visible bias is added to the logits of the base, which hold those of the data's means; on a standard base the
    two are the usual machine's.

    Smolensky 1986; Hinton 2002, Training products of experts by minimizing contrastive divergence.

    Args:
        cls: the class.
        event_shape: the shape of one datum.
        hidden_dim: how many hidden units.
        data: (n, *event_shape) zeros and ones, NaN allowed, to which the base is fitted; None for fair coins.
        key: for the initial weights.

    Returns:
        The program, untrained.

    Raises:
        ValueError: sizes that are not positive, or data that do not fit.
    """
    shape = checks.event_shape(tuple(event_shape))
    checks.at_least("hidden_dim", hidden_dim, 1)
    law = Base("bernoulli", shape, data)
    return cls(law, energies.RBMEnergy(recipe.size(shape), int(hidden_dim), key=key), "block-gibbs")


def product(cls: Any, *programs: Any) -> Any:
    r"""The product of what several programs say beyond their bases, on the base of the first.

    .. math:: p(x) \propto \mathrm{base}_1(x) \prod_i \frac{p_i(x)}{\mathrm{base}_i(x)}
        \propto \mathrm{base}_1(x)\, e^{-\sum_i E_i(x)}

    With bases that are the law of all data and programs of parts of it, this is the law of data that are in all parts,
    where these are independent given x.

    Hinton 2002; Du, Li & Mordatch 2020, Compositional visual generation with energy based models.

    Args:
        cls: the class.
        programs: at least two, of data of one shape.

    Returns:
        The program, with the parameters of its factors.

    Raises:
        ValueError: fewer than two programs, or of data of several shapes or kinds.
    """
    recipe.check_factors(programs)
    return cls(programs[0].base, energies.SumEnergy([program.energy for program in programs]))
