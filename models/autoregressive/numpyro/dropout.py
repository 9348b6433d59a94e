"""Dropout in NumPyro: the law of a network some of whose units are missing, and the objective that fits by it."""

from typing import Any

import jax

from deepgen.inference.svi.numpyro.randomised import RandomLaws
from deepgen.models.autoregressive import sequence
from deepgen.models.autoregressive.numpyro.distribution import Autoregressive
from deepgen.models.autoregressive.numpyro.wrapped import Wrapped


class Thinned(Wrapped):
    """A network whose calls drop units at random; its steps, by which draws are made, drop none.

    Args:
        network: which has ``dropout`` and ``noise``, such as a `CausalTransformer`.
        rng_key: of the noise.
    """

    rng_key: jax.Array

    @property
    def order(self) -> Any:
        """(T, E) indices into the flattened datum, which each step decides."""
        return self.network.order

    def __call__(self, x: jax.Array, context: Any = None) -> jax.Array:
        """The outputs for every entry, in one pass, of what is left of the network."""
        return self.network(x, context, noise=self.network.noise(self.rng_key, len(x)))

    def step(self, cache: Any, t: Any, previous: jax.Array) -> tuple[jax.Array, Any]:
        """The outputs of one step, and the cache for the next."""
        return self.network.step(cache, t, previous)


class RandomDropout(RandomLaws):
    r"""Another objective, with units of autoregressive networks dropped at random at each step.

    .. math:: \mathbb{E}_u[-\log p(x; \mathrm{network}_u)]

    where network_u lacks what the uniforms u say, at the network's rate, see `CausalTransformer`. It is what `fit`
    minimises of a program whose network has a rate above zero. Dropout is on nowhere else: neither in the loss of
    held-out rows nor in `log_prob`, `sample`, `impute`, evaluation, a kernel over the model, a trace of it, or another
    objective. In a plain ``SVI``, or where the program is part of another, pass ``RandomDropout()`` for it.

    Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, Dropout: a simple way to prevent neural networks
    from overfitting.

    Args:
        objective: the other objective; None for an `ELBO`.
    """

    def judging(self) -> Any:
        """The objective without dropout, for held-out rows."""
        return self.objective

    def _exchanged(self, rng_key: jax.Array, law: Any) -> Any:
        if not isinstance(law, Autoregressive) or not sequence.drops(law.network):
            return law
        return Autoregressive(Thinned(law.network, rng_key), law.observation, law.context)
