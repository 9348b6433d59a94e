"""Kernels over rows of zeros and ones in JAX: steps at a temperature, and long runs."""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm import tqdm

from deepgen.inference.chains import arguments
from deepgen.inference.chains.numpyro.walking import Run, Step, densities, evaluate, steps
from deepgen.inference.langevin import discrete
from deepgen.inference.langevin.noise.numpyro import uniform

__all__ = ["BlockGibbs", "FlipSteps"]

CHUNKS = 50
"""How often a progress bar moves in a run."""


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
        drawn = uniform(rng_key, x, (len(x), int(np.prod(x.shape[1:])) + 1))
        return discrete.Noise(drawn[:, :-1], drawn[:, -1])

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
        return _run(self, rng_key, law, start, num_warmup, num_samples, num_steps, thinning, observed, progress)


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
        drawn = uniform(rng_key, x, (len(x), visible + hidden))
        return drawn[:, :hidden], drawn[:, hidden:]

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
        return _run(self, rng_key, law, start, num_warmup, num_samples, num_steps, thinning, observed, progress)


def _run(
    kernel: Any,
    rng_key: jax.Array,
    law: Any,
    start: jax.Array,
    num_warmup: int,
    num_samples: int,
    num_steps: int,
    thinning: int,
    observed: jax.Array | None,
    progress: bool | None,
) -> Run:
    arguments.check_run(num_warmup, num_samples, num_steps, thinning)
    chains, n = start.shape[:2]
    rows = start.reshape(chains * n, *start.shape[2:])
    seen = None if observed is None else jnp.broadcast_to(observed, start.shape).reshape(rows.shape)
    inside_jit = isinstance(jnp.zeros(()), jax.core.Tracer)
    advance = _advance if inside_jit else _compiled
    walk = _Walk(rows, jnp.zeros((num_samples, *rows.shape), rows.dtype), jnp.zeros(len(rows), rows.dtype))
    total = num_warmup + num_samples * thinning
    plan = jnp.asarray(num_warmup), jnp.asarray(thinning)
    hidden = True if inside_jit else None if progress is None else not progress
    with tqdm(total=total, disable=hidden, unit="step", desc=type(kernel).__name__) as bar:
        size = total if bar.disable else -(-total // CHUNKS)
        for first in range(0, total, size):
            stop = min(first + size, total)
            walk = advance(rng_key, kernel, law, walk, (jnp.asarray(first), jnp.asarray(stop)), plan, num_steps, seen)
            if not bar.disable:
                jax.block_until_ready(walk)
                bar.update(stop - first)
    shape = num_samples, chains, n
    prob = walk.accept_prob.reshape(chains, n) / (num_samples * thinning)
    return Run(walk.kept.reshape(num_samples, *start.shape), densities(law, walk.kept).reshape(shape), prob, None, None)


class _Walk(NamedTuple):
    x: jax.Array
    kept: jax.Array
    accept_prob: jax.Array


def _advance(
    rng_key: jax.Array,
    kernel: Any,
    law: Any,
    walk: _Walk,
    span: tuple[jax.Array, jax.Array],
    plan: tuple[jax.Array, jax.Array],
    num_steps: int,
    observed: jax.Array | None,
) -> _Walk:
    num_warmup, thinning = plan

    def iterate(i: Any, walk: _Walk) -> _Walk:
        x, prob = steps(jax.random.fold_in(rng_key, i), kernel, law, walk.x, num_steps, observed=observed)
        # what is not kept is overwritten by the draw that is
        kept = walk.kept.at[jnp.maximum(i - num_warmup, 0) // thinning].set(x)
        return _Walk(x, kept, walk.accept_prob + jnp.where(i < num_warmup, 0.0, prob))

    return lax.fori_loop(*span, iterate, walk)


_compiled = eqx.filter_jit(_advance)
