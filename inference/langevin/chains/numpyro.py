"""Several chains of a kernel at once in NumPyro."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from tqdm import tqdm

from deepgen.inference.langevin import arguments
from deepgen.inference.langevin.chains.result import STATS, check_counts, inference_data

if TYPE_CHECKING:
    import arviz

__all__ = ["run_chains"]

CHUNKS = 50
"""How often a progress bar moves in a run."""


def run_chains(
    rng_key: Array,
    kernel: Any,
    *args: Any,
    num_warmup: int = 1000,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    init_params: Any = None,
    progress: bool | None = None,
    **kwargs: Any,
) -> "arviz.InferenceData":
    """Chains of one of deepgen's Langevin kernels, vectorised, learning together in the warm-up.

    The loop is compiled once for a kernel: a second call with the same shapes compiles nothing.
    Only every ``thinning``-th state is stored.

    Args:
        rng_key: a JAX key.
        kernel: such as ``MALA(model)``.
        args: of the model.
        num_warmup: iterations that learn and are not kept.
        num_samples: draws to keep of each chain.
        num_chains: how many chains.
        thinning: iterations for each draw kept.
        init_params: unconstrained values to start from, (num_chains, ...) each; needed with ``potential_fn``.
        progress: whether to show a bar; None: on a terminal only.
        kwargs: of the model.

    Returns:
        ``posterior`` with the model's sites and ``sample_stats`` with ``lp``, ``acceptance_rate``, ``diverging``,
        ``step_size`` and ``energy_error``, each (chain, draw); in ``attrs`` the ``kernel`` and its ``law``,
        "asymptotically exact" or "approximate".

    Raises:
        ValueError: a number out of range, a model that the kernel cannot take, a start that is not finite.
    """
    check_counts(num_warmup=num_warmup, num_samples=num_samples, num_chains=num_chains, thinning=thinning)
    total, hidden = num_warmup + num_samples * thinning, None if progress is None else not progress
    keys = jax.random.split(rng_key, num_chains)
    state = kernel.init(keys, num_warmup, init_params, args, kwargs)
    advance, finish = _compiled(kernel)
    stores = jax.tree.map(lambda x: jnp.zeros((num_samples, *x.shape), x.dtype), _kept(state))
    with tqdm(total=total, disable=hidden, unit="step", desc=type(kernel).__name__) as bar:
        size = total if bar.disable else -(-total // CHUNKS)
        for start in range(0, total, size):
            stop = min(start + size, total)
            span = jnp.asarray(start), jnp.asarray(stop), jnp.asarray(thinning)
            state, stores = advance((state, span, args, kwargs, num_warmup), stores)
            if not bar.disable:
                jax.block_until_ready(state)
                bar.update(stop - start)
    z, stats = stores
    draws = finish(z, args, kwargs)
    draws = draws if isinstance(draws, dict) else {"x": draws}
    kept = {name: np.asarray(value).swapaxes(0, 1) for name, value in draws.items()}
    said = {name: np.asarray(value).swapaxes(0, 1) for name, value in stats.items()}
    if hasattr(kernel, "dynamics"):
        arguments.warn_of_divergence(kernel.dynamics, said["diverging"].sum(1), num_samples)
    return inference_data(kept, said, kernel=type(kernel).__name__, law=kernel.law)


def _kept(state: Any) -> tuple[Any, dict[str, Array]]:
    return state.z, {name: getattr(state, name) for name in STATS if hasattr(state, name)}


def _compiled(kernel: Any) -> Any:
    # kept with the kernel: another kernel is another program, and goes with its own
    if "_chains" not in vars(kernel):

        def advance(given: Any, stores: Any) -> Any:
            state, (start, stop, thinning), args, kwargs, num_warmup = given

            def iterate(i: Any, carry: Any) -> Any:
                state, stores = carry
                state = kernel.sample(state, args, kwargs)
                k = jnp.maximum(i - num_warmup, 0) // thinning
                return state, jax.tree.map(lambda s, x: s.at[k].set(x), stores, _kept(state))

            return lax.fori_loop(start, stop, iterate, (state, stores))

        def finish(z: Any, args: Any, kwargs: Any) -> Any:
            return jax.vmap(jax.vmap(kernel.postprocess_fn(args, kwargs)))(z)

        kernel._chains = eqx.filter_jit(advance, donate="all-except-first"), eqx.filter_jit(finish)
    return kernel._chains
