"""Several chains of a kernel at once in NumPyro."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from tqdm import tqdm

from deepgen.inference.langevin import arguments
from deepgen.inference.langevin.chains.result import STATS, check_counts, check_draws, check_fields, inference_data
from deepgen.inference.langevin.report import in_a_row, kept, patience

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
    extra_fields: tuple[str, ...] = (),
    init_params: Any = None,
    progress: bool | None = None,
    **kwargs: Any,
) -> "arviz.InferenceData":
    """Chains of one of deepgen's Langevin kernels, vectorised, learning together in the warm-up.

    The loop is compiled once for a kernel: a second call with the same shapes compiles nothing.
    Only every ``thinning``-th state is stored.

    A run whose step size is hopeless stops early, with a ``DivergenceWarning``, and gives the draws up to there:
    without an acceptance test where no chain is finite any more, with one after 100 steps in a row at which the
    proposals of all chains diverged. The engine's own ``MCMC`` cannot be stopped by a kernel: there the run goes on
    to its end.

    Args:
        rng_key: a JAX key.
        kernel: such as ``MALA(model)``.
        args: of the model.
        num_warmup: iterations that learn and are not kept.
        num_samples: draws to keep of each chain.
        num_chains: how many chains.
        thinning: iterations for each draw kept.
        extra_fields: of the kernel's state, to keep for each draw as well, such as ``"mean_accept_prob"`` or
            ``"chain.gradient"``; each has an axis of chains in front.
        init_params: unconstrained values to start from, (num_chains, ...) each; needed with ``potential_fn``.
        progress: whether to show a bar; None: on a terminal only.
        kwargs: of the model.

    Returns:
        ``posterior`` with the model's sites and ``sample_stats`` with ``lp``, ``acceptance_rate``, ``diverging``,
        ``step_size`` and ``energy_error``, each (chain, draw), and the extra fields by their names; in ``attrs`` the
        ``kernel`` and its ``law``, "asymptotically exact" or "approximate".

    Raises:
        ValueError: a number out of range, a model that the kernel cannot take, a start that is not finite, a field
            that the state does not have, or a run
            that stopped before its first draw.
    """
    check_counts(num_warmup=num_warmup, num_samples=num_samples, num_chains=num_chains, thinning=thinning)
    total, hidden = num_warmup + num_samples * thinning, None if progress is None else not progress
    keys = jax.random.split(rng_key, num_chains)
    state = kernel.init(keys, num_warmup, init_params, args, kwargs)
    check_fields(state, extra_fields, num_chains)
    advance, finish = _compiled(kernel)
    kept_now = _kept(state, tuple(extra_fields))
    stores = jax.tree.map(lambda x: jnp.zeros((num_samples, *x.shape), x.dtype), kept_now)
    with tqdm(total=total, disable=hidden, unit="step", desc=type(kernel).__name__) as bar:
        size = total if bar.disable else -(-total // CHUNKS)
        made = bad = jnp.zeros((), jnp.int32)
        for start in range(0, total, size):
            stop = min(start + size, total)
            span = made, bad, jnp.asarray(stop), jnp.asarray(thinning)
            (made, bad, state), stores = advance((state, span, args, kwargs, num_warmup, tuple(extra_fields)), stores)
            if not bar.disable:
                bar.update(int(made) - start)
                if made < stop:
                    break
    steps = int(made)
    adjusted = not hasattr(kernel, "dynamics") or kernel.dynamics.adjusted
    left = kept(adjusted, steps, total, num_warmup, thinning)
    check_draws(left, steps)
    z, stats = jax.tree.map(lambda x: x[:left], stores) if steps < total else stores
    draws = finish(z, args, kwargs)
    draws = draws if isinstance(draws, dict) else {"x": draws}
    found = {name: np.asarray(value).swapaxes(0, 1) for name, value in draws.items()}
    said = {name: np.asarray(value).swapaxes(0, 1) for name, value in stats.items()}
    if hasattr(kernel, "dynamics"):
        stopped = (steps, total, left) if steps < total else None
        arguments.warn_of_divergence(kernel.dynamics, said["diverging"].sum(1), left, stopped=stopped)
    return inference_data(found, said, kernel=type(kernel).__name__, law=kernel.law)


def _kept(state: Any, extra_fields: tuple[str, ...]) -> tuple[Any, dict[str, Array]]:
    names = [*(name for name in STATS if hasattr(state, name)), *extra_fields]
    return state.z, {name: attrgetter(name)(state) for name in names}


def _compiled(kernel: Any) -> Any:
    # kept with the kernel: another kernel is another program, and goes with its own
    if "_chains" not in vars(kernel):

        def advance(given: Any, stores: Any) -> Any:
            state, (made, bad, stop, thinning), args, kwargs, num_warmup, extra_fields = given
            stops = hasattr(kernel, "dynamics")
            step = kernel._advance if stops else kernel.sample

            def iterate(carry: Any) -> Any:
                (i, bad, state), stores = carry
                state = step(state, args, kwargs)
                k = jnp.maximum(i - num_warmup, 0) // thinning
                bad = in_a_row(bad, state.diverging) if stops else bad
                return (i + 1, bad, state), jax.tree.map(
                    lambda s, x: s.at[k].set(x), stores, _kept(state, extra_fields)
                )

            def more(carry: Any) -> Any:
                i, bad, _ = carry[0]
                return (i < stop) & (bad < patience(kernel.dynamics.adjusted)) if stops else i < stop

            return lax.while_loop(more, iterate, ((made, bad, state), stores))

        def finish(z: Any, args: Any, kwargs: Any) -> Any:
            return jax.vmap(jax.vmap(kernel.postprocess_fn(args, kwargs)))(z)

        kernel._chains = eqx.filter_jit(advance, donate="all-except-first"), eqx.filter_jit(finish)
    return kernel._chains
