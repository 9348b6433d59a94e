"""Solves of ODEs: linear fields against the matrix exponential, divergences, tolerances, gradients, refusals."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, NUMPYRO
from scipy.linalg import expm

import deepgen.ode.numpyro
import deepgen.ode.pyro
from deepgen.ode.divergence import average

ROOMS = {"numpyro": deepgen.ode.numpyro, "pyro": deepgen.ode.pyro}
RNG = np.random.default_rng(0)
MATRIX = (0.7 * RNG.standard_normal((4, 4))).astype(np.float32)
X = RNG.standard_normal((6, 2, 2)).astype(np.float32)
PROBES = RNG.choice([-1.0, 1.0], size=(5, 6, 2, 2)).astype(np.float32)
TIGHT = {"rtol": 1e-6, "atol": 1e-6}
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)


def linear(t: Any, x: Any, matrix: Any) -> Any:
    """dx/dt = A x of the flattened event."""
    return (x.reshape(len(x), -1) @ matrix.T).reshape(x.shape)


def numbers(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def moved(matrix: np.ndarray, x: np.ndarray, time: float) -> np.ndarray:
    return (x.reshape(len(x), -1) @ expm(time * matrix.astype(float)).T).reshape(x.shape)


def run(engine: Any, verb: str, t0: float, t1: float, x: np.ndarray = X, **kwargs: Any) -> Any:
    kwargs = {name: engine.array(value) if name == "probes" else value for name, value in kwargs.items()}
    room = ROOMS[engine.name]
    return getattr(room, verb)(linear, engine.array(x), t0, t1, args=(engine.array(MATRIX),), **kwargs)


@each_engine
@pytest.mark.parametrize(
    ("solver", "t0", "t1"),
    [("dopri5", 0.0, 1.0), ("dopri5", 1.0, 0.2), ("dopri8", 1.5, -0.5), ("bosh3", 0.0, 1.0), ("bosh3", 1.0, 0.2)],
)
def test_linear_fields_are_solved(engine: Any, solver: str, t0: float, t1: float) -> None:
    truth, volume = moved(MATRIX, X, t1 - t0), (t1 - t0) * np.trace(MATRIX)
    scale = np.abs(truth).max()
    np.testing.assert_allclose(
        numbers(run(engine, "integrate", t0, t1, solver=solver, **TIGHT)), truth, atol=3e-5 * scale
    )
    end, change = run(engine, "transport", t0, t1, solver=solver, **TIGHT)
    np.testing.assert_allclose(numbers(end), truth, atol=3e-5 * scale)
    assert change.shape == (6,)
    np.testing.assert_allclose(numbers(change), volume, atol=1e-5)
    assert np.abs(numbers(change) + volume).max() > 0.5  # the wrong sign


@each_engine
def test_probes_give_one_estimate_each(engine: Any) -> None:
    flat = PROBES.reshape(5, 6, 4)
    truth = np.einsum("kni,ij,knj->kn", flat, MATRIX, flat)
    end, change = run(engine, "transport", 0.0, 1.0, probes=PROBES, **TIGHT)
    np.testing.assert_allclose(numbers(end), moved(MATRIX, X, 1.0), atol=1e-4)
    np.testing.assert_allclose(numbers(change), truth, atol=1e-5)
    value, traces = ROOMS[engine.name].divergence(
        linear, 0.0, engine.array(X), engine.array(MATRIX), probes=engine.array(PROBES)
    )
    np.testing.assert_allclose(numbers(traces), truth, atol=1e-5)
    np.testing.assert_allclose(numbers(value), numbers(linear(0.0, engine.array(X), engine.array(MATRIX))))


@each_engine
@pytest.mark.parametrize("law", ["signs", "normals"])
def test_probes_are_unbiased_and_their_error_is_said(engine: Any, law: str) -> None:
    """Over 4,000 probes each row's mean is the trace by its standard error, at 5 of them (below 1e-5 a run)."""
    rng = np.random.default_rng(3)
    shape = (4000, 6, 2, 2)
    probes = (rng.choice([-1.0, 1.0], size=shape) if law == "signs" else rng.standard_normal(shape)).astype(np.float32)
    _, traces = ROOMS[engine.name].divergence(
        linear, 0.0, engine.array(X), engine.array(MATRIX), probes=engine.array(probes)
    )
    mean, error = (numbers(part) for part in average(traces))
    symmetric = (MATRIX + MATRIX.T).astype(float) / 2
    off = symmetric - np.diag(np.diag(symmetric))
    variance = 2 * ((off if law == "signs" else symmetric) ** 2).sum()
    np.testing.assert_allclose(error, np.sqrt(variance / 4000), rtol=0.1)
    assert (np.abs(mean - np.trace(MATRIX)) < 5 * error).all()
    assert (np.abs(mean - np.trace(MATRIX) - 0.5) > 5 * error).any()
    assert (np.abs(mean / 2 - np.trace(MATRIX)) > 5 * error).any()  # probes of another variance


def test_averages_say_what_they_know() -> None:
    exact = np.array([1.0, 2.0])
    mean, error = average(exact)
    np.testing.assert_array_equal(mean, exact)
    assert not error.any()
    mean, error = average(np.array([[1.0], [3.0]]))
    assert (mean[0], error[0]) == (2.0, 1.0)
    assert np.isnan(average(np.array([[1.0]]))[1]).all()


@each_engine
def test_errors_follow_the_tolerance(engine: Any) -> None:
    """In float64 the error falls with the tolerance, at least as its power 0.7, down to 1e-9."""
    tolerances = [1e-3, 1e-5, 1e-7, 1e-9]

    def errors() -> list[float]:
        a, x = (engine.array(value.astype(np.float64)) for value in (MATRIX, X))
        room, found = ROOMS[engine.name], []
        for tolerance in tolerances:
            swaying = lambda t, x, a: (1 + t) * linear(t, x, a)  # noqa: E731
            end = room.integrate(swaying, x, 0.0, 1.0, args=(a,), rtol=tolerance, atol=tolerance)
            found.append(float(np.abs(numbers(end) - moved(MATRIX, X.astype(float), 1.5)).max()))
        return found

    if engine is NUMPYRO:
        with jax.enable_x64(True):
            found = errors()
        jax.clear_caches()
    else:
        found = errors()
    slope = np.polyfit(np.log(tolerances), np.log(found), 1)[0]
    assert slope > 0.7
    assert found[-1] < 1e-8
    assert found[0] > 100 * found[-1]  # a tolerance that is ignored


class Scaled(eqx.Module):
    """A field with a parameter."""

    weight: jax.Array

    def __call__(self, t: Any, x: jax.Array, shift: jax.Array) -> jax.Array:
        return jnp.tanh(x @ self.weight.T + shift) * (1 + t)


class TorchScaled(torch.nn.Module):
    """The same."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.as_tensor(weight))

    def forward(self, t: Any, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.weight.T + shift) * (1 + t)


def gradients(engine: Any, adjoint: str, probes: np.ndarray | None) -> list[np.ndarray]:
    """Of end and change of volume: by the field's weight, the start and what else the field takes."""
    x, shift = X.reshape(6, 4), np.linspace(-1, 1, 4, dtype=np.float32)
    held = None if probes is None else engine.array(probes.reshape(-1, 6, 4))
    kwargs = {"adjoint": adjoint, "probes": held, **TIGHT}

    def loss(field: Any, x: Any, shift: Any) -> Any:
        end, change = ROOMS[engine.name].transport(field, x, 0.0, 1.0, args=(shift,), **kwargs)
        return (end**2).sum() + 3 * change.sum()

    if engine is NUMPYRO:
        found = jax.jit(jax.grad(loss, (0, 1, 2)))(Scaled(jnp.asarray(MATRIX)), jnp.asarray(x), jnp.asarray(shift))
        return [np.asarray(part) for part in jax.tree.leaves(found)]
    field, parts = TorchScaled(MATRIX), [torch.as_tensor(v).requires_grad_() for v in (x, shift)]
    return [numbers(g) for g in torch.autograd.grad(loss(field, *parts), [field.weight, *parts])]


@pytest.mark.parametrize("probes", [None, PROBES[:2]], ids=["exact", "probes"])
def test_gradients_agree_between_adjoints_and_engines(probes: np.ndarray | None) -> None:
    first, *others = (gradients(engine, adjoint, probes) for engine in ENGINES for adjoint in ("direct", "backsolve"))
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(one, two, atol=2e-4 * np.abs(one).max())
    assert np.abs(first[0]).max() > 0.1


def test_gradients_are_those_of_differences() -> None:
    """In float64, by the start and along one direction."""
    with jax.enable_x64(True):
        x, field = jnp.asarray(X.reshape(6, 4), jnp.float64), Scaled(jnp.asarray(MATRIX, jnp.float64))

        @jax.jit
        def loss(x: jax.Array) -> jax.Array:
            end, change = deepgen.ode.numpyro.transport(
                field, x, 0.0, 1.0, args=(jnp.zeros(4),), rtol=1e-10, atol=1e-10
            )
            return (end**2).sum() + 3 * change.sum()

        direction = jnp.asarray(PROBES[0].reshape(6, 4), jnp.float64)
        slope = (loss(x + 1e-4 * direction) - loss(x - 1e-4 * direction)) / 2e-4
        stated = (jax.grad(loss)(x) * direction).sum()
        np.testing.assert_allclose(stated, slope, rtol=1e-5)
    jax.clear_caches()


@each_engine
def test_a_solve_that_is_given_up_is_nan(engine: Any) -> None:
    blowing: Callable[..., Any] = lambda t, x: x**2  # noqa: E731
    room, up = ROOMS[engine.name], engine.array(np.array([[1.0], [-1.0]], np.float32))
    assert np.isnan(numbers(room.integrate(blowing, up, 0.0, 2.0, max_steps=100))).all()
    assert np.isnan(numbers(room.transport(blowing, up, 0.0, 2.0, max_steps=100)[1])).all()
    holes = engine.array(np.array([[np.nan], [-1.0]], np.float32))
    end, change = (numbers(part) for part in room.transport(blowing, holes, 0.0, 2.0, **TIGHT))
    assert np.isnan(end[0]).all()
    assert np.isnan(change[0])
    np.testing.assert_allclose(end[1], -1 / 3, atol=1e-5)
    np.testing.assert_allclose(change[1], -2 * np.log(3), atol=1e-5)


@each_engine
def test_a_field_is_not_asked_beyond_its_interval(engine: Any) -> None:
    """The square root of time left is NaN beyond; x' = -sqrt(1 - t) ends at -2/3."""
    start = engine.array(np.zeros((2, 1), np.float32))
    for t0, t1 in ((0.0, 1.0), (1.0, 0.0)):
        end = ROOMS[engine.name].integrate(lambda t, x: 0 * x - (1 - t) ** 0.5, start, t0, t1)
        np.testing.assert_allclose(numbers(end), -2 / 3 * (t1 - t0), atol=1e-3)


@each_engine
def test_a_row_does_not_hide_among_many(engine: Any) -> None:
    """One fast row among 200 that stand still meets the tolerance too."""
    rates = np.zeros((201, 1), np.float32)
    rates[0] = 6.0
    field = lambda t, x, rate: rate * x  # noqa: E731
    end = ROOMS[engine.name].integrate(
        field, engine.array(np.ones((201, 1), np.float32)), 0.0, 1.0, args=(engine.array(rates),), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(numbers(end)[0], np.exp(6.0), rtol=1e-3)


@each_engine
def test_a_field_that_does_not_move_or_look(engine: Any) -> None:
    room, x = ROOMS[engine.name], engine.array(X)
    for value in (0.0, 2.0):

        def constant(t: Any, x: Any, value: float = value) -> Any:
            return jnp.full_like(x, value) if engine is NUMPYRO else torch.full_like(x, value)

        end, change = room.transport(constant, x, 0.0, 1.0)
        np.testing.assert_allclose(numbers(end), X + value, atol=1e-5)
        assert not numbers(change).any()


def test_torch_keeps_no_graph_where_none_is_wanted() -> None:
    matrix = torch.as_tensor(MATRIX).requires_grad_()
    with torch.no_grad():
        end, change = deepgen.ode.pyro.transport(linear, torch.as_tensor(X), 0.0, 1.0, args=(matrix,))
    assert not end.requires_grad
    assert not change.requires_grad


@each_engine
def test_refusals(engine: Any) -> None:
    room, x = ROOMS[engine.name], engine.array(X)
    wrong = [
        ({"t1": 0.0}, "t0 and t1: got 0.0 and 0.0"),
        ({"t1": np.inf}, "t0 and t1: got"),
        ({"rtol": 0.0}, "rtol: got 0"),
        ({"atol": -1.0}, "atol: got -1"),
        ({"max_steps": 0}, "max_steps: got 0"),
        ({"solver": "euler"}, "solver: got 'euler'"),
        ({"adjoint": "none"}, "adjoint: got 'none'"),
        ({"x": engine.array(np.zeros((0, 2), np.float32))}, r"x: got shape \(0, 2\)"),
        ({"x": engine.array(np.zeros((3, 2), np.int32))}, "x: got a dtype"),
        ({"field": lambda t, x: x.sum()}, r"field: got a result of shape \(\)"),
        ({"probes": engine.array(PROBES[:, :2])}, "probes: got shape"),
    ]
    for changed, match in wrong:
        options = {"field": lambda t, x: x, "x": x, "t0": 0.0, "t1": 1.0} | changed
        for verb in ("integrate", "transport") if "probes" not in changed else ("transport",):
            with pytest.raises(ValueError, match=match):
                getattr(room, verb)(**options)


def test_a_field_without_parameters_to_find_is_refused() -> None:
    with pytest.raises(TypeError, match="field: got a function"):
        deepgen.ode.pyro.integrate(lambda t, x: x, torch.as_tensor(X), 0.0, 1.0, adjoint="backsolve")
