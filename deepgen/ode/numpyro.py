"""Solves of ordinary differential equations in JAX, by diffrax: pure, and whole inside any compiled function."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

from deepgen.ode.arguments import check_field, check_probes, check_solve
from deepgen.ode.divergence import average, basis, contract
from deepgen.ode.norm import largest_row

__all__ = ["average", "divergence", "integrate", "transport"]

Field = Callable[..., Array]
SOLVER_OF = {"dopri5": "Dopri5", "dopri8": "Dopri8", "bosh3": "Bosh3"}


def divergence(
    field: Field, t: Any, x: Float[Array, "n ..."], *args: Array, probes: Float[Array, "k rows ..."] | None = None
) -> tuple[Float[Array, "n ..."], Float[Array, "..."]]:
    r"""The field and its divergence, by vector-Jacobian products: what a network lacks in forward mode is not needed.

    .. math:: \operatorname{div} f = \sum_i \langle e_i, J^T e_i \rangle, \quad \text{or} \quad \langle v, J^T v \rangle

    Args:
        field: (t, x, *args) -> like x, each row of its own.
        t: time.
        x: (n, *event).
        args: what else the field takes.
        probes: (k, n, *event) of mean 0 and variance 1, independent; None for the exact divergence, at D products.

    Returns:
        The field (n, *event), and its divergence: (n,), or (k, n) one estimate a probe.

    Raises:
        ValueError: a field or probes of another shape.

    Hutchinson 1990, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines.
    """
    if probes is not None:
        check_probes(probes.shape, x.shape)
    value, pull = jax.vjp(lambda x: field(t, x, *args), x)
    check_field(value.shape, x.shape)
    directions = basis(x) if probes is None else lax.stop_gradient(probes)
    traces = contract(directions, jax.vmap(pull)(directions)[0])
    return value, traces.sum(0) if probes is None else traces


def integrate(
    field: Field,
    x: Shaped[Array, "n ..."],
    t0: float,
    t1: float,
    *,
    args: tuple[Any, ...] = (),
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
    solver: str = "dopri5",
    adjoint: str = "direct",
) -> Float[Array, "n ..."]:
    r"""The state at t1 of :math:`dx / dt = f(t, x)` from x at t0, with steps that each row's error sets.

    Args:
        field: (t, x, *args) -> like x, each row of its own; never asked outside of [t0, t1].
        x: (n, *event).
        t0: where x is given.
        t1: where the solution is wanted; before t0 too.
        args: what else the field takes.
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step.
        max_steps: tried before a solve is given up.
        solver: ``"dopri5"``, ``"dopri8"`` or ``"bosh3"``.
        adjoint: ``"direct"``, gradients through the steps taken, or ``"backsolve"``, by a second equation backwards in
            time in constant memory, for the field's own parameters (it then is a module), x and ``args``.

    Returns:
        (n, *event); NaN for rows that start non-finite, and for all rows where the solve was given up.

    Raises:
        ValueError: an argument that no solve has, or a field of another shape.

    Dormand & Prince 1980, A family of embedded Runge-Kutta formulae; Chen, Rubanova, Bettencourt & Duvenaud 2018,
    Neural ordinary differential equations.
    """
    _check(x, t0, t1, rtol, atol, max_steps, solver, adjoint)
    alive, start = _finite(x)
    (end,), ok = _solve(_Plain(field), (start,), t0, t1, args, rtol, atol, max_steps, solver, adjoint)
    return jnp.where(_rows(alive & ok, x.ndim), end, jnp.nan)


def transport(
    field: Field,
    x: Shaped[Array, "n ..."],
    t0: float,
    t1: float,
    *,
    args: tuple[Any, ...] = (),
    probes: Float[Array, "k rows ..."] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
    solver: str = "dopri5",
    adjoint: str = "direct",
) -> tuple[Float[Array, "n ..."], Float[Array, "..."]]:
    r"""The state at t1 as `integrate` gives it, and the change of volume on the way.

    .. math:: \log \left| \det \frac{\partial x_{t_1}}{\partial x_{t_0}} \right|
        = \int_{t_0}^{t_1} \operatorname{div} f(t, x_t)\, dt, \quad
        \log p_{t_1}(x_{t_1}) = \log p_{t_0}(x_{t_0}) - \int_{t_0}^{t_1} \operatorname{div} f(t, x_t)\, dt

    Args:
        field: as `integrate`.
        x: as `integrate`.
        t0: as `integrate`.
        t1: as `integrate`.
        args: as `integrate`.
        probes: as `divergence`; held over the solve.
        rtol: as `integrate`, of the integral too.
        atol: as `integrate`, of the integral too.
        max_steps: as `integrate`.
        solver: as `integrate`.
        adjoint: as `integrate`.

    Returns:
        The state (n, *event), and the integral: (n,) exact, or (k, n) one unbiased estimate a probe, which `average`
        makes a mean and a standard error. NaN as `integrate`.

    Raises:
        ValueError: as `integrate`, or probes of another shape.

    Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud 2019, FFJORD.
    """
    _check(x, t0, t1, rtol, atol, max_steps, solver, adjoint)
    if probes is not None:
        check_probes(probes.shape, x.shape)
    alive, start = _finite(x)
    state = start, jnp.zeros((len(x), 1 if probes is None else len(probes)), x.dtype)
    moving = _Moving(field, probes is not None)
    extra = args if probes is None else (probes, *args)
    (end, volume), ok = _solve(moving, state, t0, t1, extra, rtol, atol, max_steps, solver, adjoint)
    alive = alive & ok
    volume = jnp.where(alive, volume.T, jnp.nan)
    return jnp.where(_rows(alive, x.ndim), end, jnp.nan), volume[0] if probes is None else volume


class _Plain(eqx.Module):
    """A field on a state of one part."""

    field: Any

    def __call__(self, t: Array, state: tuple[Array], args: tuple[Any, ...]) -> tuple[Array]:
        value = self.field(t, state[0], *args)
        check_field(value.shape, state[0].shape)
        return (value.astype(state[0].dtype),)


class _Moving(eqx.Module):
    """A field beside its divergence; its probes are the first of its args."""

    field: Any
    probed: bool = eqx.field(static=True)

    def __call__(self, t: Array, state: tuple[Array, Array], args: tuple[Any, ...]) -> tuple[Array, Array]:
        probes, rest = (args[0], args[1:]) if self.probed else (None, args)
        value, traces = divergence(self.field, t, state[0], *rest, probes=probes)
        return value.astype(state[0].dtype), traces.reshape(-1, len(value)).T.astype(state[1].dtype)


class _Within(eqx.Module):
    """A field that is not asked outside of an interval, where a solver tries its first step."""

    field: Any
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __call__(self, t: Any, state: PyTree, args: Any) -> PyTree:
        return self.field(jnp.clip(jnp.asarray(t), self.low, self.high), state, args)


def _library() -> Any:
    """Diffrax, imported where something is solved: it takes half as long as NumPyro itself."""
    with jax.ensure_compile_time_eval():
        import diffrax
    return diffrax


def _solve(
    field: Any,
    state: Any,
    t0: float,
    t1: float,
    args: tuple[Any, ...],
    rtol: float,
    atol: float,
    max_steps: int,
    solver: str,
    adjoint: str,
) -> tuple[Any, Array]:
    """The state's parts at t1, and whether the solve came to its end."""
    if adjoint == "backsolve":
        field, args = _of_arrays(field, args)
    diffrax = _library()
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(_Within(field, min(t0, t1), max(t0, t1))),
        getattr(diffrax, SOLVER_OF[solver])(),
        jnp.asarray(t0, state[0].dtype),
        jnp.asarray(t1, state[0].dtype),
        None,
        state,
        args,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.PIDController(rtol, atol, norm=_norm),
        adjoint=_ADJOINT[adjoint](rtol, atol),
        max_steps=max_steps,
        throw=False,
    )
    return jax.tree.map(lambda part: part[0], found.ys), found.result == diffrax.RESULTS.successful


def _of_arrays(field: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """The field as a function of its arrays: diffrax solves backwards for a field of arrays alone."""
    arrays, fixed = eqx.partition(field, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    def velocity(t: Any, state: PyTree, args: Any) -> PyTree:
        return eqx.combine(jax.tree.unflatten(structure, args[0]), fixed)(t, state, args[1])

    return velocity, (leaves, args)


def _norm(state: Any) -> Array:
    return largest_row(*lax.stop_gradient(state))


def _adjoint_norm(state: Any) -> Array:
    return jnp.maximum(_norm(state[0]), _norm(state[1]))


def _direct(rtol: float, atol: float) -> Any:
    return _library().RecursiveCheckpointAdjoint()


def _backsolve(rtol: float, atol: float) -> Any:
    diffrax = _library()
    controller = diffrax.PIDController(rtol, atol, norm=_adjoint_norm)
    return diffrax.BacksolveAdjoint(stepsize_controller=controller)


_ADJOINT = {"direct": _direct, "backsolve": _backsolve}


def _check(x: Array, t0: float, t1: float, rtol: float, atol: float, max_steps: int, solver: str, adjoint: str) -> None:
    floating = bool(jnp.issubdtype(x.dtype, jnp.floating))
    check_solve(x.shape, floating, t0, t1, rtol=rtol, atol=atol, max_steps=max_steps, solver=solver, adjoint=adjoint)


def _finite(x: Array) -> tuple[Array, Array]:
    """Which rows are finite, and the state with zeros for the others, which would halt the solve of all."""
    alive = jnp.isfinite(x).reshape(len(x), -1).all(1)
    return alive, jnp.where(_rows(alive, x.ndim), x, 0.0)


def _rows(alive: Array, ndim: int) -> Array:
    return alive.reshape(-1, *(1,) * (ndim - 1))
