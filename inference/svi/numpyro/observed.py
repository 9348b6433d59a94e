"""A program's model of data with holes, and its guide of data without, in NumPyro."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.primitives import Messenger

from deepgen.handlers.sites.numpyro import ObservedEntries, independent, interior
from deepgen.inference.svi import rows
from deepgen.program.said import complete_data


class ObservedModel(eqx.Module):
    """A model whose site "x" has the density of its observed entries, the missing ones integrated out.

    In a plain ``SVI`` it is how a program is fitted to data with holes; `fit` does so by itself. With `IWAE` its
    loss is the MIWAE bound (Mattei & Frellsen 2019).

    Args:
        model: p(latents, x), the law of x independent over its elements given the latents.

    Raises:
        ValueError: when called, where the elements of x are not independent given the latents.

    >>> import jax, jax.numpy as jnp, numpyro, deepgen.numpyro as dg
    >>> vae = dg.VAE.mlp((2,), 1, "gaussian", hidden=(4,), key=jax.random.key(0))
    >>> x = jnp.array([[0.5, jnp.nan], [jnp.nan, 1.0]])
    >>> adam = numpyro.optim.Adam(1e-3)
    >>> svi = numpyro.infer.SVI(dg.ObservedModel(vae.model), vae.guide, adam, dg.IWAE(num_particles=2))
    >>> bool(jnp.isfinite(svi.run(jax.random.key(1), 3, x, progress_bar=False).losses).all())
    True
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


class CompleteGuide(eqx.Module):
    """A guide whose data are known to be complete.

    Args:
        guide: q(latents | x).
    """

    guide: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the guide.

        Args:
            args: of the guide.
            kwargs: of the guide.

        Returns:
            What the guide returns.
        """
        with complete_data():
            return self.guide(*args, **kwargs)


class _Observing(Messenger):
    def __init__(self, fn: Callable[..., Any], observed: jax.Array) -> None:
        self.observed = observed
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        if msg["type"] != "sample" or msg["name"] != "x":
            return
        fn = msg["fn"]
        if not independent(fn):
            raise rows.not_elementwise(fn)
        msg["fn"] = ObservedEntries(fn, self.observed, interior(fn, msg["value"]))
