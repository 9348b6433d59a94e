"""NumPyro's ``MCMCKernel`` over any of the dynamics."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from deepgen.inference.hmc import adaptation as adapting
from deepgen.inference.langevin import arguments, tuning
from deepgen.inference.langevin import numpyro as langevin
from deepgen.inference.langevin.dynamics import Dynamics
from deepgen.inference.langevin.space.numpyro import flatten

__all__ = ["Adapter"]


class LangevinState(NamedTuple):
    """The state of a kernel; with vectorized chains each field has an axis of chains in front."""

    i: Array
    """steps taken, the warm-up's included"""
    z: PyTree
    """the state of the chain, unconstrained"""
    potential_energy: Array
    """at z, nats"""
    accept_prob: Array
    """of the last proposal"""
    mean_accept_prob: Array
    """over the warm-up, then over the draws"""
    diverging: Array
    """whether the last proposal was thrown out for an energy error above 1000 nats or not finite"""
    energy_error: Array
    """of the last proposal, nats"""
    step_size: Array
    """a leapfrog step: the Langevin step is its square"""
    chain: Any
    """the state of the dynamics, always with an axis of chains"""
    learned: tuning.Tuning
    """what the warm-up has learned; vectorized chains learn together"""
    rng_key: Array


class Adapter(MCMCKernel):
    """A Markov kernel of the dynamics on a space, for ``numpyro.infer.MCMC`` with any chain method.

    Args:
        space: of ``deepgen.inference.langevin.space``.
        dynamics: the kernel, given the number of categories of the space.
        step_size: at the start.
        plan: what the warm-up learns, as arguments of ``arguments.plan``.
    """

    sample_field = "z"
    default_fields = ("z", "diverging")

    def __init__(self, space: Any, dynamics: Callable[[int], Dynamics], step_size: float, **plan: Any) -> None:
        arguments.check_step_size(np.asarray(step_size), 1)
        self._space, self._dynamics_of, self._step_size = space, dynamics, step_size
        self.dynamics = dynamics(0)
        self._plan = arguments.plan(self.dynamics, **plan)
        self._num_warmup = 0
        self._unravel: Callable[[Array], PyTree] = lambda x: x
        self._begin = eqx.filter_jit(self._first)

    @property
    def model(self) -> Any:
        """The model, or None."""
        return self._space.model

    @property
    def law(self) -> str:
        """Whether the draws' law is "asymptotically exact" or "approximate"."""
        return "asymptotically exact" if self.dynamics.adjusted else "approximate"

    def init(
        self, rng_key: Array, num_warmup: int, init_params: PyTree, model_args: Any = (), model_kwargs: Any = None
    ) -> LangevinState:
        """The first state of one chain, or of several where ``rng_key`` is several keys."""
        kwargs = {} if model_kwargs is None else model_kwargs
        single = is_prng_key(rng_key)
        self._num_warmup = num_warmup
        start_key = jax.random.fold_in(rng_key, 0) if single else jax.vmap(lambda k: jax.random.fold_in(k, 0))(rng_key)
        z = self._space.start(start_key, init_params, model_args, kwargs)
        self.dynamics = self._dynamics_of(self._space.categories)
        wide = jax.tree.map(lambda x: jnp.asarray(x)[None], z) if single else z
        self._unravel = flatten(jax.tree.map(lambda x: x[0], wide), self._space.categories)[1]
        flat = jax.vmap(lambda one: flatten(one, self._space.categories)[0])(wide)
        if not isinstance(flat, jax.core.Tracer):
            arguments.check_states(self.dynamics, np.asarray(flat))
        state, finite = self._begin(rng_key[None] if single else rng_key, flat, model_args, dict(kwargs))
        if not isinstance(finite, jax.core.Tracer):
            arguments.check_finite(np.asarray(finite))
        return _one(state) if single else state

    def sample(self, state: LangevinState, model_args: Any, model_kwargs: Any) -> LangevinState:
        """The state after one step, with a ``DivergenceWarning`` where a chain without an acceptance test leaves."""
        new = self._advance(state, model_args, model_kwargs)
        if not self.dynamics.adjusted:
            left = new.diverging & ~state.diverging
            # the engine's MCMC has no hook at its end, and a callback that is not called costs nothing
            lax.cond(left.any(), lambda: jax.debug.callback(self._left, left), lambda: None)
        return new

    def _left(self, left: Any) -> None:
        if np.any(left):
            arguments.warn_of_divergence(self.dynamics, np.atleast_1d(left), 1)

    def _advance(self, state: LangevinState, model_args: Any, model_kwargs: Any) -> LangevinState:
        """The state after one step, without a word."""
        single = is_prng_key(state.rng_key)
        wide = _several(state) if single else state
        new = self._next(wide, model_args, {} if model_kwargs is None else model_kwargs)
        return _one(new) if single else new

    def postprocess_fn(self, model_args: Any, model_kwargs: Any) -> Callable[[PyTree], PyTree]:
        """From states to values of the model's sites."""
        return self._space.constrain(model_args, {} if model_kwargs is None else model_kwargs)

    def get_diagnostics_str(self, state: LangevinState) -> str:
        """What stands beside the progress bar."""
        if not self.dynamics.adjusted:
            return f"step size {state.step_size:.2e}"
        return f"step size {state.step_size:.2e}. acc. prob={state.mean_accept_prob:.2f}"

    def _evaluate(self, rng_keys: Array, args: Any, kwargs: Any) -> langevin.Evaluate:
        potential, score = self._space.potential(args, kwargs), self._space.score_fn

        def energy(rng_key: Array, flat: Array) -> Array:
            assert potential is not None
            value = jnp.asarray(potential(rng_key, self._unravel(flat)))
            arguments.check_value("potential_fn", value.shape, ())
            return value

        def one(rng_key: Array, flat: Array) -> tuple[Array, Array]:
            if score is not None:
                value = jnp.asarray(jnp.nan) if potential is None else energy(rng_key, flat)
                z = self._unravel(flat)
                found = score(z)
                arguments.check_score(_shapes(found), _shapes(z))
                return -value, flatten(found, self._space.categories)[0]
            value, gradient = jax.value_and_grad(partial(energy, rng_key))(flat)
            return -value, -gradient

        return lambda position: jax.vmap(one)(rng_keys, position)

    def _first(self, rng_keys: Array, position: Array, args: Any, kwargs: Any) -> tuple[LangevinState, Array]:
        keys, noise_keys, batch_keys = _split(rng_keys, 3)
        evaluate = self._evaluate(batch_keys, args, kwargs)
        chain = langevin.init(
            self.dynamics, evaluate, position, langevin.draw_noise(noise_keys, self.dynamics, position)
        )
        known = jnp.isfinite(chain.log_density) | (jnp.isnan(chain.log_density) & (not self.dynamics.adjusted))
        rows = len(position)
        finite = known & jnp.isfinite(chain.gradient).reshape(rows, -1).all(1)
        step_size = jnp.full(rows, self._step_size, position.dtype)
        vectors = position if self.dynamics.metric else position.reshape(rows, -1)[:, :1]
        learned = tuning.begin(vectors, step_size, pool=rows > 1, dense=self._plan.dense_mass)
        zero = jnp.zeros_like(step_size)
        state = LangevinState(
            i=jnp.zeros(rows, jnp.int32),
            z=jax.vmap(self._unravel)(position),
            potential_energy=-chain.log_density,
            accept_prob=zero,
            mean_accept_prob=zero,
            diverging=zero > 0,
            energy_error=zero,
            step_size=step_size,
            chain=chain,
            learned=learned,
            rng_key=keys,
        )
        return state, finite

    def _next(self, state: LangevinState, args: Any, kwargs: Any) -> LangevinState:
        keys, noise_keys, batch_keys = _split(state.rng_key, 3)
        noise = langevin.draw_noise(noise_keys, self.dynamics, state.chain.position)
        evaluate, learned = self._evaluate(batch_keys, args, kwargs), state.learned
        i = state.i[0]
        warming = i < self._num_warmup
        h = jnp.where(warming, tuning.searched_step_size(learned), tuning.learned_step_size(learned))
        root = learned.root if self.dynamics.metric else None
        chain, info = langevin.step_with_noise(noise, self.dynamics, state.chain, evaluate, h, root)
        if self._num_warmup > 0 and (self._plan.adapt_step_size or self._plan.adapt_mass_matrix):
            learned = lax.cond(
                warming, lambda: self._adapted(i, learned, chain.position, info.accept_prob), lambda: learned
            )
        count = state.i + 1 - jnp.where(warming, 0, self._num_warmup)
        return LangevinState(
            i=state.i + 1,
            z=jax.vmap(self._unravel)(chain.position),
            potential_energy=-chain.log_density,
            accept_prob=info.accept_prob,
            mean_accept_prob=state.mean_accept_prob + (info.accept_prob - state.mean_accept_prob) / count,
            diverging=info.diverging,
            energy_error=info.energy_error,
            step_size=jnp.broadcast_to(h, state.step_size.shape),
            chain=chain,
            learned=learned,
            rng_key=keys,
        )

    def _adapted(self, i: Array, learned: tuning.Tuning, position: Array, accept_prob: Array) -> tuning.Tuning:
        plan, pool = self._plan, len(position) > 1
        schedule = adapting.schedule(self._num_warmup, adapt_mass_matrix=plan.adapt_mass_matrix)
        observing, closing = map(jnp.asarray, schedule)
        if plan.adapt_step_size:
            learned = tuning.learn_step_size(learned, accept_prob, plan.target_accept_prob, pool=pool)
        if plan.adapt_mass_matrix:
            learned = lax.cond(observing[i], lambda: tuning.observe(learned, position, pool=pool), lambda: learned)
            seen = learned
            learned = lax.cond(
                closing[i], lambda: tuning.close_window(seen, step_size=plan.adapt_step_size), lambda: seen
            )
        return learned


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): jnp.shape(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _split(rng_keys: Array, count: int) -> tuple[Array, ...]:
    return tuple(jnp.swapaxes(jax.vmap(lambda key: jax.random.split(key, count))(rng_keys), 0, 1))


def _one(state: LangevinState) -> LangevinState:
    narrow = {name: jax.tree.map(lambda x: x[0], value) for name, value in state._asdict().items() if name not in KEPT}
    return state._replace(**narrow)


def _several(state: LangevinState) -> LangevinState:
    wide = {name: jax.tree.map(lambda x: x[None], value) for name, value in state._asdict().items() if name not in KEPT}
    return state._replace(**wide)


KEPT = ("chain", "learned")
"""The fields that have an axis of chains in any case."""
