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
from deepgen.models.flow import recipe, shapes
from deepgen.models.flow.numpyro import autoregressive, constructors, continuous, couplings, linear
from deepgen.models.flow.numpyro.transforms import FlowDistribution
from deepgen.nn import equinox as nn
from deepgen.program import LikelihoodKind
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
        ValueError: an unknown base, or transforms that want contexts of several sizes.
    """

    family: ClassVar[str] = "flow"
    likelihood: ClassVar[LikelihoodKind] = "exact"
    imputers: ClassVar[tuple[str, ...]] = ()

    transforms: tuple[Any, ...]
    size: int = eqx.field(static=True)
    base: str = eqx.field(static=True)

    def __init__(self, size: int, transforms: Sequence[Any], *, base: str = "normal"):
        self.size, self.transforms, self.base = shapes.check_base(size, base, LAWS), tuple(transforms), base
        recipe.one_context([getattr(transform, "context_dim", 0) for transform in self.transforms])

    nice = classmethod(constructors.nice)
    realnvp = classmethod(constructors.realnvp)
    maf = classmethod(constructors.maf)
    iaf = classmethod(constructors.iaf)
    nsf = classmethod(constructors.nsf)
    cnf = classmethod(constructors.cnf)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        shape: tuple[int, ...] = (self.size,)
        for transform in self.transforms:
            shape = tuple(transform.forward_shape(shape))
        return shape

    @property
    def context_dim(self) -> int:
        """The size of the context; 0 where there is none."""
        return recipe.one_context([getattr(transform, "context_dim", 0) for transform in self.transforms])

    def distribution(self, context: Any = None) -> dist.Distribution:
        """The flow as a distribution, for a site of any program.

        Args:
            context: (..., context_dim), whose leading axes are its batch shape; None where there is none.

        Returns:
            A ``TransformedDistribution`` of event shape ``event_shape``.

        Raises:
            ValueError: a context that is missing, not wanted, or of another size.
        """
        return self._distribution(self.transforms, context)

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

    def given(self, context: Any) -> "Given":
        """The flow's model and guide as functions of x alone.

        Args:
            context: (n, context_dim); any number of rows is taken to repeat these n.

        Returns:
            What has ``model`` and ``guide``.
        """
        return Given(self, jnp.asarray(context))

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
            ValueError: wrong dtype or shape, empty, not finite, missing where it may not be, or a row of which nothing
                is observed.
        """
        return recipe.check_x(x, self.event_shape, missing=missing, observed=observed)

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
        like = jnp.zeros(self.size)
        base = LAWS[self.base](like, jnp.ones_like(like)).to_event(1)
        if not transforms:
            return base
        wanted = [t.condition(context) if getattr(t, "context_dim", 0) else t for t in transforms]
        return FlowDistribution(base, wanted)


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
        return self.program.model(x, self._rows(size if x is None else len(x)), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents."""

    def _rows(self, rows: int) -> jax.Array:
        return jnp.tile(self.context, (-(-rows // len(self.context)), 1))[:rows]


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
    made = []
    for i, spec in enumerate(config["transforms"]):
        options = {name: value for name, value in spec.items() if name != "transform"}
        if "network" in options:
            options["network"] = nn.build(options["network"], key=jax.random.fold_in(key, i))
        made.append(TRANSFORMS[spec["transform"]](**options))
    return Flow(config["size"], made, base=config["base"])
