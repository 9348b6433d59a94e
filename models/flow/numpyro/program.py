"""Normalizing flows as programs in NumPyro."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from deepgen.inference.svi.numpyro import ELBO
from deepgen.models.flow import multiscale, recipe, shapes
from deepgen.models.flow.numpyro import (
    autoregressive,
    constructors,
    continuous,
    couplings,
    image_constructors,
    image_couplings,
    images,
    linear,
)
from deepgen.models.flow.numpyro.chart import Chart
from deepgen.models.flow.numpyro.transforms import FlowDistribution, given_context
from deepgen.nn import equinox as nn
from deepgen.program import Densities, LikelihoodKind
from deepgen.program.context import repeated
from deepgen.program.numpyro import declare

TRANSFORMS: dict[str, Any] = {
    "AdditiveCoupling": couplings.AdditiveCoupling,
    "AffineCoupling": couplings.AffineCoupling,
    "SplineCoupling": couplings.SplineCoupling,
    "AffineAutoregressive": autoregressive.AffineAutoregressive,
    "SplineAutoregressive": autoregressive.SplineAutoregressive,
    "CNF": continuous.CNF,
    "ActNorm": linear.ActNorm,
    "LULinear": linear.LULinear,
    "Permute": linear.Permute,
    "Logit": linear.Logit,
    "Unflatten": linear.Unflatten,
    "Squeeze": images.Squeeze,
    "Split": images.Split,
    "ActNorm2d": images.ActNorm2d,
    "InvertibleConv1x1": images.InvertibleConv1x1,
    "AdditiveCoupling2d": image_couplings.AdditiveCoupling2d,
    "AffineCoupling2d": image_couplings.AffineCoupling2d,
}
LAWS = {"normal": dist.Normal, "logistic": dist.Logistic}


class Flow(eqx.Module):
    r"""Draws of a base that invertible transforms carry to the data: an exact density.

    .. math:: z \sim p(z), \quad x = f_T(\cdots f_1(z)), \quad
        \log p(x) = \log p(z) - \sum_t \log \left| \det \frac{\partial f_t}{\partial z_{t-1}} \right|

    Rezende & Mohamed 2015, Variational inference with normalizing flows; Papamakarios, Nalisnick, Rezende, Mohamed &
    Lakshminarayanan 2021, Normalizing flows for probabilistic modeling and inference.

    Args:
        size: how many entries a draw of the base has, (size,).
        transforms: from the base to the data, of this room or NumPyro's own.
        base: the law of the base's entries, ``"normal"`` or ``"logistic"``, standard and independent.

    Raises:
        ValueError: an unknown base, transforms that want contexts of several sizes, or one to which another shape comes
            than it takes.
    """

    family: ClassVar[str] = "flow"
    likelihood: ClassVar[LikelihoodKind] = "exact"
    imputers: ClassVar[tuple[str, ...]] = ("auto", "hmc", "pl-mcmc", "importance")

    transforms: tuple[Any, ...]
    size: int = eqx.field(static=True)
    base: str = eqx.field(static=True)

    def __init__(self, size: int, transforms: Sequence[Any], *, base: str = "normal"):
        self.size, self.transforms, self.base = shapes.check_base(size, base, LAWS), tuple(transforms), base
        recipe.one_context([getattr(transform, "context_dim", 0) for transform in self.transforms])
        shapes.carried(self.size, self.transforms)

    nice = classmethod(constructors.nice)
    realnvp = classmethod(constructors.realnvp)
    maf = classmethod(constructors.maf)
    iaf = classmethod(constructors.iaf)
    nsf = classmethod(constructors.nsf)
    glow = classmethod(image_constructors.glow)
    realnvp_image = classmethod(image_constructors.realnvp_image)
    cnf = classmethod(constructors.cnf)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        return shapes.carried(self.size, self.transforms)

    @property
    def context_dim(self) -> int:
        """The size of the context; 0 where there is none."""
        return recipe.one_context([getattr(transform, "context_dim", 0) for transform in self.transforms])

    @property
    def scales(self) -> tuple[int, ...]:
        """How many of the base's entries belong to each scale, the coarsest first; one number without a split."""
        return multiscale.scales(self.size, list(self.transforms), images.Split)

    def distribution(self, context: Any = None, *, name: str | None = None) -> dist.Distribution:
        """The flow as a distribution, for a site of any program.

        Inside a model or guide, ``name`` declares the flow's parameters there, so that SVI trains them with the rest:
        ``numpyro.sample("x", flow.distribution(name="x_flow"))``. `with_params` then takes the name too.

        Args:
            context: (..., context_dim), whose leading axes are its batch shape; None where there is none.
            name: under which the parameters are declared, each flow of a model under its own; None leaves them as they
                are.

        Returns:
            A ``TransformedDistribution`` of event shape ``event_shape``.

        Raises:
            ValueError: a context that is missing, not wanted, or of another size.
        """
        flow = self if name is None else declare(name, self)
        return flow._distribution(flow.transforms, context)

    def model(self, x: Any = None, context: Any = None, *, size: int = 1) -> Any:
        """p(x), or p(x | context), in the plate ``"data"``.

        Args:
            x: (n, *event_shape), or None to draw.
            context: (n, context_dim) of a conditional flow; the verbs take it as ``y``.
            size: the number of rows where x is None.

        Returns:
            x, given or drawn.
        """
        law = self._distribution(declare("transforms", self.transforms), context)
        with numpyro.plate("data", size if x is None else len(x)):
            return numpyro.sample("x", law, obs=x)

    def guide(self, x: Any = None, context: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents.

        Args:
            x: as `model`.
            context: as `model`.
            size: as `model`.
        """

    def objective(self) -> Any:
        """What `fit` minimises by default: the negative log-likelihood, by random probes where a transform has any."""
        probes = any(getattr(transform, "num_probes", None) for transform in self.transforms)
        return continuous.RandomProbes() if probes else ELBO()

    @property
    def densities(self) -> Densities:
        """By what ways `log_prob` finds densities: exactly or by estimates, of rows with holes by completions."""
        return Densities("estimates" if self.probes else "guide", "completions")

    @property
    def probes(self) -> int:
        """How many estimates `log_prob` averages by default; 0 where it takes the exact density."""
        return recipe.ESTIMATES if continuous.estimates(self.transforms) else 0

    def estimate(self, rng_key: jax.Array, x: Any, num_estimates: int, context: Any = None) -> jax.Array:
        """Independent estimates of log p(x), their divergences by one random probe each.

        Args:
            rng_key: the key.
            x: (n, *event_shape).
            num_estimates: k.
            context: (n, context_dim) of a conditional flow.

        Returns:
            (k, n) nats; (n,) where nothing is random.
        """
        return continuous.estimate(self.distribution(context), rng_key, x, num_estimates)

    def given(self, context: Any) -> "Given":
        """The flow's model and guide as functions of x alone.

        Args:
            context: (n, context_dim); any number of rows is taken to repeat these n.

        Returns:
            What has ``model`` and ``guide``.
        """
        return Given(self, jnp.asarray(context))

    def chart(self, context: Any = None) -> Chart:
        """The flow in coordinates of which each has its entry, see `deepgen.program.invertible.Invertible`.

        Args:
            context: (n, context_dim) of a conditional flow.

        Returns:
            The chart.

        Raises:
            ValueError: a context that is missing, not wanted, or of another size.
        """
        shapes.check_context(self.context_dim, None if context is None else jnp.shape(context))
        return Chart(self._base(), self.transforms, self.event_shape, context)

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
        return shapes.context_rows(context, rows, self.context_dim)

    def check_data(self, x: Any, *, missing: bool = False, observed: np.ndarray | None = None) -> np.ndarray:
        """``x`` as this program takes it.

        Args:
            x: (n, *event_shape) numbers.
            missing: whether missing entries are allowed.
            observed: booleans of x's shape, or None where NaN says what is missing.

        Returns:
            x as a NumPy array of floats.

        Raises:
            ValueError: wrong dtype or shape, empty, not finite, missing where it may not be, a row of which nothing is
                observed, or a value outside the interval of which the flow takes the logit.
        """
        array = recipe.check_x(x, self.event_shape, missing=missing, observed=observed)
        recipe.check_interval(array, self.transforms)
        return array

    def diagnose(self, x: Any) -> list[Warning]:
        """A warning where the flow does not invert its own images of ``x`` in its precision, else nothing."""
        x = jnp.asarray(self.check_data(x, missing=True))
        complete = x[~jnp.isnan(x).reshape(len(x), -1).any(1)]
        if self.context_dim or not len(complete):
            return []
        return recipe.diagnose(np.asarray(complete), np.asarray(_round_trip(self, complete)))

    def spec(self) -> dict[str, Any]:
        """The JSON-able description from which `build` makes a program of the same shape."""
        known = tuple(TRANSFORMS.values())
        return {
            "size": self.size,
            "base": self.base,
            "transforms": [t.spec() if isinstance(t, known) else {"network": "custom"} for t in self.transforms],
        }

    def _distribution(self, transforms: Sequence[Any], context: Any) -> dist.Distribution:
        shapes.check_context(self.context_dim, None if context is None else jnp.shape(context))
        base = self._base()
        if not transforms:
            return base
        return FlowDistribution(base, given_context(transforms, context))

    def _base(self) -> dist.Distribution:
        like = jnp.zeros(self.size)
        return LAWS[self.base](like, jnp.ones_like(like)).to_event(1)


class Given(eqx.Module):
    """A conditional flow given the context of its rows.

    Args:
        program: the flow.
        context: (n, context_dim); any number of rows is taken to repeat these n.
    """

    program: Flow
    context: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The flow's model given the context."""
        rows = repeated(self.context, size if x is None else len(x))
        return self.program.model(x, rows, size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents."""

    def estimate(self, rng_key: jax.Array, x: Any, num_estimates: int) -> jax.Array:
        """See `Flow.estimate`."""
        return self.program.estimate(rng_key, x, num_estimates, repeated(self.context, len(x)))

    def chart(self) -> Chart:
        """The flow's chart given the context."""
        return self.program.chart(self.context)


@eqx.filter_jit
def _round_trip(program: Flow, x: jax.Array) -> jax.Array:
    z = x
    for transform in reversed(program.transforms):
        z = transform._inverse(z)
    for transform in program.transforms:
        z = transform(z)
    return z


def build(config: Mapping[str, Any], *, key: jax.Array) -> Flow:
    """A program of the described shape, with initial weights from ``key``.

    Args:
        config: what `Flow.spec` gave.
        key: for the weights.

    Returns:
        The program.
    """
    return Flow(config["size"], _made(config["transforms"], key), base=config["base"])


def _made(specs: Sequence[Mapping[str, Any]], key: jax.Array) -> list[Any]:
    made = []
    for i, spec in enumerate(specs):
        options = recipe.described(spec)
        own = jax.random.fold_in(key, i)
        if "network" in options:
            options["network"] = nn.build(options["network"], key=own)
        if "transforms" in options:
            options["transforms"] = _made(options["transforms"], own)
        made.append(TRANSFORMS[spec["transform"]](**options))
    return made
