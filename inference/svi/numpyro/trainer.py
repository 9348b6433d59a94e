"""The state of a fit in NumPyro as the loop sees it: pure `init` and `update`, chunks of steps in one compiled call."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from numpyro import handlers
from numpyro.distributions import biject_to, constraints

from deepgen.inference.svi import loop, rows
from deepgen.inference.svi.rows import Call
from deepgen.program.numpyro import with_params

__all__ = ["Trainer"]


class Problem(eqx.Module):
    """What stays the same from step to step."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    objective: Any
    optimizer: optax.GradientTransformation
    transforms: dict[str, Any]
    ema: float | None
    batch_size: int | None
    per_row: bool
    augment: Callable[..., Any] | None = None


class State(NamedTuple):
    """What a step changes.

    Attributes:
        step: () how many steps were taken.
        params: by param site, unconstrained.
        optimizer: optax's state.
        mutable: by mutable site.
        average: the exponential moving average of ``params``, not yet corrected for its start at zero; or None.
        order: (rows,) this epoch's permutation, or None where each step takes all rows.
    """

    step: jax.Array
    params: dict[str, Any]
    optimizer: Any
    mutable: dict[str, Any]
    average: dict[str, Any] | None
    order: jax.Array | None


def init(
    rng_key: jax.Array, model: Callable[..., Any], guide: Callable[..., Any], call: Call
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The param sites' first values, unconstrained; the transforms that constrain them; the mutable sites' values.

    Args:
        rng_key: the key of the sites' initial values.
        model: the model.
        guide: the guide; where both declare a site, the guide's value counts.
        call: some data.
    """
    model_key, guide_key = jax.random.split(rng_key)
    guide_trace = handlers.trace(handlers.seed(guide, guide_key)).get_trace(*call.args, **call.kwargs)
    values = {name: site["value"] for name, site in guide_trace.items() if site["type"] == "param"}
    model = handlers.substitute(handlers.replay(handlers.seed(model, model_key), guide_trace), data=values)
    model_trace = handlers.trace(model).get_trace(*call.args, **call.kwargs)
    params, transforms, mutable = {}, {}, {}
    for name, site in {**model_trace, **guide_trace}.items():
        if site["type"] == "param":
            transforms[name] = biject_to(site["kwargs"].get("constraint", constraints.real))
            params[name] = transforms[name].inv(site["value"])
        elif site["type"] == "mutable":
            mutable[name] = site["value"]
    params, mutable = jax.tree.map(lambda x: lax.convert_element_type(x, jnp.result_type(x)), (params, mutable))
    return params, transforms, mutable


def update(
    rng_key: jax.Array, state: State, problem: Problem, call: Call, *, careful: bool = False
) -> tuple[State, jax.Array, jax.Array]:
    """One step: the next minibatch, the gradient, the optimiser.

    Args:
        rng_key: the fit's key; the step's own noise is folded in from it.
        state: where we are.
        problem: what is minimised, and how.
        call: all data.
        careful: look at the gradient too, and leave the state as it is where it or the loss is not finite.

    Returns:
        The next state, the loss and whether it was finite.
    """
    noise_key, order_key = jax.random.split(rng_key)
    objective = loop.at(problem.objective, state.step)
    order = state.order
    if problem.batch_size is not None and order is not None:
        batches = order.shape[0] // problem.batch_size
        position = state.step % batches
        order = lax.cond(
            position == 0, lambda: _permutation(order_key, state.step // batches, order.shape[0]), lambda: order
        )
        index = lax.dynamic_slice(order, (position * problem.batch_size,), (problem.batch_size,))
        call = call.map(lambda array: array.at[index].get(mode="promise_in_bounds", unique_indices=True))

    augment = problem.augment
    if augment is not None:
        augment_key = jax.random.fold_in(jax.random.fold_in(rng_key, 2), state.step)
        call = call.with_data(lambda x: augment(augment_key, x))

    def loss_of(params: dict[str, Any]) -> tuple[jax.Array, dict[str, Any]]:
        loss, mutable = _loss(
            jax.random.fold_in(noise_key, state.step), params, state.mutable, problem, objective, call
        )
        return loss / rows.count(call, "data") if problem.per_row else loss, mutable

    (loss, mutable), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    finite = jnp.isfinite(loss)

    def move() -> State:
        change, optimizer = problem.optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, change)
        average = state.average
        if problem.ema is not None:
            decay = problem.ema
            average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
        return State(state.step + 1, params, optimizer, mutable, average, order)

    if not careful:
        return move(), loss, finite
    finite = finite & _all_finite(gradient)
    return lax.cond(finite, move, lambda: state._replace(order=order)), loss, finite


@eqx.filter_jit
def _advance(
    rng_key: jax.Array, state: State, problem: Problem, call: Call, count: jax.Array, chunk: int, careful: bool
) -> tuple[State, jax.Array, jax.Array, jax.Array]:
    """Up to ``count`` steps, fewer where the loss is not finite; the losses of a whole chunk, and how many are real."""

    def body(carry: tuple[State, jax.Array, jax.Array, jax.Array]) -> tuple[State, jax.Array, jax.Array, jax.Array]:
        state, losses, taken, _ = carry
        state, loss, finite = update(rng_key, state, problem, call, careful=careful)
        return state, losses.at[taken].set(loss.astype(losses.dtype)), taken + finite, finite

    carry = (state, jnp.zeros(chunk), jnp.zeros((), jnp.int32), jnp.asarray(True))
    state, losses, taken, finite = lax.while_loop(lambda carry: (carry[2] < count) & carry[3], body, carry)
    return state, losses, taken, finite & _all_finite(state.params)


@eqx.filter_jit
def _evaluate(
    rng_key: jax.Array, params: Any, mutable: Any, problem: Problem, objective_step: jax.Array, call: Call, size: int
) -> jax.Array:
    """The loss of held-out rows, in pieces of ``size`` rows where the loss is a sum over rows."""
    objective = loop.at(loop.judging(problem.objective), objective_step)
    if not problem.per_row:
        return _loss(rng_key, params, mutable, problem, objective, call)[0]
    total = rows.count(call, "validation")
    whole = total // size

    def part(i: jax.Array, piece: Call) -> jax.Array:
        return _loss(jax.random.fold_in(rng_key, i), params, mutable, problem, objective, piece)[0]

    def batch(i: jax.Array) -> jax.Array:
        return part(i, call.map(lambda array: lax.dynamic_slice_in_dim(array, i * size, size)))

    loss = jnp.sum(lax.map(batch, jnp.arange(whole)))
    if total % size:
        loss = loss + part(jnp.asarray(whole), call.map(lambda array: array[whole * size :]))
    return loss / total


def _loss(
    rng_key: jax.Array, params: Any, mutable: dict[str, Any], problem: Problem, objective: Any, call: Call
) -> tuple[jax.Array, dict[str, Any]]:
    values = {name: problem.transforms[name](value) for name, value in params.items()}
    if not mutable:
        return objective.loss(rng_key, values, problem.model, problem.guide, *call.args, **call.kwargs), {}
    values.update(lax.stop_gradient(mutable))
    result = objective.loss_with_mutable_state(rng_key, values, problem.model, problem.guide, *call.args, **call.kwargs)
    return result["loss"], result["mutable_state"]


def _permutation(rng_key: jax.Array, epoch: jax.Array, size: int) -> jax.Array:
    """The order of the rows in an epoch."""
    return jax.random.permutation(jax.random.fold_in(rng_key, epoch), size)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)] or [jnp.asarray(True)]))


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
            state, losses, taken, finite = _advance(
                self.step_key, self.state, self.problem, self.call, jnp.asarray(count, jnp.int32), self.chunk, careful
            )
            # Steps look at the loss alone. Where that, or a parameter at the end, is not finite, the chunk is
            # repeated from its beginning with an eye on each gradient, to stop in the last good state.
            if finite:
                break
        self.state = state
        return np.asarray(losses)[: int(taken)], bool(finite)

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
        return float(_evaluate(self.held_key, params, mutable, self.problem, last, self.held, size))

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The state; the order of the rows is a function of the step."""
        return self.pack(self.state._replace(order=None)), {}

    def load(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Take up the state that `save` gave."""
        state = _unpack(arrays, self.state._replace(order=None))
        order = self.state.order
        if order is not None and self.problem.batch_size is not None:
            epoch = state.step // (order.shape[0] // self.problem.batch_size)
            order = _permutation(jax.random.split(self.step_key)[1], epoch, order.shape[0])
        self.state = state._replace(order=order)

    def pack(self, snapshot: Any) -> dict[str, np.ndarray]:
        """A tree's leaves by path."""
        leaves = jax.tree_util.tree_leaves_with_path(snapshot)
        return {jax.tree_util.keystr(path): np.asarray(_key_data(leaf)) for path, leaf in leaves}

    def unpack(self, arrays: dict[str, np.ndarray]) -> Any:
        """The snapshot that `pack` gave."""
        return _unpack(arrays, self.snapshot())

    def diagnostics(self) -> dict[str, float]:
        """See `loop.Trainer`."""
        objective = self.problem.objective
        if not isinstance(objective, loop.Measuring):
            return {}
        return {name: float(value) for name, value in objective.diagnostics(self.state.mutable).items()}

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
