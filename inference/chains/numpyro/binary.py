"""Kernels over rows of zeros and ones in JAX: steps at a temperature, and long runs."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.inference.chains import arguments
from deepgen.inference.chains.numpyro.walking import Run, Step, evaluate, steps
from deepgen.inference.langevin import discrete


class FlipSteps(eqx.Module):
    """Gibbs with gradients over binary entries: one flip proposed a step, by the gradient. It keeps the law.

    References:
        Grathwohl, Swersky, Hashemi, Duvenaud and Maddison, "Oops I took a gradient: scalable sampling for discrete
        distributions" (2021).
    """

    exact: ClassVar[bool] = True
    tuned: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def draw_noise(self, rng_key: jax.Array, law: Any, x: jax.Array) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        uniform = jax.random.uniform(rng_key, (len(x), int(np.prod(x.shape[1:])) + 1), x.dtype)
        return discrete.Noise(uniform[:, :-1], uniform[:, -1])

    def tempered(self, law: Any, x: jax.Array, temperature: Any) -> jax.Array:
        """log base(x) - temperature energy(x), (n,)."""
        return law.base.log_prob(x) - temperature * law.energy(x)

    def step(
        self,
        noise: Any,
        law: Any,
        x: jax.Array,
        temperature: Any = 1.0,
        step_size: Any = None,
        observed: jax.Array | None = None,
    ) -> Step:
        """One flip of each row, accepted or not; ``observed`` entries stay."""
        flat = x.reshape(len(x), -1)

        def guided(q: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, gradient = evaluate(lambda q: self.tempered(law, q.reshape(x.shape), temperature), q)
            if observed is not None:
                # a flip that promises so great a loss is never proposed
                gradient = jnp.where(observed.reshape(q.shape), (2 * q - 1) * arguments.NEVER, gradient)
            return value, gradient

        end, info = discrete.change_one(noise, discrete.State(flat, *guided(flat)), guided, discrete.Binary)
        moved = end.position.reshape(x.shape)
        return Step(moved if observed is None else jnp.where(observed, x, moved), info.accept_prob)

    def run(
        self,
        rng_key: jax.Array,
        law: Any,
        start: jax.Array,
        *,
        num_warmup: int,
        num_samples: int,
        num_steps: int = 8,
        thinning: int = 1,
        observed: jax.Array | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Chains of ``num_steps`` flips an iteration, see `HamiltonianSteps.run`."""
        return _run(self, rng_key, law, start, num_warmup, num_samples, num_steps * thinning, observed)


class BlockGibbs(eqx.Module):
    """Gibbs sampling of all hidden units given the visible ones, then of these given those. It keeps the law.

    For energies of a restricted Boltzmann machine, with ``hidden_logits``, ``visible_logits`` and ``tempered``, on a
    base of independent zeros and ones. A temperature multiplies the joint energy of both kinds of units, not the free
    energy.

    References:
        Hinton, "Training products of experts by minimizing contrastive divergence" (2002).
    """

    exact: ClassVar[bool] = True
    tuned: ClassVar[bool] = False
    discrete: ClassVar[bool] = True

    def draw_noise(self, rng_key: jax.Array, law: Any, x: jax.Array) -> Any:
        """The randomness of one step of rows (n, *event_shape)."""
        visible, hidden = int(np.prod(x.shape[1:])), law.energy.hidden_dim
        uniform = jax.random.uniform(rng_key, (len(x), visible + hidden), jnp.result_type(float))
        return uniform[:, :hidden], uniform[:, hidden:]

    def tempered(self, law: Any, x: jax.Array, temperature: Any) -> jax.Array:
        """log base(x) plus the log of the hidden units' sum at this temperature, (n,)."""
        return law.base.log_prob(x) - law.energy.tempered(x, temperature)

    def step(
        self,
        noise: Any,
        law: Any,
        x: jax.Array,
        temperature: Any = 1.0,
        step_size: Any = None,
        observed: jax.Array | None = None,
    ) -> Step:
        """The hidden units, then the visible ones; ``observed`` entries stay."""
        energy = law.energy
        hidden = (noise[0] < jax.nn.sigmoid(energy.hidden_logits(x, temperature))).astype(x.dtype)
        logits = law.base.base_dist.logits.reshape(-1) + energy.visible_logits(hidden, temperature)
        moved = (noise[1] < jax.nn.sigmoid(logits)).astype(x.dtype).reshape(x.shape)
        return Step(moved if observed is None else jnp.where(observed, x, moved), jnp.ones(len(x), x.dtype))

    def run(
        self,
        rng_key: jax.Array,
        law: Any,
        start: jax.Array,
        *,
        num_warmup: int,
        num_samples: int,
        num_steps: int = 8,
        thinning: int = 1,
        observed: jax.Array | None = None,
        progress: bool | None = None,
    ) -> Run:
        """Chains of ``num_steps`` sweeps an iteration, see `HamiltonianSteps.run`."""
        return _run(self, rng_key, law, start, num_warmup, num_samples, num_steps * thinning, observed)


@eqx.filter_jit
def _run(
    kernel: Any,
    rng_key: jax.Array,
    law: Any,
    start: jax.Array,
    num_warmup: int,
    num_samples: int,
    num_steps: int,
    observed: jax.Array | None,
) -> Run:
    arguments.check_run(num_warmup, num_samples, num_steps)
    chains, n = start.shape[:2]
    rows = start.reshape(chains * n, *start.shape[2:])
    seen = None if observed is None else jnp.broadcast_to(observed, start.shape).reshape(rows.shape)
    kept = jnp.zeros((num_samples, *rows.shape), rows.dtype)

    def iterate(i: Any, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        x, kept, total = carry
        x, prob = steps(jax.random.fold_in(rng_key, i), kernel, law, x, num_steps, observed=seen)
        # warm-up writes to the first slot, which the first draw overwrites
        kept = kept.at[jnp.maximum(i - num_warmup, 0)].set(x)
        return x, kept, jnp.where(i < num_warmup, total, total + prob / num_samples)

    _, kept, prob = lax.fori_loop(0, num_warmup + num_samples, iterate, (rows, kept, jnp.zeros(len(rows), rows.dtype)))
    density = lax.map(law.log_prob, kept)
    return Run(
        kept.reshape(num_samples, *start.shape), density.reshape(-1, chains, n), prob.reshape(chains, n), None, None
    )
