"""Flows of images: the mathematics in NumPy, the constructors, scales, first batches, round trips, refusals."""

from functools import cache
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from hypothesis import given, settings
from hypothesis import strategies as st

from deepgen.models.flow import affine, images, shapes

SHAPE = (1, 4, 4)
NAMES = ("glow", "realnvp_image")


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """Images of two kinds, bright above or below, their values in [0, 1], and which kind as a one-hot context."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 300)
    ramp = np.where(kind[:, None, None], np.linspace(0.2, 0.8, 4)[:, None], np.linspace(0.8, 0.2, 4)[:, None])
    x = ramp + 0.1 * rng.standard_normal((300, 1, 1)) + 0.05 * rng.standard_normal((300, 4, 4))
    return np.clip(x, 0.001, 0.999)[:, None].astype(np.float32), np.eye(2, dtype=np.float32)[kind]


def made(engine: Any, name: str, **kwargs: Any) -> Any:
    return engine.call(getattr(engine.face.Flow, name), SHAPE, **{"num_steps": 2, "hidden": (6,), **kwargs})


def moved(engine: Any, program: Any, seed: int = 1, scale: float = 0.3) -> Any:
    rng = np.random.default_rng(seed)
    shaken = {
        key: (value + scale * rng.standard_normal(value.shape)).astype(value.dtype)
        for key, value in engine.tensors(program).items()
    }
    return engine.with_tensors(program, shaken)


def to_base(program: Any, x: Any) -> Any:
    for transform in reversed(list(program.transforms)):
        x = transform.inv(x)
    return x


def to_data(program: Any, z: Any) -> Any:
    for transform in program.transforms:
        z = transform(z)
    return z


def whole(engine: Any, way: Any) -> Any:
    """Compiled as one, where the engine compiles."""
    return eqx.filter_jit(way) if engine is NUMPYRO else way


def plain(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
def test_squeezing_keeps_every_number_in_its_block(c: int, h: int, w: int, batch: int) -> None:
    x = np.random.default_rng(0).standard_normal((*[2] * batch, c, 2 * h, 2 * w))
    y = images.squeeze(x)
    assert y.shape == (*[2] * batch, 4 * c, h, w)
    for i in (0, 1):
        for j in (0, 1):
            np.testing.assert_array_equal(y[..., 2 * i + j :: 4, :, :], x[..., i::2, j::2])
    np.testing.assert_array_equal(images.squeeze(y, inverse=True), x)


def test_checkerboards_take_turns() -> None:
    board = images.checkerboard(3, 4)
    assert board.sum() == 6
    assert not board[0, 0]
    assert not (board[1:] & board[:-1]).any()
    np.testing.assert_array_equal(images.checkerboard(3, 4, True), ~board)


@pytest.mark.parametrize("pattern", images.PATTERNS)
@pytest.mark.parametrize("flip", [False, True])
def test_a_coupling_moves_what_its_network_does_not_see(pattern: str, flip: bool) -> None:
    rng = np.random.default_rng(2)
    x, context = rng.standard_normal((2, 3, 4, 2)), rng.standard_normal((2, 8))
    seen, changed = images.num_channels((3, 4, 2), pattern, flip)
    shown = images.shown(x, context, pattern, flip, False)
    assert shown.shape == (2, seen + 8, 4, 2)
    np.testing.assert_array_equal(shown[:, seen:], np.broadcast_to(context[:, :, None, None], (2, 8, 4, 2)))
    as_image = images.shown(x, context, pattern, flip, True)
    np.testing.assert_array_equal(as_image[:, seen:], context.reshape(2, 1, 4, 2))
    raw = rng.standard_normal((2, 2 * changed, 4, 2))
    y, log_det = images.couple(x, raw, pattern, flip, affine.affine, False)
    differs = (y != x).all(0)
    if pattern == "channels":
        assert differs.sum() == changed * 8
        assert differs[0].all() == flip
        shift, scale = raw[:, :changed], affine.kept(raw[:, changed:])
        part = slice(0, changed) if flip else slice(3 - changed, 3)
        np.testing.assert_allclose(y[:, part], x[:, part] * np.exp(scale) + shift)
        np.testing.assert_allclose(log_det, scale.sum((1, 2, 3)))
    else:
        np.testing.assert_array_equal(differs, np.broadcast_to(images.checkerboard(4, 2, flip), (3, 4, 2)))
    # what it moves it does not look at
    np.testing.assert_array_equal(images.shown(y, context, pattern, flip, False), shown)
    back, _ = images.couple(y, raw, pattern, flip, affine.affine, True)
    np.testing.assert_allclose(back, x, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_loads_into_either_engine_with_the_same_density(name: str, tmp_path: Path) -> None:
    x, context = data()
    for context_dim in (0, 2):
        first, second = ENGINES
        program = moved(first, made(first, name, data=x, logit=0.05, context_dim=context_dim), scale=0.1)
        first.face.save(program, tmp_path / "a")
        other = second.face.load(tmp_path / "a")
        assert program.spec() == other.spec()
        assert other.spec() == made(second, name, data=x, logit=0.05, context_dim=context_dim).spec()
        told = {"y": context[:20]} if context_dim else {}
        one, two = (e.call("log_prob", p, x[:20], **told) for e, p in ((first, program), (second, other)))
        assert one.kind == two.kind == "exact"
        np.testing.assert_allclose(one.value, two.value, rtol=1e-4, atol=1e-3)
        assert not one.stderr.any()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [32, 64])
def test_flows_are_inverted(engine: Any, name: str, precision: int) -> None:
    """Whole flows at random parameters, the base's draws there and back."""
    own = jax.enable_x64(precision == 64)
    tolerance = {32: 2e-3, 64: 1e-9}[precision]
    torch.set_default_dtype(torch.float64 if precision == 64 else torch.float32)
    forth, back = whole(engine, to_data), whole(engine, to_base)
    try:
        with own:

            @settings(max_examples=4, deadline=None, database=None)
            @given(st.integers(0, 1000), st.floats(0.0, 0.2))
            def check(seed: int, scale: float) -> None:
                z = np.random.default_rng(seed).standard_normal((3, 16)).astype(f"f{precision // 8}")
                flow = moved(engine, made(engine, name, num_steps=1), seed, scale)
                x = plain(forth(flow, engine.array(z)))
                assert x.dtype == z.dtype
                np.testing.assert_allclose(plain(back(flow, engine.array(x))), z, atol=tolerance)

            check()
    finally:
        torch.set_default_dtype(torch.float32)
        jax.clear_caches()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_draws_follow_the_density(engine: Any, name: str) -> None:
    """Carried to the base they are standard normal; taken for the base's, they are not."""
    program = moved(engine, made(engine, name, num_steps=1), scale=0.2)
    draws = engine.call("sample", program, 3000)
    z = plain(whole(engine, to_base)(program, draws))
    error = np.sqrt(np.array([1.0, 2.0]) / len(z))

    def worst(values: np.ndarray) -> float:
        scores = np.abs(values.mean(0)) / error[0], np.abs((values**2).mean(0) - 1) / error[1]
        return float(np.max(scores))

    # 32 scores, each beyond 6 with probability 2e-9
    assert worst(z) < 6
    assert worst(plain(draws).reshape(len(z), -1)) > 6


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_flows_start_at_the_data(engine: Any) -> None:
    """At first couplings do nothing, and the first shift and scale makes each channel standard, by itself."""
    x = (data()[0] * 3 + 10).astype(np.float32)
    for name, rows in (("glow", images.squeeze(x)), ("realnvp_image", x)):
        program = made(engine, name, data=x)
        loc, sd = rows.mean((0, 2, 3), keepdims=True), rows.std((0, 2, 3), keepdims=True)
        normal = -0.5 * ((rows - loc) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
        found = engine.call("log_prob", program, x).value
        np.testing.assert_allclose(found, normal.sum((1, 2, 3)), atol=1e-3)
        assert np.abs(engine.call("log_prob", made(engine, name), x).value - found).min() > 1
    norm = engine.face.ActNorm2d(4, data=images.squeeze(x))
    for transform in (norm, engine.face.ActNorm2d(4).initialise(images.squeeze(x))):
        z = plain(transform.inv(engine.array(images.squeeze(x))))
        np.testing.assert_allclose(z.mean((0, 2, 3)), 0, atol=1e-4)
        np.testing.assert_allclose(z.std((0, 2, 3)), 1, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_fitting_lowers_the_loss_and_the_context_counts(engine: Any) -> None:
    x, context = data()
    program = made(engine, "glow", data=x, context_dim=2, logit=0.05)
    fit = engine.call("fit", program, x, context, steps=60, learning_rate=5e-3, progress=False)
    assert fit.losses[-10:].mean() < fit.losses[:5].mean() - 1
    own, other = (engine.call("log_prob", fit.program, x, y=c).value.mean() for c in (context, 1 - context))
    assert own > other + 0.5
    assert tuple(engine.call("sample", fit.program, 5, y=context[0]).shape) == (5, *SHAPE)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_scales_are_told_apart(engine: Any) -> None:
    """What the coarser scale draws reaches all pixels, and so does the finer; which entries are whose is told."""
    assert made(engine, "glow", num_scales=1).scales == (16,)
    assert engine.face.Flow(3, []).scales == (3,)
    for name in NAMES:
        program = moved(engine, made(engine, name, num_scales=2))
        assert program.scales == (8, 8)
        split = next(iter(program.transforms))
        z = np.random.default_rng(0).standard_normal((1, 16)).astype(np.float32)
        finer = z + np.r_[np.zeros(8), np.ones(8)].astype(np.float32)
        one, two = (plain(split(engine.array(value))) for value in (z, finer))
        np.testing.assert_array_equal(one[:, :2], two[:, :2])
        np.testing.assert_allclose(two[:, 2:] - one[:, 2:], 1, atol=1e-5)
    assert made(engine, "glow", num_scales=2, coupling="additive").spec() != made(engine, "glow").spec()


def test_jax_compiles_once() -> None:
    x, _ = data()
    program = made(NUMPYRO, "glow", num_steps=1)
    NUMPYRO.call("log_prob", program, x)
    other = moved(NUMPYRO, program)
    assert NUMPYRO.compiled(lambda: NUMPYRO.call("log_prob", other, x)) == 0


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_refusals(engine: Any) -> None:
    face, x = engine.face, engine.array(np.zeros((2, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match="num_scales: got 3 for images"):
        made(engine, "glow", num_scales=3)
    with pytest.raises(ValueError, match="num_steps: got 0"):
        made(engine, "realnvp_image", num_steps=0)
    with pytest.raises(ValueError, match="coupling: got 'spline'"):
        made(engine, "glow", coupling="spline")
    with pytest.raises(ValueError, match="event_shape: got"):
        engine.call(face.Flow.glow, (16,))
    with pytest.raises(ValueError, match="pattern: got 'stripes'"):
        engine.call(face.AffineCoupling2d.conv, (2, 4, 4), pattern="stripes")
    with pytest.raises(ValueError, match="expected two channels at least"):
        engine.call(face.AffineCoupling2d.conv, (1, 4, 4))
    with pytest.raises(ValueError, match="expected two pixels at least"):
        engine.call(face.AffineCoupling2d.conv, (1, 1, 1), pattern="checkerboard")
    with pytest.raises(ValueError, match="context_dim: got 5 with context_image"):
        engine.call(face.AffineCoupling2d.conv, (2, 4, 4), context_dim=5, context_image=True)
    with pytest.raises(ValueError, match="input of AdditiveCoupling2d: got shape"):
        engine.call(face.AdditiveCoupling2d.conv, (2, 4, 4))(x)
    network = engine.call(face.nn.ConvNet, 2, 5, (3,))
    with pytest.raises(ValueError, match="network: got outputs"):
        face.AffineCoupling2d(network, (3, 4, 4))(x)
    with pytest.raises(ValueError, match="input of ActNorm2d: got shape"):
        face.ActNorm2d(2)(x)
    with pytest.raises(ValueError, match="input of data of ActNorm2d"):
        face.ActNorm2d(2, data=np.zeros((4, 3, 2, 2)))
    with pytest.raises(ValueError, match="input of InvertibleConv1x1: got shape"):
        face.InvertibleConv1x1(4)(x)
    with pytest.raises(ValueError, match="permutation: got 2 numbers"):
        face.InvertibleConv1x1(3, permutation=[1, 0])
    with pytest.raises(ValueError, match="expected an even height and an even width"):
        face.Squeeze().inv(engine.array(np.zeros((2, 3, 4, 3), np.float32)))
    with pytest.raises(ValueError, match="channels that four divides"):
        face.Squeeze()(x)
    with pytest.raises(ValueError, match=r"transforms: got images of shape \(1, 8, 4\)"):
        face.Split([face.Unflatten((1, 8, 4))], (4, 4, 4))
    with pytest.raises(ValueError, match=r"transforms\[0\], Unflatten: got shape \(32,\)"):
        face.Split([face.Unflatten((1, 4, 4))], (4, 4, 4))
    with pytest.raises(ValueError, match="axes: got 0"):
        face.Logit(axes=0)


def test_orders_of_channels() -> None:
    assert shapes.channel_order(3, None) == (0, 1, 2)
    assert PYRO.face.InvertibleConv1x1(3).permutation == (0, 1, 2)
