"""Continuous flows in NumPyro: draws of the base follow a field, whose divergence changes the volume."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from deepgen.inference.svi.numpyro.randomised import RandomLaws
from deepgen.models.flow import recipe, shapes
from deepgen.models.flow.numpyro.transforms import Conditioned, FlowDistribution, FlowTransform, rows
from deepgen.nn import arguments
from deepgen.nn import equinox as nn
from deepgen.ode import numpyro as ode
from deepgen.ode.arguments import check_settings
from deepgen.program import files


class CNF(FlowTransform):
    r"""Each draw z of the base follows a field to the data: a continuous normalizing flow.

    .. math:: \frac{dx}{dt} = f(t, x), \quad x_0 = z, \ x = x_1, \quad
        \log p(x) = \log p(z) - \int_0^1 \operatorname{div} f(t, x_t)\, dt

    Densities take the exact divergence, at D products of a vector and the Jacobian for each look at the field, and are
    exact up to the tolerance. With ``num_probes`` `RandomProbes`, by which `fit` then trains, estimates it, and of a
    `Flow` of more than 32 entries so does `log_prob`, which then gives an estimate and its standard error.

    Chen, Rubanova, Bettencourt & Duvenaud 2018, Neural ordinary differential equations; Grathwohl, Chen, Bettencourt,
    Sutskever & Duvenaud 2019, FFJORD: free-form continuous dynamics for scalable reversible generative models.

    Args:
        network: from (n, D + context_dim + 1) numbers, x, then the context, then t, to (n, D), the velocities; smooth.
        size: D.
        num_probes: how many probes a training step estimates the divergence with, each one product instead of D; None
            for the exact divergence there and in `log_prob`.
        rtol: relative tolerance of each row in a step of the solve.
        atol: absolute tolerance.
        max_steps: tried before a solve is given up: its densities and draws are then NaN.
        adjoint: of the gradients, ``"direct"`` or, in constant memory, ``"backsolve"``; see `deepgen.ode`.
        context_dim: of a context that the network sees; 0 for none.

    Raises:
        ValueError: a number that is not positive, or an unknown adjoint.
    """

    network: Any
    size: int = eqx.field(static=True)
    num_probes: int | None = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    adjoint: str = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        size: int,
        *,
        num_probes: int | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 1000,
        adjoint: str = "direct",
        context_dim: int = 0,
    ):
        check_settings(rtol=rtol, atol=atol, max_steps=max_steps, solver="dopri5", adjoint=adjoint)
        self.network, self.size, self.context_dim = network, arguments.whole("size", size), context_dim
        self.num_probes = None if num_probes is None else arguments.whole("num_probes", num_probes)
        self.rtol, self.atol, self.max_steps, self.adjoint = rtol, atol, max_steps, adjoint

    @classmethod
    def mlp(
        cls,
        size: int,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: str = "gelu",
        num_probes: int | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 1000,
        adjoint: str = "direct",
        context_dim: int = 0,
        key: jax.Array,
    ) -> "CNF":
        """With a perceptron, whose last layer is zero: at first nothing moves.

        Args:
            size: D.
            hidden: the widths of the hidden layers.
            activation: of the network, a smooth one.
            num_probes: as the class.
            rtol: as the class.
            atol: as the class.
            max_steps: as the class.
            adjoint: as the class.
            context_dim: of a context.
            key: for the weights.

        Returns:
            The transform.

        Raises:
            ValueError: a number that is not positive, or an unknown adjoint.
        """
        size = arguments.whole("size", size)
        seen = size + arguments.whole("context_dim", context_dim, least=0) + 1
        network = nn.silent(nn.MLP(seen, size, arguments.wholes("hidden", hidden), activation=activation, key=key))
        options: dict[str, Any] = {"rtol": rtol, "atol": atol, "max_steps": max_steps, "adjoint": adjoint}
        return cls(network, size, num_probes=num_probes, context_dim=context_dim, **options)

    @property
    def takes(self) -> shapes.Takes:
        """See `FlowTransform`."""
        return (self.size,)

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _transport(self, x, context, 0.0, 1.0, None)

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _transport(self, y, context, 1.0, 0.0, None)

    def image(self, x: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """See `FlowTransform`; without the log-Jacobian."""
        return _integrate(self, x, context, 0.0, 1.0)

    def preimage(self, y: jax.Array, context: jax.Array | None = None) -> jax.Array:
        """See `FlowTransform`; without the log-Jacobian."""
        return _integrate(self, y, context, 1.0, 0.0)

    def spec(self) -> dict[str, Any]:
        """The JSON-able description."""
        return {
            "transform": "CNF",
            "network": files.describe(self.network, nn.NETWORKS),
            "size": self.size,
            "num_probes": self.num_probes,
            "rtol": self.rtol,
            "atol": self.atol,
            "max_steps": self.max_steps,
            "adjoint": self.adjoint,
            "context_dim": self.context_dim,
        }


class Probed(FlowTransform):
    """A continuous flow whose log-Jacobians are unbiased estimates by Rademacher probes, drawn from a key it holds.

    Args:
        transform: the flow.
        rng_key: of the probes.
        apart: how many estimates to give on an axis in front; 0 for the mean of the transform's ``num_probes``.
    """

    transform: CNF
    rng_key: jax.Array
    apart: int = eqx.field(static=True)
    context_dim: int = eqx.field(static=True)

    def __init__(self, transform: CNF, rng_key: jax.Array, apart: int = 0):
        self.transform, self.rng_key, self.context_dim, self.apart = transform, rng_key, transform.context_dim, apart

    def forward_and_log_det(self, x: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _transport(self.transform, x, context, 0.0, 1.0, self._draw, bool(self.apart))

    def inverse_and_log_det(self, y: jax.Array, context: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """See `FlowTransform`."""
        return _transport(self.transform, y, context, 1.0, 0.0, self._draw, bool(self.apart))

    def _draw(self, x: jax.Array) -> jax.Array:
        return jax.random.rademacher(self.rng_key, (self.apart or self.transform.num_probes or 1, *x.shape), x.dtype)


class RandomProbes(RandomLaws):
    r"""Another objective, with the divergences of continuous flows estimated by new probes at each step.

    .. math:: \operatorname{div} f = \mathbb{E}\, v^T \frac{\partial f}{\partial x} v, \quad v \in \{-1, 1\}^D

    One v is held over a solve. Log densities, and so the loss of an exact likelihood and its gradient, are unbiased.

    Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud 2019, FFJORD; Hutchinson 1990, A stochastic estimator of the
    trace of the influence matrix for Laplacian smoothing splines.

    Args:
        objective: the other objective; None for an `ELBO`.
    """

    def _exchanged(self, rng_key: jax.Array, law: Any) -> Any:
        if not isinstance(law, FlowDistribution):
            return law
        return _exchanged(law, rng_key, 0)


def estimates(transforms: Iterable[Any]) -> bool:
    """Whether `log_prob` estimates the density of a flow, by probes of a continuous transform of many entries."""
    return any(isinstance(t, CNF) and t.num_probes and t.size > recipe.EXACT_SIZE for t in transforms)


def estimate(law: Any, rng_key: jax.Array, x: jax.Array, num_estimates: int) -> jax.Array:
    """Independent estimates of a flow's log density, each by one probe of every continuous transform that has probes.

    Args:
        law: of the flow.
        rng_key: of the probes.
        x: (n, *event_shape).
        num_estimates: k.

    Returns:
        (k, n) nats.
    """
    return _exchanged(law, rng_key, num_estimates).log_prob(x)


def _exchanged(law: Any, rng_key: jax.Array, apart: int) -> Any:
    new = copy.copy(law)
    new.transforms = [_with_key(t, jax.random.fold_in(rng_key, i), apart) for i, t in enumerate(law.transforms)]
    return new


def _with_key(transform: Any, rng_key: jax.Array, apart: int) -> Any:
    if isinstance(transform, Conditioned):
        return Conditioned(_with_key(transform.transform, rng_key, apart), transform.context)
    return Probed(transform, rng_key, apart) if isinstance(transform, CNF) and transform.num_probes else transform


class _Field(eqx.Module):
    """The velocities as a function of time, place and context."""

    network: Any

    def __call__(self, t: Any, x: jax.Array, *context: jax.Array) -> jax.Array:
        time = jnp.broadcast_to(jnp.asarray(t, x.dtype), (len(x), 1))
        value = self.network(jnp.concatenate([x, *context, time], axis=-1))
        shapes.check_network(x.shape[1], value.shape, len(x))
        return value.reshape(x.shape)


def _parts(transform: CNF, x: jax.Array, context: jax.Array | None) -> tuple[Any, jax.Array, dict[str, Any]]:
    """The leading axes, the rows, and the solve's settings."""
    shapes.check_context(transform.context_dim, None if context is None else jnp.shape(context))
    batch, flat, given = rows(x, context)
    names = ("rtol", "atol", "max_steps", "adjoint")
    settings = {name: getattr(transform, name) for name in names}
    return batch, flat, {"args": () if given is None else (given.astype(flat.dtype),), **settings}


def _transport(
    transform: CNF, x: jax.Array, context: jax.Array | None, t0: float, t1: float, draw: Any, apart: bool = False
) -> tuple[jax.Array, jax.Array]:
    batch, flat, settings = _parts(transform, x, context)
    probes = None if draw is None else draw(flat)
    end, change = ode.transport(_Field(transform.network), flat, t0, t1, probes=probes, **settings)
    log_det = change.reshape(len(change), *batch) if apart else ode.average(change)[0].reshape(batch)
    return end.reshape(*batch, -1), log_det


def _integrate(transform: CNF, x: jax.Array, context: jax.Array | None, t0: float, t1: float) -> jax.Array:
    batch, flat, settings = _parts(transform, x, context)
    return ode.integrate(_Field(transform.network), flat, t0, t1, **settings).reshape(*batch, -1)
