"""Continuous flows as programs: exact densities, random probes in training, contexts, gradients, refusals."""

from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, NUMPYRO
from scipy import stats

from deepgen.models.flow import recipe

SIZE = 3
each_engine = pytest.mark.parametrize("engine", ENGINES, ids=str)


def made(engine: Any, **kwargs: Any) -> Any:
    """A flow at random parameters."""
    program = engine.call(engine.face.Flow.cnf, (SIZE,), hidden=(8,), **kwargs)
    rng = np.random.default_rng(1)
    shaken = {
        name: (value + 0.5 * rng.standard_normal(value.shape)).astype(value.dtype)
        for name, value in engine.tensors(program).items()
    }
    return engine.with_tensors(program, shaken)


def rows(n: int = 20) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((n, SIZE)).astype(np.float32)


def losses(engine: Any, objective: Any, program: Any, number: int, *args: Any) -> np.ndarray:
    """A loss a row, its probes drawn again ``number`` times."""
    x = engine.array(rows())
    if engine is NUMPYRO:
        keys = jax.random.split(jax.random.key(3), number)
        draw = jax.jit(lambda key: objective.loss(key, {}, program.model, program.guide, x, *args))
        return np.array([float(draw(key)) for key in keys]) / len(x)
    torch.manual_seed(3)
    return np.array([objective.loss(program.model, program.guide, x, *args) for _ in range(number)]) / len(x)


@each_engine
def test_random_probes_estimate_the_loss_without_bias(engine: Any) -> None:
    """By 5 standard errors of 150 draws (below 1e-5 a run); without the divergence the loss is another."""
    face, program = engine.face, made(engine, num_probes=1)
    exact = losses(engine, face.ELBO(), program, 2)
    assert exact[0] == exact[1]
    drawn = losses(engine, face.RandomProbes(), program, 150)
    error = drawn.std(ddof=1) / np.sqrt(len(drawn))
    assert error > 1e-4
    assert abs(drawn.mean() - exact[0]) < 5 * error
    (transform,) = program.transforms
    z = engine_numpy(transform.inv(engine.array(rows()))).astype(float)
    still = 0.5 * (z**2).sum(1).mean() + 0.5 * SIZE * np.log(2 * np.pi)
    assert abs(drawn.mean() - still) > 5 * error


@each_engine
def test_more_probes_scatter_less(engine: Any) -> None:
    scatter = [losses(engine, engine.face.RandomProbes(), made(engine, num_probes=k), 80).std(ddof=1) for k in (1, 16)]
    # a factor of four, by the law of averages; half of it is beyond chance for 80 draws each
    assert scatter[0] > 2 * scatter[1]


@each_engine
def test_densities_are_exact_with_probes_or_without(engine: Any) -> None:
    found = [engine.call("log_prob", made(engine, num_probes=k), rows()) for k in (None, 1)]
    np.testing.assert_array_equal(found[0].value, found[1].value)
    assert found[1].kind == "exact"
    assert not found[1].stderr.any()


@each_engine
@pytest.mark.parametrize("context_dim", [0, 2])
def test_many_entries_have_an_estimate_within_its_error(engine: Any, context_dim: int) -> None:
    """Each row's t of 200 estimates within what 20 of them exceed once in 1e5 runs; a nat off it is not."""
    program = made(engine, num_probes=1, context_dim=context_dim)
    told = {"y": np.random.default_rng(4).standard_normal((20, context_dim)).astype(np.float32)} if context_dim else {}
    exact = engine.call("log_prob", program, rows(), **told)
    with mock.patch.object(recipe, "EXACT_SIZE", SIZE - 1):
        assert program.probes == recipe.ESTIMATES
        found = engine.call("log_prob", program, rows(), num_particles=200, **told)
        assert engine.call("log_prob", made(engine), rows()).kind == "exact"
    assert (exact.kind, found.kind) == ("exact", "estimate")
    limit = stats.t.isf(1e-5 / 40, 199)
    assert found.stderr.min() > 0
    assert (np.abs(found.value - exact.value) / found.stderr).max() < limit
    assert (np.abs(found.value + 1 - exact.value) / found.stderr).max() > limit


@each_engine
def test_fit_trains_with_probes_and_the_context_counts(engine: Any) -> None:
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 200)
    x = (rng.standard_normal((200, SIZE)) * 0.4 + np.where(side, 1.5, -1.5)[:, None]).astype(np.float32)
    context = np.eye(2, dtype=np.float32)[side]
    kwargs = {"hidden": (8,), "data": x, "context_dim": 2, "num_probes": 1, "rtol": 1e-3, "atol": 1e-3}
    program = engine.call(engine.face.Flow.cnf, (SIZE,), **kwargs)
    assert program.objective() == engine.face.RandomProbes()
    options = {"steps": 40, "batch_size": 100, "learning_rate": 3e-2, "progress": False}
    fit = engine.call("fit", program, x, context, **options)
    assert fit.losses[-5:].mean() < fit.losses[:3].mean() - 0.5
    own, other = (engine.call("log_prob", fit.program, x[:50], y=c[:50]).value.mean() for c in (context, 1 - context))
    assert own > other + 0.5
    assert tuple(engine.call("sample", fit.program, 4, y=context[0]).shape) == (4, SIZE)


@eqx.filter_jit
@eqx.filter_grad
def _gradient(transform: Any, context: jax.Array) -> jax.Array:
    z, log_det = transform.inverse_and_log_det(jnp.asarray(rows()), context)
    return z.sum() + log_det.sum()


@each_engine
def test_adjoints_give_the_same_gradients(engine: Any) -> None:
    found = []
    for adjoint in ("direct", "backsolve"):
        key = {"key": jax.random.key(0)} if engine is NUMPYRO else {}
        transform = engine.face.CNF.mlp(SIZE, hidden=(8,), adjoint=adjoint, context_dim=1, rtol=1e-6, atol=1e-6, **key)
        rng = np.random.default_rng(1)
        shapes = {name: value.shape for name, value in engine.tensors(transform).items()}
        shaken = {name: 0.6 * rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        transform = engine.with_tensors(transform, shaken)
        context = engine.array(np.ones((20, 1), np.float32))
        if engine is NUMPYRO:
            found.append([np.asarray(leaf) for leaf in jax.tree.leaves(_gradient(transform, context))])
        else:
            sum(part.sum() for part in transform.inverse_and_log_det(torch.as_tensor(rows()), context)).backward()
            found.append([param.grad.numpy() for param in transform.parameters()])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=3e-4 * np.abs(one).max())


@each_engine
def test_objectives_are_told_apart(engine: Any) -> None:
    face = engine.face
    assert face.RandomProbes() == face.RandomProbes(face.ELBO())
    assert face.RandomProbes() != face.RandomProbes(face.ELBO(num_particles=2))
    assert "RandomProbes(ELBO(" in repr(face.RandomProbes())
    assert hash(face.RandomProbes()) == hash(face.RandomProbes())
    assert made(engine).objective() == face.ELBO()


@each_engine
def test_refusals(engine: Any) -> None:
    face, key = engine.face, {"key": jax.random.key(0)} if engine is NUMPYRO else {}
    wrong = [
        ({"num_probes": 0}, "num_probes: got 0"),
        ({"rtol": 0.0}, "rtol: got 0"),
        ({"atol": -1.0}, "atol: got -1"),
        ({"max_steps": 0}, "max_steps: got 0"),
        ({"adjoint": "none"}, "adjoint: got 'none'"),
        ({"size": 0}, "size: got 0"),
    ]
    for options, match in wrong:
        with pytest.raises(ValueError, match=match):
            face.CNF.mlp(**({"size": SIZE} | options), **key)
    with pytest.raises(ValueError, match="network: got outputs"):
        face.CNF(face.nn.MLP(SIZE + 1, SIZE + 1, **key), SIZE)(engine.array(rows()))


def engine_numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
