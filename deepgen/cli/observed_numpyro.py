"""Fitting to data with holes in NumPyro: the bound of the observed entries."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.primitives import Messenger

from deepgen.handlers.sites.numpyro import ObservedEntries
from deepgen.inference.svi.numpyro import Fit, fit
from deepgen.program.numpyro import with_params

BATCH_SIZE = 128


class Observing(Messenger):
    """The density of site x becomes that of its observed entries, the others integrated out."""

    def __init__(self, fn: Any, observed: jax.Array):
        self.observed = observed
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Replace the law of x."""
        if msg["type"] == "sample" and msg["name"] == "x":
            msg["fn"] = ObservedEntries(msg["fn"], self.observed, msg["value"])


def fit_observed(rng_key: jax.Array, program: Any, x: np.ndarray, **options: Any) -> Fit:
    r"""Fit by the bound of what is observed (Mattei & Frellsen 2019), nats per row:

    E_{q(z | x_observed)}[log p(x_observed | z)] - KL(q(z | x_observed) || p(z))

    It bounds log p(x_observed), so it is right where values are missing (completely) at random.

    Args:
        rng_key: the key.
        program: a program whose law of x is elementwise independent given the latents.
        x: (n, *event_shape), NaN where missing.
        options: of `fit`.

    Returns:
        The `Fit`, its ``program`` trained.
    """

    def model(x: jax.Array) -> Any:
        missing = jnp.isnan(x) if jnp.issubdtype(x.dtype, jnp.floating) else x < 0
        filled = jnp.where(missing, jnp.zeros((), x.dtype), x)
        return handlers.scale(Observing(program.model, ~missing), scale=1 / len(x))(filled)

    def guide(x: jax.Array) -> Any:
        return handlers.scale(program.guide, scale=1 / len(x))(x)

    options.setdefault("batch_size", BATCH_SIZE)
    found = fit(rng_key, (model, guide), x, **options)
    return replace(found, program=with_params(program, found.params))
