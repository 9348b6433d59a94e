"""The law of an energy, as a distribution of NumPyro, and the bases that the room's programs have."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from deepgen.inference.chains import arguments
from deepgen.inference.chains import numpyro as chains
from deepgen.models.ebm import recipe, reference


class EnergyBased(dist.Distribution):
    r"""A density known up to a constant.

    .. math:: p(x) = \frac1Z\, \mathrm{base}(x)\, e^{-E(x)}, \qquad \texttt{log_prob}(x) = \log \mathrm{base}(x) - E(x)

    ``log_prob`` is unnormalised: it lacks - log Z, which `log_partition` estimates. There is no ``sample``: chains of
    ``kernel`` draw from it.

    LeCun, Chopra, Hadsell, Ranzato & Huang 2006, A tutorial on energy-based learning.

    Args:
        base: a normalised distribution without batch axes, from which chains start.
        energy: from rows (n, *event_shape) to (n,) nats.
        kernel: the Markov kernel, `HamiltonianSteps`, `FlipSteps` or `BlockGibbs`; None for the first of real numbers
            and the second of zeros and ones.
        validate_args: as of any distribution.

    Raises:
        ValueError: a base with batch axes, or a kernel of another kind of data, or that does not keep the law.
    """

    pytree_data_fields = ("base", "energy", "kernel")

    def __init__(self, base: Any, energy: Any, kernel: Any = None, *, validate_args: bool | None = None):
        recipe.check_base(tuple(base.batch_shape))
        self.base, self.energy = base, energy
        self.kernel = chains.default(base) if kernel is None else kernel
        arguments.check_exact(self.kernel)
        arguments.check_kind(self.kernel, bool(base.support.is_discrete))
        super().__init__((), tuple(base.event_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """That of the base."""
        return self.base.support

    def log_prob(self, value: Any) -> jax.Array:
        """log base(x) - E(x) of each value, without the constant: nats."""
        value = jnp.asarray(value)
        lead = value.shape[: value.ndim - len(self.event_shape)]
        rows = value.reshape(-1, *self.event_shape)
        energy = self.energy(rows)
        recipe.check_energies(tuple(energy.shape), len(rows))
        return (self.base.log_prob(rows) - energy).reshape(lead)

    def sample(self, rng_key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Refused: there are no independent draws.

        Raises:
            NotImplementedError: naming the kernel that draws from it.
        """
        raise NotImplementedError(recipe.no_draws(self.kernel, "numpyro"))


class Base(eqx.Module):
    """The law that an energy corrects: its parameters, fitted to data and fixed.

    Args:
        kind: ``"diagonal"``, ``"full"`` or ``"bernoulli"``.
        event_shape: of a datum.
        data: (n, *event_shape), NaN where missing, to which it is fitted; None for a standard one.

    Raises:
        ValueError: an unknown kind, or data that it does not take.
    """

    loc: jax.Array | None
    log_scale: jax.Array | None
    lower: jax.Array | None
    logits: jax.Array | None
    kind: str = eqx.field(static=True)

    def __init__(self, kind: str, event_shape: Sequence[int], data: Any | None = None):
        values = reference.fitted(kind, tuple(event_shape), data)
        found = {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}
        self.kind = kind
        self.loc, self.log_scale = found.get("loc"), found.get("log_scale")
        self.lower, self.logits = found.get("lower"), found.get("logits")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one datum."""
        centre: Any = self.logits if self.loc is None else self.loc
        return tuple(centre.shape)

    def distribution(self) -> Any:
        """The law, with the shape of a datum as its event shape."""
        parts: Any = (self.loc, self.log_scale, self.lower, self.logits)
        loc, log_scale, lower, logits = jax.lax.stop_gradient(parts)
        if logits is not None:
            return dist.Bernoulli(logits=logits).to_event(logits.ndim)
        if lower is None:
            return dist.Normal(loc, jnp.exp(log_scale)).to_event(len(self.event_shape))
        return dist.MultivariateNormal(loc, scale_tril=jnp.tril(lower, -1) + jnp.diag(jnp.exp(log_scale)))
