"""An autoregressive program given the context of its rows, in NumPyro."""

from typing import Any

import equinox as eqx
import jax

from deepgen.program.context import repeated


class Given(eqx.Module):
    """A conditional program given the context of its rows.

    Args:
        program: the program.
        context: (n, context_dim, ...); any number of rows is taken to repeat these n.
    """

    program: Any
    context: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the context."""
        return self.program.model(x, repeated(self.context, size if x is None else len(x)), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents."""

    def sequential(self) -> Any:
        """The factors of p(x | context)."""
        return self.program.sequential(self.context)

    def sample_given(self, rng_key: jax.Array, x: Any, observed: Any = None) -> jax.Array:
        """Draws whose known entries are clamped, see `Autoregressive.sample_given`."""
        return self.program.distribution(repeated(self.context, len(x))).sample_given(rng_key, x, observed)
