"""A program's model of data with holes in NumPyro."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from numpyro.distributions import biject_to, constraints
from numpyro.primitives import Messenger

from deepgen.handlers.sites.numpyro import ObservedEntries, entry_constraint, independent
from deepgen.inference.svi import rows


class ObservedModel(eqx.Module):
    """A model whose site "x" has the density of its observed entries, the missing ones integrated out.

    Args:
        model: p(latents, x), the law of x independent over its elements given the latents.
    """

    model: Callable[..., Any]

    def __call__(self, x: jax.Array, *args: Any) -> Any:
        """Run the model.

        Args:
            x: (n, *event_shape), NaN (negative integers) where missing.
            args: what else the model takes, such as labels.

        Returns:
            What the model returns.

        Raises:
            ValueError: the elements of x are not independent given the latents.
        """
        observed = ~jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.floating) else x >= 0
        return _Observing(self.model, observed)(jnp.where(observed, x, jnp.zeros((), x.dtype)), *args)


class _Observing(Messenger):
    def __init__(self, fn: Callable[..., Any], observed: jax.Array) -> None:
        self.observed = observed
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        if msg["type"] != "sample" or msg["name"] != "x":
            return
        fn, fill = msg["fn"], msg["value"]
        if not independent(fn):
            raise rows.not_elementwise(fn)
        entry = entry_constraint(fn.support)
        if entry is not None and not entry.is_discrete and entry is not constraints.real:
            # an interior point: at its edges a density and its gradient may be infinite
            fill = lax.stop_gradient(biject_to(entry)(jnp.zeros_like(fill)))
        msg["fn"] = ObservedEntries(fn, self.observed, fill)
