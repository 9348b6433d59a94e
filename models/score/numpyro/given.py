"""A conditional score model whose context is known, in NumPyro."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Given(eqx.Module):
    """A conditional score model given the context of its rows.

    Args:
        program: the score model.
        context: (n, context_dim); any number of rows is taken to repeat these n.
    """

    program: Any
    context: jax.Array

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        """The program's model given the context."""
        return self.program.model(x, self._rows(size if x is None else len(x)), size=size)

    def guide(self, x: Any = None, *, size: int = 1) -> None:
        """Nothing: there are no latents."""

    def estimate(self, rng_key: jax.Array, x: Any, num_probes: int) -> jax.Array:
        """As the program's, given the context."""
        return self.program.distribution(self._rows(len(x))).estimate(rng_key, x, num_probes)

    def complete(
        self, rng_key: jax.Array, x: Any, observed: Any, *, method: str, num_steps: int | None = None
    ) -> jax.Array:
        """As the program's, given the context."""
        law = self.program.distribution(self._rows(len(x)))
        return law.complete(rng_key, x, observed, method=method, num_steps=num_steps)

    @property
    def judge(self) -> str:
        """As the program's."""
        return self.program.judge

    def log_density(self, x: Any) -> jax.Array:
        """As the program's, given the context."""
        return self.program.distribution(self._rows(len(x))).log_density(x)

    def _rows(self, rows: int) -> jax.Array:
        return jnp.tile(self.context, (-(-rows // len(self.context)), 1))[:rows]
