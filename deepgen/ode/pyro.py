"""Solves of ordinary differential equations in torch, by torchdiffeq."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepgen.ode.arguments import check_field, check_probes, check_solve
from deepgen.ode.divergence import average, basis, contract
from deepgen.ode.norm import largest_row

__all__ = ["average", "divergence", "integrate", "transport"]

Field = Callable[..., Tensor]
GIVEN_UP = ("max_num_steps exceeded", "underflow in dt", "non-finite values in state")
"""How the messages begin with which torchdiffeq gives a solve up."""
LAST_IS_SOLUTION = ("dopri5", "bosh3")
"""Methods whose last look at the field is at their solution; the interpolation there costs float32 a digit."""


def divergence(
    field: Field, t: Any, x: Float[Tensor, "n ..."], *args: Tensor, probes: Float[Tensor, "k rows ..."] | None = None
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "..."]]:
    r"""The field and its divergence, by vector-Jacobian products.

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
        check_probes(tuple(probes.shape), tuple(x.shape))
    training = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = x if training and x.requires_grad else x.detach().requires_grad_()
        value = field(t, inputs, *args)
        check_field(tuple(value.shape), tuple(x.shape))
        directions = basis(inputs.detach()) if probes is None else probes.detach()
        traces = contract(directions, _products(value, inputs, directions, training))
    traces = traces.sum(0) if probes is None else traces
    return (value, traces) if training else (value.detach(), traces.detach())


def integrate(
    field: Field,
    x: Shaped[Tensor, "n ..."],
    t0: float,
    t1: float,
    *,
    args: tuple[Any, ...] = (),
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
    solver: str = "dopri5",
    adjoint: str = "direct",
) -> Float[Tensor, "n ..."]:
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
        TypeError: ``"backsolve"`` of a field that is no module, whose parameters would get no gradient.

    Dormand & Prince 1980, A family of embedded Runge-Kutta formulae; Chen, Rubanova, Bettencourt & Duvenaud 2018,
    Neural ordinary differential equations.
    """
    _check(field, x, t0, t1, rtol, atol, max_steps, solver, adjoint)
    alive, start = _finite(x)

    def velocity(t: Tensor, state: tuple[Tensor]) -> tuple[Tensor]:
        value = field(t, state[0], *args)
        check_field(tuple(value.shape), tuple(x.shape))
        return (value,)

    found = _solve(velocity, (start,), t0, t1, _trained(field, args), rtol, atol, max_steps, solver, adjoint)
    return torch.where(_rows(alive, x.ndim), found[0], torch.nan)


def transport(
    field: Field,
    x: Shaped[Tensor, "n ..."],
    t0: float,
    t1: float,
    *,
    args: tuple[Any, ...] = (),
    probes: Float[Tensor, "k rows ..."] | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_steps: int = 1000,
    solver: str = "dopri5",
    adjoint: str = "direct",
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "..."]]:
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
        TypeError: as `integrate`.

    Grathwohl, Chen, Bettencourt, Sutskever & Duvenaud 2019, FFJORD.
    """
    _check(field, x, t0, t1, rtol, atol, max_steps, solver, adjoint)
    if probes is not None:
        check_probes(tuple(probes.shape), tuple(x.shape))
    alive, start = _finite(x)
    state = start, x.new_zeros((len(x), 1 if probes is None else len(probes)))

    def velocity(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        value, traces = divergence(field, t, state[0], *args, probes=probes)
        return value, traces.reshape(-1, len(x)).T

    end, volume = _solve(velocity, state, t0, t1, _trained(field, args), rtol, atol, max_steps, solver, adjoint)
    volume = torch.where(alive, volume.T, torch.nan)
    return torch.where(_rows(alive, x.ndim), end, torch.nan), volume[0] if probes is None else volume


def _products(value: Tensor, inputs: Tensor, directions: Tensor, training: bool) -> Tensor:
    """J'v of each direction; zero where the field does not look at its inputs."""
    if not value.requires_grad:
        return torch.zeros_like(directions)
    found = torch.autograd.grad(
        value, inputs, directions, is_grads_batched=True, create_graph=training, materialize_grads=True
    )
    return found[0]


def _solve(
    velocity: Any,
    state: Any,
    t0: float,
    t1: float,
    trained: tuple[Tensor, ...],
    rtol: float,
    atol: float,
    max_steps: int,
    solver: str,
    adjoint: str,
) -> Any:
    """The state's parts at t1; all NaN where the solve was given up."""
    import torchdiffeq  # here: it takes longer to import than all of this library

    low, high = min(t0, t1), max(t0, t1)
    options = {"norm": lambda parts: largest_row(*parts), "max_num_steps": max_steps}
    # a step ends at t1 itself: torchdiffeq would go beyond and interpolate
    times = torch.tensor([t0, t1], dtype=torch.float64, device=state[0].device)
    forward, backward = ({**options, "step_t": times[i : i + 1]} for i in (1, 0))
    common = {"rtol": rtol, "atol": atol, "method": solver, "options": forward}

    looked: list[Any] = []

    def within(t: Tensor, parts: Any) -> Any:
        looked[:] = [parts]
        return velocity(t.clamp(low, high), parts)

    try:
        if adjoint == "direct":
            found = torchdiffeq.odeint(within, state, times, **common)
            return tuple(looked[0]) if solver in LAST_IS_SOLUTION else tuple(part[-1] for part in found)
        reverse = {**backward, "norm": "seminorm"}
        found = torchdiffeq.odeint_adjoint(
            within, state, times, **common, adjoint_params=trained, adjoint_options=reverse
        )
    except AssertionError as error:
        if not str(error).startswith(GIVEN_UP):
            raise
        return tuple(part * torch.nan for part in state)
    return tuple(part[-1] for part in found)


def _trained(field: Field, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """What a second equation takes gradients of, beside the state."""
    own = tuple(field.parameters()) if isinstance(field, torch.nn.Module) else ()
    return tuple(p for p in (*own, *args) if isinstance(p, Tensor) and p.requires_grad)


def _check(
    field: Field, x: Tensor, t0: float, t1: float, rtol: float, atol: float, max_steps: int, solver: str, adjoint: str
) -> None:
    check_solve(
        tuple(x.shape),
        x.is_floating_point(),
        t0,
        t1,
        rtol=rtol,
        atol=atol,
        max_steps=max_steps,
        solver=solver,
        adjoint=adjoint,
    )
    if adjoint == "backsolve" and not isinstance(field, torch.nn.Module):
        raise TypeError(
            f"field: got a {type(field).__name__}; expected a torch.nn.Module, whose parameters adjoint='backsolve' "
            "can find. Make it a module, or choose adjoint='direct'."
        )


def _finite(x: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are finite, and the state with zeros for the others, which would halt the solve of all."""
    alive = torch.isfinite(x).reshape(len(x), -1).all(1)
    return alive, torch.where(_rows(alive, x.ndim), x, 0.0)


def _rows(alive: Tensor, ndim: int) -> Tensor:
    return alive.reshape(-1, *(1,) * (ndim - 1))
