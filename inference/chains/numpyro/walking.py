"""What kernels over data give in JAX, and several steps of one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax


class Step(NamedTuple):
    """What one step gives.

    Attributes:
        x: (n, *event_shape).
        accept_prob: (n,).
    """

    x: jax.Array
    accept_prob: jax.Array


class Run(NamedTuple):
    """What a long run gives.

    Attributes:
        x: (num_samples, chains, n, *event_shape).
        log_density: (num_samples, chains, n), nats, up to the constant.
        accept_prob: (chains, n), the mean after the warm-up.
        step_size: (chains, n) as adapted, or None where there is none.
        diverging: (chains, n) how many trajectories diverged, or None.
    """

    x: jax.Array
    log_density: jax.Array
    accept_prob: jax.Array
    step_size: jax.Array | None
    diverging: jax.Array | None


def steps(
    rng_key: jax.Array,
    kernel: Any,
    law: Any,
    x: jax.Array,
    num_steps: int,
    temperature: Any = 1.0,
    step_size: Any = None,
    observed: jax.Array | None = None,
) -> Step:
    """Several steps of a kernel.

    Args:
        rng_key: the key; noise of step i is drawn from it folded with i.
        kernel: one of this module's.
        law: the law.
        x: (n, *event_shape) where to start.
        num_steps: how many.
        temperature: what multiplies the energy.
        step_size: instead of the kernel's own, or None.
        observed: booleans of the entries that stay, or None.

    Returns:
        Where the chains are, and their mean acceptance probability.
    """

    def one(i: Any, carry: Step) -> Step:
        noise = kernel.draw_noise(jax.random.fold_in(rng_key, i), law, carry.x)
        moved, accept_prob = kernel.step(noise, law, carry.x, temperature, step_size, observed)
        return Step(moved, carry.accept_prob + accept_prob / num_steps)

    return lax.fori_loop(0, num_steps, one, Step(x, jnp.zeros(len(x), x.dtype)))


@eqx.filter_jit
def densities(law: Any, x: jax.Array) -> jax.Array:
    """log f of draws, (num_samples, *lead), one draw after the other.

    Args:
        law: the law.
        x: (num_samples, *lead, *event_shape).
    """
    return lax.map(law.log_prob, x)


def evaluate(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The values (n,) of a function of rows, and its gradient.

    Args:
        function: from (n, ...) to (n,).
        x: the rows.
    """
    value, pullback = jax.vjp(function, x)
    return value, pullback(jnp.ones_like(value))[0]
