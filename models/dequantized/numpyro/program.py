"""Flows of integers in NumPyro: a flow of the real line, and a flow of the noise that takes integers there."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from deepgen.models.dequantized import levels
from deepgen.models.dequantized.numpyro.law import Levels, Place
from deepgen.models.flow import recipe, shapes
from deepgen.models.flow.numpyro import program
from deepgen.models.flow.numpyro.couplings import AffineCoupling
from deepgen.models.flow.numpyro.image_couplings import AffineCoupling2d
from deepgen.models.flow.numpyro.linear import Unflatten
from deepgen.models.flow.numpyro.transforms import FlowDistribution
from deepgen.program import Densities, LikelihoodKind
from deepgen.program.context import repeated
from deepgen.program.invertible import Cells
from deepgen.program.numpyro import declare


class Dequantized(eqx.Module):
    r"""Integers as the levels of a flow's draws, its likelihood bounded by a flow of the noise between levels.

    .. math:: y \sim p(y), \quad x = \lfloor V y \rfloor, \qquad
        \log P(x) \ge E_{u \sim q(u \mid x)}[\log p((x + u) / V) - \log q(u \mid x)] - D \log V

    The model's latent site ``"dequantized"`` is y. The guide draws :math:`y = (x + u) / V` with
    :math:`u = \sigma(v)` in (0, 1), v from a flow that sees x, so that its `ELBO` is the bound, which `IWAE` and
    `log_prob` tighten. Of a standard logistic v, u is uniform. A draw's own density is that of its v, whatever rounding
    makes of u; other y count as no nearer to the ends of their intervals than 1e-6 of these.

    Of a conditional flow the law is p(x | context), and the verbs take the context as ``y=``. Rows with holes are
    completed by `impute`, and refused elsewhere.

    Ho, Chen, Srinivas, Duan & Abbeel 2019, Flow++: improving flow-based generative models with variational
    dequantization and architecture design; Theis, van den Oord & Bethge 2016, A note on the evaluation of generative
    models.

    Args:
        flow: of y, for data in [0, 1] (made with ``logit``).
        noise: of v, of the same event shape; without context, given the D entries of x, or given these and then the
            flow's context.
        num_values: V.

    Raises:
        ValueError: flows that do not fit together, or fewer than two levels.
    """

    family: ClassVar[str] = "dequantized"
    likelihood: ClassVar[LikelihoodKind] = "bound"
    imputers: ClassVar[tuple[str, ...]] = ("cells",)
    densities: ClassVar[Densities] = Densities(holes=None)

    flow: program.Flow
    noise: program.Flow
    num_values: int = eqx.field(static=True)

    def __init__(self, flow: program.Flow, noise: program.Flow, num_values: int):
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
        key: jax.Array,
    ) -> "Dequantized":
        """With noise of affine couplings by perceptrons, which see the integers and the context; uniform at first.

        Args:
            flow: of the data.
            num_values: V.
            num_transforms: how many couplings, whose moved halves take turns.
            hidden: the widths of each network's hidden layers.
            activation: of the networks.
            key: for the initial weights.

        Returns:
            The program, its noise untrained.

        Raises:
            ValueError: as the class, or an argument that no coupling has.
        """
        recipe.check_count(num_transforms)
        options: dict[str, Any] = {"hidden": hidden, "activation": activation}
        options["context_dim"] = flow.size + flow.context_dim
        made: list[Any] = []
        for i in range(num_transforms):
            mask = recipe.mask(flow.size, i)
            made.append(AffineCoupling.mlp(mask, **options, key=jax.random.fold_in(key, i)))
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
        key: jax.Array,
    ) -> "Dequantized":
        """With noise of affine couplings of checkerboards, whose convolutions see the image; uniform at first.

        Args:
            flow: of images.
            num_values: V.
            num_transforms: how many couplings, whose moved pixels take turns.
            hidden: the channels of each network's hidden layers.
            kernel_size: of each network's first and last convolution.
            activation: of the networks.
            key: for the initial weights.

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
            own = jax.random.fold_in(key, i)
            made.append(AffineCoupling2d.conv(flow.event_shape, flip=bool(i % 2), **options, key=own))
        return cls(flow, program.Flow(flow.size, made, base="logistic"), num_values)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return self.flow.event_shape

    @property
    def context_dim(self) -> int:
        """The length of the flow's context; 0 where there is none."""
        return self.flow.context_dim

    def model(self, x: Any = None, context: Any = None, *, size: int = 1) -> Any:
        """p(y) and the levels x of y, in the plate ``"data"``.

        Args:
            x: (n, *event_shape) integers, or None to draw.
            context: (n, context_dim) of a conditional flow; the verbs take it as ``y``.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        law = declare("flow", self.flow).distribution(context)
        with numpyro.plate("data", size if x is None else len(x)):
            y = numpyro.sample("dequantized", law)
            return numpyro.sample("x", Levels(y, self.num_values, len(self.event_shape)), obs=x)

    def guide(self, x: Any = None, context: Any = None, *, size: int = 1) -> Any:
        """q(y | x), in the plate ``"data"``; without x, the flow's own law of ``size`` rows.

        Args:
            x: (n, *event_shape) integers.
            context: as `model`.
            size: the number of rows where x is None.

        Returns:
            y.
        """
        shapes.check_context(self.context_dim, None if context is None else jnp.shape(context))
        own = self.flow.distribution(context) if x is None else None
        law = self._noise(declare("noise", self.noise), jnp.asarray(x), context) if own is None else own
        with numpyro.plate("data", size if x is None else len(x)):
            return numpyro.sample("dequantized", law)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) whole numbers 0 … V - 1.
            missing: whether entries may be missing.
            observed: booleans of x's shape, or None where NaN (a negative integer) says what is missing.

        Returns:
            x as a NumPy array of integers, -1 where missing.

        Raises:
            ValueError: wrong dtype or shape, empty, other numbers, missing where it may not be, or a row of which
                nothing is observed.
        """
        return levels.check_levels(x, self.event_shape, self.num_values, observed, missing=missing)

    def check_context(self, context: Any, rows: int) -> np.ndarray:
        """A context for each of the rows, as the flow takes it.

        Args:
            context: (rows, context_dim), or (context_dim,) for all.
            rows: how many.

        Returns:
            (rows, context_dim) floats.

        Raises:
            ValueError: another shape, another number of rows, not finite, or a flow without context.
        """
        return self.flow.check_context(context, rows)

    def given(self, context: Any) -> "Given":
        """The program as a function of x alone, given the context of its rows.

        Args:
            context: (n, context_dim); any number of rows is taken to repeat these n.

        Returns:
            What has ``model``, ``guide``, ``cells`` and ``rounded``.
        """
        return Given(self, jnp.asarray(context))

    def cells(self, x: jax.Array, observed: jax.Array, context: Any = None) -> Cells:
        """The cells of rows, see `deepgen.program.invertible.Rounded`.

        Args:
            x: (n, *event_shape) integers, anything where missing.
            observed: booleans of x's shape.
            context: (n, context_dim) of a conditional flow.

        Returns:
            The flow's chart, and the ends of the cells in its coordinates.
        """
        chart = self.flow.chart(context)
        own = jnp.where(observed, x, 0).astype(jnp.result_type(float))
        first, second, below, above = (
            chart.from_data((own + part) / self.num_values)[0] for part in (0.3, 0.7, 0.0, 1.0)
        )
        places = own.reshape(first.shape), observed.reshape(first.shape)
        low, high = levels.ends(*places, self.num_values, below, above, second > first)
        return Cells(chart, low, high)

    def rounded(self, y: jax.Array) -> jax.Array:
        """The levels of numbers.

        Args:
            y: (..., *event_shape).

        Returns:
            Integers 0 … V - 1 of the same shape.
        """
        return levels.level(y, self.num_values).astype(jnp.int32)

    def diagnose(self, x: Any) -> list[Warning]:
        """What the flow has to say of the middles of the levels of ``x``."""
        return self.flow.diagnose(np.float32((self.check_data(x) + 0.5) / self.num_values))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        return {"flow": self.flow.spec(), "noise": self.noise.spec(), "num_values": self.num_values}

    def _noise(self, noise: program.Flow, x: jax.Array, context: Any) -> dist.Distribution:
        shown: Any = levels.scaled(x, jnp.zeros(()), self.num_values) if noise.context_dim else None
        if noise.context_dim > self.flow.size:
            shown = jnp.concatenate([shown, jnp.asarray(context, shown.dtype)], axis=-1)
        law: Any = noise.distribution(shown)
        base, made = (law.base_dist, law.transforms) if noise.transforms else (law, [])
        return FlowDistribution(base, [*made, Place(x, self.num_values)])


class Given(eqx.Module):
    """A conditional program given the context of its rows.

    Args:
        program: the program.
        context: (n, context_dim); any number of rows is taken to repeat these n.
    """

    program: Dequantized
    context: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the context."""
        return self.program.model(x, repeated(self.context, size if x is None else len(x)), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's guide given the context."""
        return self.program.guide(x, repeated(self.context, size if x is None else len(x)), size=size)

    def cells(self, x: jax.Array, observed: jax.Array) -> Cells:
        """The cells of rows, see `deepgen.program.invertible.Rounded`."""
        return self.program.cells(x, observed, self.context)

    def rounded(self, y: jax.Array) -> jax.Array:
        """The levels of numbers, see `deepgen.program.invertible.Rounded`."""
        return self.program.rounded(y)


def build(config: Mapping[str, Any], *, key: jax.Array) -> Dequantized:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `Dequantized.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    first, second = jax.random.split(key)
    flow, noise = program.build(config["flow"], key=first), program.build(config["noise"], key=second)
    return Dequantized(flow, noise, config["num_values"])


def _shaped(event_shape: tuple[int, ...]) -> list[Any]:
    return [Unflatten(event_shape)] if len(event_shape) > 1 else []
