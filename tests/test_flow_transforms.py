"""Every transform at random parameters: Jacobian, inverse, parity, gradients, contexts; in float64 and float32."""

from collections.abc import Callable
from functools import cache
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions
import pyro.distributions
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO

from deepgen.nn.equinox import load_state_dict

D, C, ROWS = 5, 2, 6
MASK = [True, False, True, True, False]
MAKERS: dict[str, Callable[[Any, Any], Any]] = {
    "additive": lambda dg, kw: dg.AdditiveCoupling.mlp(MASK, hidden=(7,), **kw),
    "affine": lambda dg, kw: dg.AffineCoupling.mlp([False, False, True, True, True], hidden=(7,), **kw),
    "spline": lambda dg, kw: dg.SplineCoupling.mlp([True, True, False, False, False], num_bins=4, hidden=(7,), **kw),
    "maf": lambda dg, kw: dg.AffineAutoregressive.mlp(D, hidden=(7,), **kw),
    "iaf": lambda dg, kw: dg.AffineAutoregressive.mlp(D, parallel="forward", order=[2, 0, 4, 3, 1], hidden=(7,), **kw),
    "spline-maf": lambda dg, kw: dg.SplineAutoregressive.mlp(D, num_bins=4, hidden=(7, 7), **kw),
    "spline-iaf": lambda dg, kw: dg.SplineAutoregressive.mlp(D, parallel="forward", num_bins=4, hidden=(7,), **kw),
    "actnorm": lambda dg, kw: dg.ActNorm(D, **_without_key(kw)),
    "lu": lambda dg, kw: dg.LULinear(D, **_without_key(kw)),
    "cnf": lambda dg, kw: dg.CNF.mlp(D, hidden=(7,), **_tolerances(), **kw),
    "permute": lambda dg, _: dg.Permute([3, 0, 4, 1, 2]),
    "logit": lambda dg, _: dg.Logit(0.05),
    "unflatten": lambda dg, _: dg.Unflatten((1, D)),
    "additive-2d": lambda dg, kw: dg.AdditiveCoupling2d.conv(IMAGE, hidden=(5, 5), **kw),
    "affine-2d": lambda dg, kw: dg.AffineCoupling2d.conv(IMAGE, flip=True, hidden=(5,), **kw),
    "checkerboard": lambda dg, kw: dg.AffineCoupling2d.conv(IMAGE, pattern="checkerboard", hidden=(5,), **kw),
    "seen-image": lambda dg, kw: dg.AffineCoupling2d.conv(
        IMAGE, pattern="checkerboard", flip=True, hidden=(5,), **{"context_dim": 8, **kw}, context_image=True
    ),
    "actnorm-2d": lambda dg, kw: dg.ActNorm2d(IMAGE[0], **_without_key(kw)),
    "conv1x1": lambda dg, kw: dg.InvertibleConv1x1(IMAGE[0], permutation=[2, 0, 1], **_without_key(kw)),
    "conv1x1-plain": lambda dg, kw: dg.InvertibleConv1x1(IMAGE[0], **_without_key(kw)),
    "squeeze": lambda dg, _: dg.Squeeze(),
    "split": lambda dg, kw: dg.Split([dg.Unflatten(HALF), dg.ActNorm2d(2, **_without_key(kw)), _scale(dg, kw)], IMAGE),
    "logit-2d": lambda dg, _: dg.Logit(0.05, axes=3),
}
IMAGE, HALF = (3, 4, 2), (2, 4, 2)
EVENTS = {
    **dict.fromkeys(MAKERS, (D,)),
    **dict.fromkeys(tuple(MAKERS)[13:], IMAGE),
    "squeeze": (8, 2, 1),
    "split": (24,),
}
CONTEXTS = {**dict.fromkeys(MAKERS, C), "seen-image": 8}
IMAGES_WITH_CONTEXT = ("additive-2d", "affine-2d", "checkerboard", "seen-image", "actnorm-2d", "conv1x1-plain", "split")
WITH_CONTEXT = (*tuple(MAKERS)[:10], *IMAGES_WITH_CONTEXT)
TOLD = (
    "affine",
    "spline",
    "iaf",
    "actnorm",
    "lu",
    "cnf",
    "affine-2d",
    "checkerboard",
    "actnorm-2d",
    "conv1x1",
    "split",
)
CASES = [(name, 0) for name in MAKERS if name != "seen-image"] + [(name, C) for name in TOLD] + [("seen-image", 8)]
IDENTITY = WITH_CONTEXT[:-1]
VOLUME_KEPT = ("additive", "permute", "unflatten", "additive-2d", "squeeze")


def _scale(dg: Any, kw: dict[str, Any]) -> Any:
    """A coupling of what goes on, so that a split has more than shapes inside."""
    return dg.AffineCoupling2d.conv(HALF, pattern="checkerboard", hidden=(5,), **kw)


def _tolerances() -> dict[str, float]:
    """What the precision of the moment allows a solve."""
    double = jnp.result_type(float) == jnp.float64 or torch.get_default_dtype() == torch.float64
    return dict.fromkeys(("rtol", "atol"), 1e-10 if double else 1e-5)


def _without_key(kw: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kw.items() if name != "key"}


def tensors(name: str, context_dim: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = {k: v.shape for k, v in make(PYRO, name, context_dim).state_dict().items()}
    return {key: 0.6 * rng.standard_normal(tuple(shape)) for key, shape in shapes.items()}


def make(engine: Any, name: str, context_dim: int) -> Any:
    kw: dict[str, Any] = {"context_dim": context_dim} if context_dim else {}
    kw |= {"key": jax.random.key(0)} if engine is NUMPYRO else {}
    return MAKERS[name](engine.face, kw)


def moved(engine: Any, name: str, context_dim: int) -> Any:
    """The transform at random parameters, in the precision of the moment."""
    transform, values = make(engine, name, context_dim), tensors(name, context_dim)
    if engine is NUMPYRO:
        return load_state_dict(transform, values)
    transform.load_state_dict({key: torch.as_tensor(value) for key, value in values.items()})
    return transform.to(torch.get_default_dtype())


def rows(name: str, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    x, context = rng.standard_normal((ROWS, *EVENTS[name])), rng.standard_normal((ROWS, CONTEXTS[name]))
    return 1.3 * x.astype(dtype), context.astype(dtype)


def in_jax(name: str, context_dim: int) -> dict[str, np.ndarray]:
    transform = moved(NUMPYRO, name, context_dim)
    x, context = (jnp.asarray(part) for part in rows(name))

    @eqx.filter_jit
    def found(transform: Any, x: Any, context: Any) -> dict[str, Any]:
        given = transform.condition(context if context_dim else None)
        y, log_det = given.forward_and_log_det(x)
        back, log_inverse = given.inverse_and_log_det(y)

        def one(v: Any, c: Any) -> Any:
            return transform.condition(c if context_dim else None)(v.reshape(x.shape[1:])).reshape(-1)

        jacobian = jax.vmap(jax.jacrev(one))(x.reshape(ROWS, -1), context)

        def density(transform: Any) -> Any:
            z, log_det = transform.condition(context if context_dim else None).inverse_and_log_det(y)
            return log_det.sum() - 0.5 * (z**2).sum()

        gradient = jax.tree.leaves(eqx.filter_grad(density)(transform))
        return {
            "y": y,
            "log_det": log_det,
            "back": back,
            "log_inverse": log_inverse,
            "jacobian": jacobian,
            "stated": given.log_abs_det_jacobian(x, y),
            "gradient": jnp.concatenate([leaf.reshape(-1) for leaf in gradient]) if gradient else jnp.zeros(0),
        }

    return {key: np.asarray(value) for key, value in found(transform, x, context).items()}


def in_torch(name: str, context_dim: int) -> dict[str, np.ndarray]:
    transform = moved(PYRO, name, context_dim)
    x, context = (torch.as_tensor(part) for part in rows(name))
    given = transform.condition(context if context_dim else None)
    y, log_det = given.forward_and_log_det(x)
    y = y.detach()
    back, log_inverse = given.inverse_and_log_det(y)
    jacobian = []
    for v, c in zip(x, context, strict=True):
        one = transform.condition(c if context_dim else None)
        flat: Any = lambda v, one=one: one(v.reshape(x.shape[1:])).reshape(-1)  # noqa: E731
        jacobian.append(torch.autograd.functional.jacobian(flat, v.reshape(-1)))
    params = list(transform.parameters())
    gradient = [torch.zeros(0)]
    if params:
        density = (log_inverse - 0.5 * (back.reshape(ROWS, -1) ** 2).sum(-1)).sum()
        gradient = [
            torch.zeros_like(param) if grad is None else grad
            for param, grad in zip(params, torch.autograd.grad(density, params, allow_unused=True), strict=True)
        ]
    found = {
        "y": y,
        "log_det": log_det,
        "back": back,
        "log_inverse": log_inverse,
        "jacobian": torch.stack(jacobian),
        "stated": given.log_abs_det_jacobian(x, y),
        "gradient": torch.cat([part.reshape(-1) for part in gradient]),
    }
    return {key: value.detach().numpy() for key, value in found.items()}


@cache
def numbers(engine: Any, name: str, context_dim: int) -> dict[str, np.ndarray]:
    """Everything in float64."""
    if engine is NUMPYRO:
        with jax.enable_x64(True):
            found = in_jax(name, context_dim)
        # what was traced from NumPy's int64 indices in float64 is not to be found again in float32
        jax.clear_caches()
        return found
    torch.set_default_dtype(torch.float64)
    try:
        return in_torch(name, context_dim)
    finally:
        torch.set_default_dtype(torch.float32)


def worst_log_det(found: dict[str, np.ndarray], factor: float = 1.0) -> float:
    """The largest error of a log-Jacobian against automatic differentiation."""
    truth = np.linalg.slogdet(found["jacobian"])[1]
    stated = [found["log_det"], found["stated"], -found["log_inverse"]]
    return max(float(np.abs(factor * value - truth).max()) for value in stated)


def each(cases: Any = CASES) -> Any:
    return pytest.mark.parametrize(("name", "context_dim"), [pytest.param(*c, id=f"{c[0]}-{c[1]}") for c in cases])


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@each()
def test_log_jacobians_are_those_of_autodiff(engine: Any, name: str, context_dim: int) -> None:
    found = numbers(engine, name, context_dim)
    assert found["y"].dtype == np.float64
    assert worst_log_det(found) < 1e-8
    if name not in VOLUME_KEPT:
        assert worst_log_det(found, 0.0) > 1e-2  # left out
        assert worst_log_det(found, -1.0) > 1e-2  # the wrong sign


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@each()
def test_transforms_are_inverted(engine: Any, name: str, context_dim: int) -> None:
    found = numbers(engine, name, context_dim)
    x, _ = rows(name)
    np.testing.assert_allclose(found["back"], x, atol=1e-9)
    assert np.abs(found["y"].reshape(x.shape) - x).max() > 0.05 or name == "unflatten"


@each()
def test_engines_agree(name: str, context_dim: int) -> None:
    first, second = (numbers(engine, name, context_dim) for engine in ENGINES)
    for key in second:
        np.testing.assert_allclose(first[key], second[key], atol=1e-8, rtol=1e-8, err_msg=key)


def test_splines_have_a_forward_mode() -> None:
    with jax.enable_x64(True):
        transform = moved(NUMPYRO, "spline", 0)
        x = jnp.asarray(rows("spline")[0][0])
        np.testing.assert_allclose(jax.jacfwd(transform)(x), jax.jacrev(transform)(x), atol=1e-10)
    jax.clear_caches()


@each([case for case in CASES if case[0] in IDENTITY])
def test_a_faulty_parameter_shows_between_engines(name: str, context_dim: int) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        transform = moved(PYRO, name, context_dim)
        with torch.no_grad():
            list(transform.parameters())[-1].mul_(1.01)
        x, context = (torch.as_tensor(part) for part in rows(name))
        y = transform.condition(context if context_dim else None)(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.abs(y.detach().numpy() - numbers(NUMPYRO, name, context_dim)["y"]).max() > 1e-6


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@each([case for case in CASES if not case[1]])
def test_float32_is_inverted(engine: Any, name: str, context_dim: int) -> None:
    x, _ = rows(name, np.float32)
    transform = moved(engine, name, context_dim)
    y = transform(engine.array(x))
    back = engine_numpy(transform.inv(engine.array(engine_numpy(y))))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, x, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("name", IDENTITY)
def test_the_first_parameters_are_the_identity(engine: Any, name: str) -> None:
    x, context = rows(name, np.float32)
    context_dim = CONTEXTS[name] if name in WITH_CONTEXT else 0
    context = context if context_dim else None
    y = make(engine, name, context_dim).condition(None if context is None else engine.array(context))(engine.array(x))
    np.testing.assert_allclose(engine_numpy(y), x, atol=2e-6)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("name", WITH_CONTEXT)
def test_the_context_counts(engine: Any, name: str) -> None:
    transform = moved(engine, name, CONTEXTS[name])
    x, context = (engine.array(part) for part in rows(name, np.float32))
    first, second = (engine_numpy(transform.condition(c)(x)) for c in (context, context + 1))
    assert np.abs(first - second).max() > 1e-2
    with pytest.raises(ValueError, match="context: got none"):
        transform(x)
    with pytest.raises(ValueError, match="context: got shape"):
        transform.condition(context[:, :1])


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@each()
def test_the_engines_own_distribution_agrees(engine: Any, name: str, context_dim: int) -> None:
    """A plain TransformedDistribution asks for inverse and log-Jacobian apart, and remembers nothing."""
    x, context = (engine.array(part) for part in rows(name, np.float32))
    given = moved(engine, name, context_dim).condition(context if context_dim else None)
    module = numpyro.distributions if engine is NUMPYRO else pyro.distributions
    event = EVENTS[name]
    base = module.Normal(engine.array(np.zeros(event, np.float32)), 1.0).to_event(len(event))
    own, plain = engine.face.FlowDistribution(base, [given]), module.TransformedDistribution(base, [given])
    y = engine.array(engine_numpy(given(x)))
    assert own.batch_shape == plain.batch_shape == ((ROWS,) if context_dim else ())
    np.testing.assert_allclose(engine_numpy(own.log_prob(y)), engine_numpy(plain.log_prob(y)), rtol=1e-3, atol=5e-3)
    flat = engine_numpy(x).reshape(ROWS, -1)
    truth = -0.5 * (flat**2).sum(-1) - 0.5 * flat.shape[1] * np.log(2 * np.pi)
    truth = truth - engine_numpy(given.forward_and_log_det(x)[1])
    np.testing.assert_allclose(engine_numpy(own.log_prob(y)), truth, rtol=1e-3, atol=5e-3)


def test_a_module_moves_to_another_precision() -> None:
    for name, context_dim in CASES:
        transform = moved(PYRO, name, context_dim).double()
        x, context = (torch.as_tensor(part) for part in rows(name))
        assert transform.condition(context if context_dim else None)(x).dtype == torch.float64


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_actnorm_takes_its_statistics_from_data(engine: Any) -> None:
    data = (np.random.default_rng(0).standard_normal((400, 3)) * [0.2, 3, 10] + [1, -2, 30]).astype(np.float32)
    for transform in (engine.face.ActNorm(3, data=data), engine.face.ActNorm(3).initialise(data)):
        z = engine_numpy(transform.inv(engine.array(data)))
        np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(z.std(0), 1, atol=1e-4)
    with pytest.raises(ValueError, match="data: got"):
        engine.face.ActNorm(3, data=data[:1])


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_refusals(engine: Any) -> None:
    face, kw = engine.face, {"key": jax.random.key(0)} if engine is NUMPYRO else {}
    with pytest.raises(ValueError, match="mask: got"):
        face.AffineCoupling.mlp([True, True], **kw)
    with pytest.raises(ValueError, match="num_bins: got 1"):
        face.SplineCoupling.mlp([True, False], num_bins=1, **kw)
    with pytest.raises(ValueError, match="bound: got 0"):
        face.SplineAutoregressive.mlp(3, bound=0, **kw)
    with pytest.raises(ValueError, match="parallel: got"):
        face.AffineAutoregressive.mlp(3, parallel="both", **kw)
    with pytest.raises(ValueError, match="network: got outputs"):
        face.AffineAutoregressive(face.nn.MaskedMLP((3,), 3, **kw))
    wrong = face.AffineCoupling(face.nn.MLP(2, 5, **kw), [True, False, True, False])
    with pytest.raises(ValueError, match="network: got outputs"):
        wrong(engine.array(np.zeros((3, 4), np.float32)))
    with pytest.raises(TypeError, match="network: got a Linear"):
        face.nn.silent(face.nn.Linear(2, 3, **kw))


def engine_numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_transform_without_its_inverse_is_refused(engine: Any) -> None:
    base = next(kind for kind in engine.face.Permute.__mro__ if kind.__name__ == "FlowTransform")
    half = type("Half", (base,), {"forward_and_log_det": lambda self, x, context=None: (x, 0.0), "context_dim": 0})
    with pytest.raises(TypeError, match="inverse_and_log_det"):
        half()


@pytest.mark.parametrize("name", ["maf", "iaf", "spline-iaf"])
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_way_of_many_steps_never_runs_the_whole_network(engine: Any, name: str) -> None:
    """One cached step an entry, with gradients too; the other way takes one pass and no step."""
    transform = MAKERS[name](engine.face, {"key": jax.random.key(0)} if engine is NUMPYRO else {})
    kind, whole = type(transform.network), "__call__" if engine is NUMPYRO else "forward"
    x = engine.array(np.random.default_rng(0).standard_normal((ROWS, D)).astype(np.float32))
    ways = {"forward": transform.forward_and_log_det, "inverse": transform.inverse_and_log_det}
    quick = ways.pop(transform.parallel)
    with mock.patch.object(kind, whole, side_effect=AssertionError("a whole pass")):
        (slow,) = ways.values()
        assert slow(x)[0].shape == (ROWS, D)
    with mock.patch.object(kind, "step", side_effect=AssertionError("a step")):
        assert quick(x)[0].shape == (ROWS, D)
        with pytest.raises(AssertionError, match="a step"):
            slow(x)
