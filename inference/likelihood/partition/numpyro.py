"""The constant of an unnormalised law in NumPyro: all chains in one compiled loop."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from deepgen.inference.chains import numpyro as chains
from deepgen.inference.likelihood.ais import annealing
from deepgen.inference.likelihood.partition import estimate
from deepgen.inference.likelihood.partition.estimate import LogPartition
from deepgen.program import LogProb
from deepgen.program.unnormalised import HasUnnormalisedLaw

__all__ = ["LogPartition", "log_partition", "log_prob"]


def log_partition(
    rng_key: jax.Array,
    program: Any,
    *,
    num_chains: int = 500,
    num_temperatures: int = 500,
    num_steps: int = 1,
    bracket: bool = True,
) -> LogPartition:
    r"""log Z of an energy-based program by annealed importance sampling from its base, and back.

    With :math:`f_0 = \mathrm{base}` and :math:`f_T = \mathrm{base}\, e^{-E}`, tempered between them as the law's kernel
    tempers it (the energy for most, the joint energy of visible and hidden units for a restricted Boltzmann machine),

    .. math:: \log Z \approx \log \frac1K \sum_k \prod_{t=1}^{T} \frac{f_t(x_{t-1})}{f_{t-1}(x_{t-1})},
        \quad x_0 \sim \mathrm{base},\ x_t \sim T_t(\cdot \mid x_{t-1})

    in expectation from below. Chains from the law back to the base give an upper bound, as far as they begin at draws
    of the law: they begin at the ends of long runs. Step sizes come from a pilot run of its own.

    Args:
        rng_key: the key.
        program: the program.
        num_chains: K, in each direction.
        num_temperatures: T.
        num_steps: steps of the kernel at each temperature.
        bracket: whether chains are run back, too.

    Returns:
        The estimate, its standard error, and the upper bound.

    Raises:
        ValueError: another program, or an argument out of range.

    References:
        Salakhutdinov and Murray, "On the quantitative analysis of deep belief networks" (2008); Burda, Grosse and
        Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood using reverse annealing" (2015).
    """
    estimate.check_run(num_chains, num_temperatures, num_steps)
    estimate.check_program(program, HasUnnormalisedLaw)
    start_key, pilot_key, forward_key, draw_key, back_key = jax.random.split(rng_key, 5)
    law, temperatures = program.distribution(), jnp.asarray(annealing.sigmoid_schedule(num_temperatures))
    pilot, first = _starts(start_key, law, num_chains)
    up, down = (temperatures[:-1], temperatures[1:]), (temperatures[::-1][:-1], temperatures[::-1][1:])
    sizes = jnp.full(num_temperatures - 1, np.log(annealing.FIRST_STEP_SIZE), first.dtype)
    if law.kernel.tuned:
        _, sizes = _anneal(pilot_key, law, pilot, up, sizes, jnp.asarray(True), num_steps)
    forward, _ = _anneal(forward_key, law, first, up, sizes, jnp.asarray(False), num_steps)
    if not bracket:
        return estimate.of_weights(np.asarray(forward), None)
    ends = program.draw(draw_key, num_chains)
    backward, _ = _anneal(back_key, law, ends, down, sizes[::-1], jnp.asarray(False), num_steps)
    return estimate.of_weights(np.asarray(forward), -np.asarray(backward))


def log_prob(
    rng_key: jax.Array, program: Any, x: np.ndarray, num_chains: int, labels: np.ndarray | None = None
) -> LogProb:
    """log p(x) of rows, with log Z estimated once for all of them; see ``deepgen.inference.likelihood``.

    Args:
        rng_key: the key.
        program: an energy-based program.
        x: (n, *event_shape), complete and checked.
        num_chains: of the estimate.
        labels: (n,) classes, -1 where unknown, whose laws have a constant each; None for the law of all.

    Returns:
        Values whose errors are the same number, that of log Z.
    """
    if labels is None:
        found = log_partition(rng_key, program, num_chains=max(num_chains, 2), bracket=False)
        value = np.asarray(_density(program, jnp.asarray(x)), dtype=float) - found.value
        return LogProb(value, np.full(len(value), found.stderr), "estimate")
    value, stderr = np.zeros(len(x)), np.zeros(len(x))
    for label in np.unique(labels):
        view, rows = program.given(labels[labels == label][:1]), labels == label
        key = jax.random.fold_in(rng_key, label + 1)
        value[rows], stderr[rows], _ = log_prob(key, view, x[rows], num_chains)
    return LogProb(value, stderr, "estimate")


@eqx.filter_jit
def _density(program: Any, x: jax.Array) -> jax.Array:
    return program.distribution().log_prob(x)


@eqx.filter_jit
def _starts(rng_key: jax.Array, law: Any, num_chains: int) -> tuple[jax.Array, jax.Array]:
    drawn = law.base.sample(rng_key, (2, num_chains)).astype(float)
    return drawn[0], drawn[1]


@eqx.filter_jit
def _anneal(
    rng_key: jax.Array,
    law: Any,
    x: jax.Array,
    temperatures: tuple[jax.Array, jax.Array],
    log_step_sizes: jax.Array,
    adapting: jax.Array,
    num_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """The log weights (K,) along the way from each temperature to the next, and the log step sizes (T - 1,) used."""
    kernel = law.kernel

    def gain(x: jax.Array, here: jax.Array, there: jax.Array) -> jax.Array:
        return kernel.tempered(law, x, there) - kernel.tempered(law, x, here)

    def iterate(carry: tuple[jax.Array, jax.Array, jax.Array], at: Any) -> tuple[Any, jax.Array]:
        x, weight, searched = carry
        i, here, there, stored = at
        log_size = jnp.where(adapting, searched, stored)
        weight = weight + gain(x, here, there)
        size = jnp.exp(log_size) if kernel.tuned else None
        x, prob = chains.steps(jax.random.fold_in(rng_key, i), kernel, law, x, num_steps, there, size)
        searched = annealing.adapted(searched.reshape(1, 1), prob[:, None]).reshape(())
        return (x, weight, searched), log_size

    here, there = temperatures
    inner = jnp.arange(len(here) - 1), here[:-1], there[:-1], log_step_sizes
    start = x, jnp.zeros(len(x), x.dtype), log_step_sizes[0]
    (x, weight, _), used = lax.scan(iterate, start, inner)
    return weight + gain(x, here[-1], there[-1]), used
