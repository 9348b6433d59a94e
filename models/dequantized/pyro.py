"""Flows of integers in Pyro: a flow of the real line, and a flow of the noise that takes integers there."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch.distributions import constraints

from deepgen.models.dequantized import levels
from deepgen.models.flow import recipe, shapes
from deepgen.models.flow.pyro import program
from deepgen.models.flow.pyro.couplings import AffineCoupling
from deepgen.models.flow.pyro.image_couplings import AffineCoupling2d
from deepgen.models.flow.pyro.linear import Unflatten
from deepgen.models.flow.pyro.transforms import FlowTransform, GuideFlow
from deepgen.program import LikelihoodKind
from deepgen.program.pyro import declare


class Levels(dist.TorchDistribution):
    """The levels of numbers: floor(V y) with certainty, cut off at 0 and V - 1.

    Args:
        y: (*batch, *event_shape) numbers.
        num_values: V.
        event_dim: how many axes a datum has.
        validate_args: as of any distribution.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, y: Any, num_values: int, event_dim: int, *, validate_args: bool | None = None):
        self.y, self.num_values = y, num_values
        super().__init__(y.shape[:-event_dim], y.shape[-event_dim:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        """Whole numbers 0 … V - 1."""
        return constraints.independent(constraints.integer_interval(0, self.num_values - 1), self.event_dim)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Levels":
        """The same law with other batch axes."""
        y = self.y.expand(*batch_shape, *self.event_shape)
        return Levels(y, self.num_values, self.event_dim, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """The levels, which are certain.

        Args:
            sample_shape: leading axes of draws.
        """
        found = levels.level(self.y, self.num_values).to(torch.int32)
        return found.expand(*sample_shape, *found.shape)

    def log_prob(self, value: Any) -> torch.Tensor:
        """Zero where all levels are right, else minus infinity."""
        right = levels.contains(value, self.y, self.num_values).flatten(-self.event_dim).all(-1)
        return torch.where(right, 0.0, -torch.inf).to(self.y.dtype)


class Dequantized(torch.nn.Module):
    r"""Integers as the levels of a flow's draws, its likelihood bounded by a flow of the noise between levels.

    .. math:: y \sim p(y), \quad x = \lfloor V y \rfloor, \qquad
        \log P(x) \ge E_{u \sim q(u \mid x)}[\log p((x + u) / V) - \log q(u \mid x)] - D \log V

    The model's latent site ``"dequantized"`` is y. The guide draws :math:`y = (x + u) / V` with
    :math:`u = \sigma(v)` in (0, 1), v from a flow that sees x, so that its `ELBO` is the bound, which `IWAE` and
    `log_prob` tighten. Of a standard logistic v, u is uniform. A draw's own density is that of its v, whatever rounding
    makes of u; other y count as no nearer to the ends of their intervals than 1e-6 of these.

    Ho, Chen, Srinivas, Duan & Abbeel 2019, Flow++: improving flow-based generative models with variational
    dequantization and architecture design; Theis, van den Oord & Bethge 2016, A note on the evaluation of generative
    models.

    Args:
        flow: of y, for data in [0, 1] (made with ``logit``), without context.
        noise: of v, of the same event shape; without context, or given the D entries of x.
        num_values: V.

    Raises:
        ValueError: flows that do not fit together, or fewer than two levels.
    """

    family: ClassVar[str] = "dequantized"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, flow: program.Flow, noise: program.Flow, num_values: int):
        super().__init__()
        self.flow, self.noise, self.num_values = flow, noise, levels.check_parts(flow, noise, num_values)

    @classmethod
    def uniform(cls, flow: program.Flow, num_values: int) -> "Dequantized":
        """With noise that is uniform and learns nothing.

        Args:
            flow: of the data.
            num_values: V.

        Returns:
            The program.

        Raises:
            ValueError: as the class.
        """
        return cls(flow, program.Flow(flow.size, _shaped(flow.event_shape), base="logistic"), num_values)

    @classmethod
    def mlp(
        cls,
        flow: program.Flow,
        num_values: int,
        *,
        num_transforms: int = 4,
        hidden: Sequence[int] = (128, 128),
        activation: str = "gelu",
    ) -> "Dequantized":
        """With noise of affine couplings by perceptrons, which see the integers; uniform at first.

        Args:
            flow: of the data.
            num_values: V.
            num_transforms: how many couplings, whose moved halves take turns.
            hidden: the widths of each network's hidden layers.
            activation: of the networks.

        Returns:
            The program, its noise untrained.

        Raises:
            ValueError: as the class, or an argument that no coupling has.
        """
        recipe.check_count(num_transforms)
        options: dict[str, Any] = {"hidden": hidden, "activation": activation, "context_dim": flow.size}
        made: list[Any] = []
        for i in range(num_transforms):
            mask = recipe.mask(flow.size, i)
            made.append(AffineCoupling.mlp(mask, **options))
        return cls(flow, program.Flow(flow.size, [*made, *_shaped(flow.event_shape)], base="logistic"), num_values)

    @classmethod
    def conv(
        cls,
        flow: program.Flow,
        num_values: int,
        *,
        num_transforms: int = 4,
        hidden: Sequence[int] = (32, 32),
        kernel_size: int = 3,
        activation: str = "gelu",
    ) -> "Dequantized":
        """With noise of affine couplings of checkerboards, whose convolutions see the image; uniform at first.

        Args:
            flow: of images.
            num_values: V.
            num_transforms: how many couplings, whose moved pixels take turns.
            hidden: the channels of each network's hidden layers.
            kernel_size: of each network's first and last convolution.
            activation: of the networks.

        Returns:
            The program, its noise untrained.

        Raises:
            ValueError: as the class, data that are no images, or an argument that no coupling has.
        """
        recipe.check_count(num_transforms)
        options: dict[str, Any] = {"hidden": hidden, "kernel_size": kernel_size, "activation": activation}
        options |= {"pattern": "checkerboard", "context_dim": flow.size, "context_image": True}
        made: list[Any] = [Unflatten(flow.event_shape)]
        for i in range(num_transforms):
            made.append(AffineCoupling2d.conv(flow.event_shape, flip=bool(i % 2), **options))
        return cls(flow, program.Flow(flow.size, made, base="logistic"), num_values)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.flow.event_shape

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """p(y) and the levels x of y, in the plate ``"data"``.

        Args:
            x: (n, *event_shape) integers, or None to draw.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        law = declare("flow", self.flow).distribution()
        with pyro.plate("data", size if x is None else len(x)):
            y = pyro.sample("dequantized", law)
            return pyro.sample("x", Levels(y, self.num_values, len(self.event_shape)), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """q(y | x), in the plate ``"data"``; without x, the flow's own law of ``size`` rows.

        Args:
            x: (n, *event_shape) integers.
            size: the number of rows where x is None.

        Returns:
            y.
        """
        law = self.flow.distribution() if x is None else self._noise(declare("noise", self.noise), x)
        with pyro.plate("data", size if x is None else len(x)):
            return pyro.sample("dequantized", law)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) whole numbers 0 … V - 1.
            missing: the same either way: no entry may be missing.
            observed: booleans of x's shape, all True, or None.

        Returns:
            x as a NumPy array of integers.

        Raises:
            ValueError: wrong dtype or shape, empty, missing entries, or other numbers.
        """
        return levels.check_levels(x, self.event_shape, self.num_values, observed)

    def diagnose(self, x: Any) -> list[Warning]:
        """What the flow has to say of the middles of the levels of ``x``."""
        return self.flow.diagnose(np.float32((self.check_data(x) + 0.5) / self.num_values))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {"flow": self.flow.spec(), "noise": self.noise.spec(), "num_values": self.num_values}

    def _noise(self, noise: program.Flow, x: torch.Tensor) -> Any:
        given = levels.scaled(x, noise.like, self.num_values) if noise.context_dim else None
        law = noise.distribution(given)
        base, made = (law.base_dist, law.transforms) if list(noise.transforms) else (law, [])
        return GuideFlow(base, [*made, Place(x, self.num_values)])


class Place(FlowTransform):
    """From real numbers into the intervals of levels, ``y = (x + sigmoid(v)) / V``.

    Args:
        x: (n, *event_shape) levels.
        num_values: V.
    """

    def __init__(self, x: torch.Tensor, num_values: int):
        super().__init__()
        self.x, self.num_values, self.context_dim = x, num_values, 0

    @constraints.dependent_property(is_discrete=False)
    def domain(self) -> Any:
        """Arrays of real numbers."""
        return constraints.independent(constraints.real, self.x.ndim - 1)

    @constraints.dependent_property(is_discrete=False)
    def codomain(self) -> Any:
        """Arrays of real numbers."""
        return self.domain

    def forward_shape(self, shape: Any) -> torch.Size:
        """The shape of the image: the levels' rows and those of the argument."""
        return torch.broadcast_shapes(shape, self.x.shape)

    def inverse_shape(self, shape: Any) -> torch.Size:
        """As `forward_shape`."""
        return self.forward_shape(shape)

    def forward_and_log_det(self, x: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(x, context, False)

    def inverse_and_log_det(self, y: torch.Tensor, context: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FlowTransform`."""
        return self._carry(y, context, True)

    def _carry(self, v: torch.Tensor, context: torch.Tensor | None, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.check_context(0, None if context is None else tuple(context.shape))
        value, log_slopes = levels.place(v, self.x, self.num_values, inverse=inverse)
        return value, log_slopes.sum(tuple(range(1 - self.x.ndim, 0)))


def build(config: Mapping[str, Any]) -> Dequantized:
    """A program of the described shape, with initial weights.

    Args:
        config: what `Dequantized.spec` gave.

    Returns:
        The program.
    """
    return Dequantized(program.build(config["flow"]), program.build(config["noise"]), config["num_values"])


def _shaped(event_shape: tuple[int, ...]) -> list[Any]:
    return [Unflatten(event_shape)] if len(event_shape) > 1 else []
