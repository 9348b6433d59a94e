"""Integers under a flow, some missing, or all given a context: against cells integrated by quadrature."""

from functools import cache
from itertools import pairwise
from typing import Any
from unittest import mock

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, PYRO
from montecarlo import limit
from test_dequantized import ALPHA, CELLS, V, exact, flow, image_program, learned

from deepgen.inference.imputation.cells import interval
from deepgen.inference.imputation.cells import numpyro as jax_cells
from deepgen.inference.imputation.cells import pyro as torch_cells
from deepgen.models.dequantized import levels

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
HOLES = np.array([[0, -1], [-1, 1], [2, -1]])
FEW = {"num_chains": 30, "num_samples": 60, "num_warmup": 50}
ENDS = {
    "bounded": (1.0, 1.25),
    "below": (-np.inf, 0.5),
    "above": (-0.5, np.inf),
    "free": (-np.inf, np.inf),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_line_goes_onto_an_interval(name: str) -> None:
    """One to one, with its slope; and with gradients that are finite whatever the ends."""
    low, high = (np.full((1, 9), end) for end in ENDS[name])
    w = np.linspace(-6.0, 6.0, 9)[None]
    v, log_slopes = interval.within(w, low, high)
    assert (np.diff(v) > 0).all()
    assert ((low < v) & (v < high)).all()
    step = 1e-5
    ahead, behind = (interval.within(w + sign * step, low, high)[0] for sign in (1, -1))
    np.testing.assert_allclose(np.log((ahead - behind) / (2 * step)), log_slopes, atol=1e-5)
    single = [jnp.asarray(part, jnp.float32) for part in (w, low, high)]
    gradient = jax.grad(lambda w, low, high: sum(part.sum() for part in interval.within(w, low, high)))(*single)
    assert np.isfinite(gradient).all()
    far, _ = interval.within(np.array([[-300.0, 300.0]]), low[:, :2], high[:, :2])
    finite = np.where(np.isfinite(ENDS[name]), ENDS[name], far)
    np.testing.assert_allclose(far, finite)


def test_ends_of_cells() -> None:
    """The outermost are open, those of missing entries are whole lines; a falling coordinate turns them round."""
    x, seen = np.array([[0, 1, 2, 0]]), np.array([[True, True, True, False]])
    below, above = x / V, (x + 1) / V
    low, high = levels.ends(x, seen, V, below, above, np.full(x.shape, True))
    np.testing.assert_allclose(low, [[-np.inf, 1 / 3, 2 / 3, -np.inf]])
    np.testing.assert_allclose(high, [[1 / 3, 2 / 3, np.inf, np.inf]])
    turned = levels.ends(x, seen, V, -below, -above, np.full(x.shape, False))
    np.testing.assert_allclose(turned[0], -high)
    np.testing.assert_allclose(turned[1], -low)


def truth() -> np.ndarray:
    """(row, level) the law of what is missing in `HOLES`, by quadrature."""
    mass = np.exp(exact()).reshape(V, V)
    found = np.stack([mass[0], mass[:, 1], mass[2]])
    return found / found.sum(1, keepdims=True)


def worst(post: Any, law: np.ndarray) -> float:
    """The worst error of a share in Monte Carlo standard errors, as a share of its limit."""
    x = post.posterior["x"].values
    missing = np.stack([x[:, :, i, 1 - (HOLES[i, 1] >= 0)] for i in range(len(HOLES))], -1)
    scores = [
        ((missing[..., i] == k).mean() - law[i, k]) / float(az.mcse((missing[..., i] == k).astype(float)))
        for i in range(len(HOLES))
        for k in range(V)
    ]
    return max(map(abs, scores)) / limit(len(scores))


@cache
def completed(engine: Any) -> Any:
    return engine.call("impute", engine.face.Dequantized.uniform(flow(engine), V), HOLES, **FEW)


@BOTH
def test_missing_levels_have_their_law(engine: Any) -> None:
    """By quadrature, those beyond the square counted to its edges; not that of each entry by itself."""
    post = completed(engine)
    assert worst(post, truth()) < 1
    mass = np.exp(exact()).reshape(V, V)
    assert worst(post, np.stack([mass.sum(0), mass.sum(1), mass.sum(0)])) > 1
    assert worst(post, truth()[::-1]) > 1
    assert post.attrs["method"] == "cells"
    assert post.attrs["law"] == "asymptotically exact"
    x, y = post.posterior["x"].values, post.posterior["dequantized"].values
    assert x.dtype.kind == "i"
    np.testing.assert_array_equal(np.where(HOLES >= 0, x, 0), np.broadcast_to(np.where(HOLES >= 0, HOLES, 0), x.shape))
    assert levels.contains(x, y.astype(np.float32), V).all()
    assert (y < 0).any(), "draws lie beyond the square"


@pytest.mark.parametrize("fault", ["no slopes", "middles"])
def test_faults_in_the_cells_would_show(fault: str) -> None:
    """The slope into a cell left out, and observed levels taken for their cells' middles."""
    own = interval.within

    def broken(w: Any, low: Any, high: Any) -> Any:
        v, log_slopes = own(w, low, high)
        if fault == "no slopes":
            return v, 0 * log_slopes
        return torch.where(low.isfinite() | high.isfinite(), own(0 * w, low, high)[0], v), log_slopes

    program = PYRO.face.Dequantized.uniform(flow(PYRO), V)
    more = {**FEW, "num_chains": 100, "num_samples": 80}
    with mock.patch.object(interval, "within", broken):
        post = PYRO.call("impute", program, HOLES, **more)
    assert worst(post, truth()) > 1


@pytest.mark.filterwarnings("ignore:the chains of")  # a few draws, looked at one by one
def test_engines_agree_on_images_with_holes() -> None:
    """The density that the chains have, and its gradient, at the same numbers; and whole chains in the eager one."""
    first, second = programs = [image_program(engine, "conv") for engine in ENGINES]
    rng = np.random.default_rng(4)
    tensors = {
        name: (value + 0.2 * rng.standard_normal(value.shape)).astype(value.dtype)
        for name, value in ENGINES[0].tensors(first).items()
    }
    programs = [engine.with_tensors(own, tensors) for engine, own in zip(ENGINES, (first, second), strict=True)]
    x = rng.integers(0, 5, (3, 1, 4, 4)).astype(np.int32)
    seen = np.arange(x.size).reshape(x.shape) % 3 > 0
    w = rng.standard_normal((2, 3, 16)).astype(np.float32)
    targets = [
        room._Target(*own.cells(engine.array(x), engine.array(seen)))
        for engine, room, own in zip(ENGINES, (jax_cells, torch_cells), programs, strict=True)
    ]
    given = torch.as_tensor(w).requires_grad_()
    value = targets[1](given)
    (slope,) = torch.autograd.grad(value.sum(), given)
    (_, twin), gradient = jax.jit(jax.value_and_grad(lambda w: (targets[0](w).sum(), targets[0](w)), has_aux=True))(w)
    np.testing.assert_allclose(twin, value.detach(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-3)
    few = {"num_chains": 3, "num_samples": 40, "num_warmup": 40}
    post = PYRO.call("impute", programs[1], np.where(seen, x, -1), **few).posterior
    assert post["x"].shape == post["dequantized"].shape == (3, 40, *x.shape)
    found = post["x"].values
    np.testing.assert_array_equal(np.where(seen, found, 0), np.broadcast_to(np.where(seen, x, 0), found.shape))


@BOTH
@pytest.mark.filterwarnings("ignore:the chains of")  # a few draws, looked at one by one
def test_holes_are_refused_elsewhere(engine: Any) -> None:
    program = engine.face.Dequantized.uniform(flow(engine), V)
    for verb, more in (("log_prob", {}), ("fit", {"steps": 1})):
        with pytest.raises(ValueError, match="x: got missing entries; expected complete data"):
            engine.call(verb, program, HOLES, **more)
    with pytest.raises(ValueError, match="x: got 1 rows of which nothing is observed"):
        engine.call("impute", program, np.full((1, 2), -1))
    floats = np.where(HOLES < 0, np.nan, HOLES).astype(np.float32)
    few = {"num_chains": 4, "num_samples": 60, "num_warmup": 40}
    x = engine.call("impute", program, floats, **few).posterior["x"].values
    np.testing.assert_array_equal(np.where(np.isnan(floats), 0, x), np.broadcast_to(np.nan_to_num(floats), x.shape))
    assert set(np.unique(x)) <= {0.0, 1.0, 2.0}


# given a context


def conditional(engine: Any, noise: str = "mlp") -> Any:
    """The plane's normal moved by its context, and noise that sees both."""
    face = engine.face
    body = face.Flow(2, [face.ActNorm(2, context_dim=2), *flow(engine).transforms])
    # N(-c, 1) in front of what follows: the shift alone depends on c
    own = {"transforms.0.context.weight": np.concatenate([-np.eye(2), np.zeros((2, 2))]).astype(np.float32)}
    body = engine.with_tensors(body, {**engine.tensors(body), **own})
    if noise == "uniform":
        return face.Dequantized.uniform(body, V)
    return engine.call(face.Dequantized.mlp, body, V, num_transforms=2, hidden=(8,))


def of_cells(engine: Any, program: Any, context: np.ndarray) -> np.ndarray:
    """log P of each of the nine cells given one context, by quadrature of the flow's own density."""
    node, weight = np.polynomial.legendre.leggauss(60)
    edge = ALPHA / (1 - 2 * ALPHA)
    ends = np.array([-edge, 1 / V, 2 / V, 1 + edge])
    points = np.stack([(a + b) / 2 + (b - a) / 2 * node for a, b in pairwise(ends)])
    weights = np.stack([(b - a) / 2 * weight for a, b in pairwise(ends)])
    y = np.stack([np.stack(np.meshgrid(points[i], points[j], indexing="ij"), -1) for i, j in CELLS])
    grid = y.reshape(-1, 2).astype(np.float32)
    density = engine.call("log_prob", program.flow, grid, y=context).value.reshape(len(CELLS), 60, 60)
    both = np.stack([weights[i][:, None] * weights[j] for i, j in CELLS])
    return np.log((both * np.exp(density.astype(float))).sum((1, 2)))


CONTEXT = np.array([0.8, -0.5], np.float32)


@BOTH
def test_the_law_given_a_context(engine: Any) -> None:
    """Bound, draws and completions; another context's law is another."""
    program = conditional(engine)
    right, wrong = of_cells(engine, program, CONTEXT), of_cells(engine, program, 0 * CONTEXT)
    assert abs(np.exp(right).sum() - 1) < 1e-4
    found = engine.call("log_prob", program, CELLS, y=CONTEXT, num_particles=3000)
    # the noise never lies beyond the square, so that the edges' value is a bound
    inner = 4
    assert abs(found.value[inner] - right[inner]) < 5 * found.stderr[inner]
    assert abs(found.value[inner] - wrong[inner]) > 5 * found.stderr[inner]
    assert (found.value - right < 5 * found.stderr).all()

    draws = np.asarray(engine.call("sample", program, 3000, y=CONTEXT))
    share = np.bincount(V * draws[:, 0] + draws[:, 1], minlength=9) / 3000

    def score(law: np.ndarray) -> float:
        p = np.exp(law)
        return float((np.abs(share - p) / np.sqrt(p * (1 - p) / 3000)).max())

    assert score(right) < limit(9)
    assert score(wrong) > limit(9)

    post = engine.call("impute", program, np.array([[1, -1]]), y=CONTEXT, **{**FEW, "num_chains": 60})
    level = post.posterior["x"].values[:, :, 0, 1]
    for law, ok in ((right, True), (wrong, False)):
        row = np.exp(law).reshape(V, V)[1]
        scores = [
            abs((level == k).mean() - row[k] / row.sum()) / float(az.mcse((level == k).astype(float))) for k in range(V)
        ]
        assert (max(scores) < limit(V)) == ok


@BOTH
def test_a_fit_given_a_context(engine: Any) -> None:
    """Its loss falls, and what it says of itself builds it again; what is not wanted is refused."""
    program = conditional(engine)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, V, (64, 2)), rng.standard_normal((64, 2)).astype(np.float32)
    fit = engine.call("fit", program, x, y=y, steps=30, learning_rate=2e-2, progress=False)
    assert fit.losses[-10:].mean() < fit.losses[:10].mean()
    assert engine.build("dequantized", program.spec()).spec() == program.spec()
    assert program.context_dim == 2
    assert program.noise.context_dim == 4
    assert conditional(engine, "uniform").noise.context_dim == 0
    with pytest.raises(ValueError, match="context"):
        engine.call("log_prob", program, x)
    with pytest.raises(ValueError, match="context"):
        engine.call("log_prob", learned(engine), x, y=y)
    other = engine.face.Flow(2, [engine.face.ActNorm(2, context_dim=3)], base="logistic")
    with pytest.raises(ValueError, match=r"noise: got .* given a context of 3; expected .* one of \[0, 2, 4\]"):
        engine.face.Dequantized(program.flow, other, V)
