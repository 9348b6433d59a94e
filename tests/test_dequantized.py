"""Integers under a flow: the bound against cells integrated by quadrature, uniform and learned noise, both engines."""

from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from montecarlo import limit
from scipy import stats

from deepgen.models.dequantized import levels
from deepgen.models.flow import affine

V = 3
ALPHA = 0.05
CELLS = np.array(list(product(range(V), repeat=2)))
WHITEN = np.array([[1.1, 0.0], [0.9, 1.3]])
"""z = WHITEN logit(alpha + (1 - 2 alpha) y): a normal in the plane, correlated, carried to the square."""


@cache
def exact() -> np.ndarray:
    """log P of each of the nine cells, by quadrature; what lies beyond the square counts to its edges."""
    node, weight = np.polynomial.legendre.leggauss(120)
    ends = np.array([-ALPHA / (1 - 2 * ALPHA), 1 / V, 2 / V, 1 + ALPHA / (1 - 2 * ALPHA)])
    points = [(a + b) / 2 + (b - a) / 2 * node for a, b in pairwise(ends)]
    weights = [(b - a) / 2 * weight for a, b in pairwise(ends)]
    mass = []
    for i, j in CELLS:
        y = np.stack(np.meshgrid(points[i], points[j], indexing="ij"), -1)
        mass.append((weights[i][:, None] * weights[j] * np.exp(density(y))).sum())
    assert abs(sum(mass) - 1) < 1e-6
    return np.log(mass)


def density(y: np.ndarray) -> np.ndarray:
    """log p(y) of the flow, restated."""
    v = ALPHA + (1 - 2 * ALPHA) * y
    z = np.log(v / (1 - v)) @ WHITEN.T
    slope = np.log(1 - 2 * ALPHA) - np.log(v) - np.log(1 - v)
    return stats.norm.logpdf(z).sum(-1) + np.linalg.slogdet(WHITEN)[1] + slope.sum(-1)


def flow(engine: Any) -> Any:
    face = engine.face
    program = face.Flow(2, [face.LULinear(2), face.Logit(ALPHA)])
    diagonal = np.log(np.diag(WHITEN))
    tensors = {
        # WHITEN = L U with a unit lower triangle
        "transforms.0.weight": np.array([[0.0, 0.0], [WHITEN[1, 0] / WHITEN[0, 0], 0.0]]),
        "transforms.0.log_diagonal": affine.raw_log_scale(diagonal),
        "transforms.0.bias": np.zeros(2),
    }
    return engine.with_tensors(program, {name: value.astype(np.float32) for name, value in tensors.items()})


def learned(engine: Any, seed: int = 0) -> Any:
    return engine.call(engine.face.Dequantized.mlp, flow(engine), V, num_transforms=2, hidden=(16,), seed=seed)


def moved(engine: Any, program: Any) -> Any:
    rng = np.random.default_rng(1)
    shaken = {
        name: (value + 0.4 * rng.standard_normal(value.shape) * name.startswith("noise")).astype(value.dtype)
        for name, value in engine.tensors(program).items()
    }
    return engine.with_tensors(program, shaken)


def bound(engine: Any, program: Any, draws: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """E log weight of each cell and its standard error, from many rows with one particle each."""
    rows = np.repeat(CELLS, draws, axis=0)
    value = engine.call("log_prob", program, rows, num_particles=1).value.reshape(len(CELLS), draws)
    return value.mean(1), value.std(1, ddof=1) / np.sqrt(draws)


def test_levels_and_their_intervals() -> None:
    rng = np.random.default_rng(0)
    x, v = rng.integers(0, 256, (50, 7)), rng.logistic(size=(50, 7))
    y, log_slope = levels.place(v, x, 256)
    np.testing.assert_array_equal(levels.level(y, 256), x)
    assert levels.contains(x, y, 256).all()
    assert not levels.contains(np.where(x < 255, x + 1, x - 1), y, 256).any()
    back, log_back = levels.place(y, x, 256, inverse=True)
    np.testing.assert_allclose(back, v, atol=1e-6)
    np.testing.assert_allclose(log_back, -log_slope, atol=1e-6)
    step = 1e-5
    slope = (levels.place(v + step, x, 256)[0] - levels.place(v - step, x, 256)[0]) / (2 * step)
    np.testing.assert_allclose(np.log(slope), log_slope, atol=1e-4)
    # what is beyond the square counts to its edges, and rounding to neither side of an interval
    np.testing.assert_array_equal(levels.level(np.array([-0.1, 1.0, 1.2]), 4), [0, 3, 3])
    assert levels.contains(np.array([0, 3]), np.array([-0.1, 1.2]), 4).all()
    single, _ = levels.place(np.float32([[30.0, -30.0]]), np.array([[200, 200]]), 256)
    assert levels.contains(np.array([[200, 200]]), single, 256).all()
    assert np.isfinite(levels.place(single, np.array([[200, 200]]), 256, inverse=True)).all()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_uniform_noise_is_uniform_dequantisation(engine: Any) -> None:
    """One draw's weight is log p((x + u) / V) - D log V exactly, whatever u is."""
    program = engine.face.Dequantized.uniform(flow(engine), V)
    rng = np.random.default_rng(3)
    x = rng.integers(0, V, (200, 2)).astype(np.int32)
    y = affine.dequantize(x.astype(float), rng.uniform(0.01, 0.99, x.shape), V)
    joint = engine.log_joint(program, {"dequantized": y.astype(np.float32)}, x)
    np.testing.assert_allclose(joint, density(y), atol=2e-4)
    wrong = engine.log_joint(program, {"dequantized": y.astype(np.float32)}, (x + 1) % V)
    assert np.isneginf(wrong).all()
    drawn = np.float64(engine.draw_latents(program, x)["dequantized"])
    assert (np.floor(V * drawn) == x).all()
    # u is uniform: Kolmogorov and Smirnov, at one in a million; squared, it is not
    u = (V * drawn - x).ravel()
    assert stats.kstest(u, "uniform").pvalue > 1e-6
    assert stats.kstest(u**2, "uniform").pvalue < 1e-6
    # the same seed, the same draws: the weights are the densities at them less D log V
    weights = engine.call("log_prob", program, x, num_particles=1).value
    assert np.isfinite(weights).all()
    # the bound, E_u log p((x + u) / V) - D log V, by quadrature
    node, weight = np.polynomial.legendre.leggauss(60)
    grid = np.stack(np.meshgrid((node + 1) / 2, (node + 1) / 2, indexing="ij"), -1)
    truth = np.array([(weight[:, None] * weight * density((cell + grid) / V)).sum() / 4 for cell in CELLS])
    truth -= 2 * np.log(V)
    mean, error = bound(engine, program)
    assert np.abs((mean - truth) / error).max() < limit(len(CELLS), 3999)
    assert np.abs((mean + 2 * np.log(V) - truth) / error).max() > limit(len(CELLS), 3999)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_bound_lies_below_and_tightens(engine: Any) -> None:
    """Below the cells' exact mass for any noise; more particles come nearer; trained noise comes nearer still."""
    truth, start = exact(), learned(engine)
    most = limit(len(CELLS), 3999)
    loose, error = bound(engine, moved(engine, learned(engine)))
    assert ((loose - truth) / error).max() < most
    uniform, _ = bound(engine, start)
    assert (uniform < truth).all()
    assert loose.sum() < uniform.sum()
    rows = np.random.default_rng(0).choice(len(CELLS), 2000, p=np.exp(truth) / np.exp(truth).sum())
    fit = engine.call("fit", start, CELLS[rows], steps=400, learning_rate=5e-3, batch_size=200, progress=False)
    kept = engine.with_tensors(
        engine.build("dequantized", fit.program.spec()),
        {name: value for name, value in engine.tensors(fit.program).items() if name.startswith("noise")}
        | {name: value for name, value in engine.tensors(learned(engine)).items() if name.startswith("flow")},
    )
    trained, error = bound(engine, kept)
    assert ((trained - truth) / error).max() < most
    share = np.exp(truth)
    gap, before = (share * (truth - trained)).sum(), (share * (truth - uniform)).sum()
    assert gap < 0.6 * before
    found = engine.call("log_prob", moved(engine, learned(engine)), CELLS, num_particles=4000)
    assert found.kind == "bound"
    assert np.abs((found.value - truth) / found.stderr).max() < 6
    # the Jacobian of the levels left out
    assert np.abs((found.value + 2 * np.log(V) - truth) / found.stderr).max() > 6


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_draws_are_levels_of_the_flow(engine: Any) -> None:
    draws = np.asarray(engine.call("sample", engine.face.Dequantized.uniform(flow(engine), V), 4000))
    counts = np.bincount(V * draws[:, 0] + draws[:, 1], minlength=9)
    share = np.exp(exact())
    assert stats.chisquare(counts, 4000 * share / share.sum()).pvalue > 1e-6
    assert stats.chisquare(counts, np.full(9, 4000 / 9)).pvalue < 1e-6


def image_program(engine: Any, name: str) -> Any:
    x = np.random.default_rng(0).integers(0, 5, (40, 1, 4, 4))
    body = engine.call(
        engine.face.Flow.glow, (1, 4, 4), num_scales=1, num_steps=1, hidden=(4,), logit=ALPHA, data=(x + 0.5) / 5
    )
    return engine.call(getattr(engine.face.Dequantized, name), body, 5, num_transforms=2, hidden=(4,))


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_engines_agree_and_checkpoints_load(name: str, tmp_path: Path) -> None:
    first, second = ENGINES
    program = image_program(first, name)
    rng = np.random.default_rng(4)
    tensors = {k: (v + 0.3 * rng.standard_normal(v.shape)).astype(v.dtype) for k, v in first.tensors(program).items()}
    program = first.with_tensors(program, tensors)
    first.face.save(program, tmp_path)
    other = second.face.load(tmp_path)
    assert program.spec() == other.spec() == image_program(second, name).spec()
    x = rng.integers(0, 5, (6, 1, 4, 4)).astype(np.int32)
    latents = {"dequantized": ((x + rng.uniform(0.1, 0.9, x.shape)) / 5).astype(np.float32)}
    # a logistic base has no tape: densities at given latents, then
    found = [e.numbers(p, latents, x, (None, None), 0, {}) for e, p in ((first, program), (second, other))]
    assert set(found[0]) == {"log joint", "log q"}
    for key, value in found[0].items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value, found[1][key], rtol=1e-4, atol=1e-3, err_msg=key)
    faulty = {k: v * (1.01 if k.startswith("noise") else 1.0) for k, v in tensors.items()}
    wrong = second.numbers(second.with_tensors(other, faulty), latents, x, (None, None), 0, {})
    assert np.abs(wrong["log q"] - found[0]["log q"]).max() > 1e-2


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_refusals(engine: Any) -> None:
    face, body = engine.face, flow(engine)
    program = face.Dequantized.uniform(body, V)
    with pytest.raises(ValueError, match="num_values: got 1"):
        face.Dequantized.uniform(body, 1)
    with pytest.raises(ValueError, match="num_transforms: got 0"):
        engine.call(face.Dequantized.mlp, body, V, num_transforms=0)
    with pytest.raises(ValueError, match="event_shape: got"):
        engine.call(face.Dequantized.conv, body, V)
    with pytest.raises(ValueError, match="noise: got a flow of shape"):
        face.Dequantized(body, face.Flow(3, []), V)
    for bad in ([[0, 3]], [[0.5, 1.0]]):
        with pytest.raises(ValueError, match="expected whole numbers 0 … 2"):
            engine.call("log_prob", program, np.array(bad))
    holes = np.ma.masked_array([[0, 1]], mask=[[True, False]])
    for x in ([[-1, 0]], [[np.nan, 0]], holes):
        with pytest.raises(ValueError, match=r"x: got .*; expected complete data"):
            program.check_data(x)
        np.testing.assert_array_equal(program.check_data(x, missing=True)[:, 0], -1)
    assert program.diagnose(CELLS) == []
