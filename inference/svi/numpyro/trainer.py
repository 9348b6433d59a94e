"""The state of a fit in NumPyro as the host's loop sees it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from deepgen.inference.svi import rows
from deepgen.inference.svi.numpyro.step import Problem, State, advance, evaluate, permutation
from deepgen.inference.svi.rows import Call
from deepgen.program.numpyro import with_params


class Trainer:
    """The `loop.Trainer` of NumPyro."""

    def __init__(
        self,
        rng_key: jax.Array,
        program: Any,
        problem: Problem,
        state: State,
        call: Call,
        held: Call,
        *,
        chunk: int,
        steps: int,
    ) -> None:
        self.step_key, self.held_key = jax.random.split(rng_key)
        self.program, self.problem, self.state = program, problem, state
        self.call, self.held, self.chunk, self.steps = call, held, chunk, steps

    @property
    def step(self) -> int:
        """How many steps were taken."""
        return int(self.state.step)

    def advance(self, count: int) -> tuple[np.ndarray, bool]:
        """See `loop.Trainer`."""
        for careful in (False, True):
            state, losses, taken, finite = advance(
                self.step_key, self.state, self.problem, self.call, jnp.asarray(count, jnp.int32), self.chunk, careful
            )
            # Steps look at the loss alone. Where that, or a parameter at the end, is not finite, the chunk is
            # repeated from its beginning with an eye on each gradient, to stop in the last good state.
            if finite:
                break
        self.state = state
        return np.asarray(losses[: int(taken)]), bool(finite)

    def snapshot(self) -> Any:
        """The parameters, averaged where EMA is on, and the mutable sites."""
        params = self.state.params
        if self.problem.ema is not None and self.step > 0:
            weight = 1 - self.problem.ema**self.step
            params = jax.tree.map(lambda average: (average / weight).astype(average.dtype), self.state.average)
        return params, self.state.mutable

    def evaluate(self, snapshot: Any) -> float:
        """See `loop.Trainer`."""
        size = (
            min(max(self.problem.batch_size or 0, 512), rows.count(self.held, "validation"))
            if self.problem.per_row
            else 0
        )
        params, mutable = snapshot
        last = jnp.asarray(self.steps, jnp.int32)
        return float(evaluate(self.held_key, params, mutable, self.problem, last, self.held, size))

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The state; the order of the rows is a function of the step."""
        return self.pack(self.state._replace(order=None)), {}

    def load(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Take up the state that `save` gave."""
        state = _unpack(arrays, self.state._replace(order=None))
        order = self.state.order
        if order is not None and self.problem.batch_size is not None:
            epoch = state.step // (order.shape[0] // self.problem.batch_size)
            order = permutation(jax.random.split(self.step_key)[1], epoch, order.shape[0])
        self.state = state._replace(order=order)

    def pack(self, snapshot: Any) -> dict[str, np.ndarray]:
        """A tree's leaves by path."""
        leaves = jax.tree_util.tree_leaves_with_path(snapshot)
        return {jax.tree_util.keystr(path): np.asarray(_key_data(leaf)) for path, leaf in leaves}

    def unpack(self, arrays: dict[str, np.ndarray]) -> Any:
        """The snapshot that `pack` gave."""
        return _unpack(arrays, self.snapshot())

    def result(self, snapshot: Any) -> tuple[Any, dict[str, Any]]:
        """The trained program, or the pair with its parameters substituted, and the constrained parameters."""
        params, mutable = snapshot
        values = {name: self.problem.transforms[name](value) for name, value in params.items()} | mutable
        if isinstance(self.program, tuple):
            return tuple(handlers.substitute(fn, data=values) for fn in self.program), values
        return with_params(self.program, values), values


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _key_data(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _unpack(arrays: dict[str, np.ndarray], like: Any) -> Any:
    def restored(path: Any, leaf: Any) -> jax.Array:
        array = jnp.asarray(arrays[jax.tree_util.keystr(path)])
        return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array

    return jax.tree_util.tree_map_with_path(restored, like)
