"""Flows as programs: constructors, verbs, contexts, checkpoints, densities that integrate to one."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO

from deepgen.nn.bounded import bounded

NAMES = ("nice", "realnvp", "maf", "iaf", "nsf")


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """Two moons, and which moon as a one-hot context."""
    rng = np.random.default_rng(0)
    angle, moon = rng.random(600) * np.pi, rng.integers(0, 2, 600)
    x = np.stack([np.where(moon, np.cos(angle), 1 - np.cos(angle)), np.where(moon, np.sin(angle), 0.5 - np.sin(angle))])
    return (x.T + 0.1 * rng.standard_normal((600, 2))).astype(np.float32), np.eye(2, dtype=np.float32)[moon]


def made(engine: Any, name: str, **kwargs: Any) -> Any:
    return engine.call(getattr(engine.face.Flow, name), (2,), hidden=(8,), **kwargs)


def moved(engine: Any, program: Any, scale: float = 0.3) -> Any:
    rng = np.random.default_rng(1)
    shaken = {
        key: (value + scale * rng.standard_normal(value.shape)).astype(value.dtype)
        for key, value in engine.tensors(program).items()
    }
    return engine.with_tensors(program, shaken)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_loads_into_either_engine_with_the_same_density(name: str, tmp_path: Path) -> None:
    x, context = data()
    for context_dim in (0, 2):
        first, second = ENGINES
        program = moved(first, made(first, name, num_transforms=2, data=x, context_dim=context_dim))
        first.face.save(program, tmp_path / "a")
        other = second.face.load(tmp_path / "a")
        assert (
            program.spec()
            == other.spec()
            == made(second, name, num_transforms=2, data=x, context_dim=context_dim).spec()
        )
        told = {"y": context[:20]} if context_dim else {}
        one, two = (e.call("log_prob", p, x[:20], **told) for e, p in ((first, program), (second, other)))
        assert one.kind == two.kind == "exact"
        np.testing.assert_allclose(one.value, two.value, atol=2e-4)
        assert not one.stderr.any()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("name", ["realnvp", "nsf"])
def test_a_density_integrates_to_one(engine: Any, name: str) -> None:
    program = moved(engine, made(engine, name, num_transforms=2))
    line = np.linspace(-9, 9, 241, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    mass = np.exp(engine.call("log_prob", program, grid).value).sum() * (line[1] - line[0]) ** 2
    assert abs(mass - 1) < 2e-2


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_draws_follow_the_density(engine: Any) -> None:
    """Probability integral transform: the base's law is what the inverse gives, the radius chi-square with two."""
    program = moved(engine, made(engine, "nsf", num_transforms=2))
    draws = engine.call("sample", program, 4000)
    z = draws
    for transform in reversed(list(program.transforms)):
        z = transform.inv(z)
    z = z.detach().numpy() if isinstance(z, torch.Tensor) else np.asarray(z)
    error = np.sqrt(np.array([1.0, 2.0]) / len(z))
    assert np.abs(z.mean(0)).max() < 6 * error[0]
    assert np.abs((z**2).mean(0) - 1).max() < 6 * error[1]
    # the draws themselves, taken for the base's, are not of that law
    moments = np.asarray(draws).mean(0), (np.asarray(draws) ** 2).mean(0) - 1
    assert max(np.abs(moments[0]).max() / error[0], np.abs(moments[1]).max() / error[1]) > 6


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_flow_starts_at_the_data(engine: Any) -> None:
    x = (data()[0] * [3.0, 0.2] + [10.0, -4.0]).astype(np.float32)
    program = made(engine, "realnvp", num_transforms=2, data=x)
    normal = -0.5 * ((x - x.mean(0)) / x.std(0)) ** 2 - np.log(x.std(0)) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(engine.call("log_prob", program, x).value, normal.sum(1), atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_fitting_lowers_the_loss_and_the_context_counts(engine: Any) -> None:
    x, context = data()
    program = made(engine, "realnvp", num_transforms=2, data=x, context_dim=2)
    fit = engine.call("fit", program, x, context, steps=60, learning_rate=1e-2, progress=False)
    assert fit.losses[-10:].mean() < fit.losses[:5].mean() - 0.2
    own, other = (engine.call("log_prob", fit.program, x, y=c).value.mean() for c in (context, 1 - context))
    assert own > other + 0.2
    draws = engine.call("sample", fit.program, 5, y=context[0])
    assert tuple(draws.shape) == (5, 2)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_images_between_zero_and_one(engine: Any) -> None:
    x = np.random.default_rng(0).random((40, 1, 2, 3)).astype(np.float32)
    program = engine.call(
        engine.face.Flow.nsf, (1, 2, 3), hidden=(8,), num_transforms=2, logit=0.05, mixing="lu", data=x
    )
    assert program.event_shape == (1, 2, 3)
    assert tuple(engine.call("sample", program, 4).shape) == (4, 1, 2, 3)
    assert np.isfinite(engine.call("log_prob", program, x).value).all()


def test_the_engines_own_transforms_may_stand_among_them() -> None:
    x = data()[0][:5]
    truth = -0.5 * ((x - 1) / 2) ** 2 - np.log(2) - 0.5 * np.log(2 * np.pi)
    for engine in ENGINES:
        kind = numpyro.distributions.transforms if engine is NUMPYRO else torch.distributions
        program = engine.face.Flow(2, [kind.AffineTransform(1.0, 2.0)])
        np.testing.assert_allclose(engine.call("log_prob", program, x).value, truth.sum(1), atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_refusals(engine: Any) -> None:
    x, context = data()
    plain, conditional = made(engine, "maf", num_transforms=1), made(engine, "maf", num_transforms=1, context_dim=2)
    with pytest.raises(ValueError, match=r"expected none\. Make the flow with context_dim"):
        engine.call("fit", plain, x, context, steps=1)
    with pytest.raises(ValueError, match="context: got none"):
        engine.call("log_prob", conditional, x)
    with pytest.raises(ValueError, match="context: got 600 rows"):
        engine.call("log_prob", conditional, x[:3], y=context)
    with pytest.raises(ValueError, match="base: got"):
        engine.face.Flow(2, [], base="cauchy")
    with pytest.raises(ValueError, match="mixing: got"):
        made(engine, "nsf", mixing="stir")
    with pytest.raises(ValueError, match=r"hidden: got ''; expected a sequence of whole numbers"):
        engine.call(engine.face.Flow.nsf, (2,), hidden="")
    for name in ("realnvp", "maf", "cnf"):
        with pytest.raises(ValueError, match=r"context_(dim|size): got -1; expected a whole number >= 0"):
            made(engine, name, context_dim=-1)
    with pytest.raises(ValueError, match=r"context: got 2 rows; expected 3, one for each row that is given or drawn"):
        engine.call("sample", conditional, 3, y=context[:2])
    unit = made(engine, "maf", num_transforms=1, logit=0.05)
    with pytest.raises(ValueError, match=r"x: got values from -0.2.* to 0.5; expected values in \[0, 1\]"):
        engine.call("log_prob", unit, np.float32([[-0.2, 0.5], [np.nan, 0.1]]))
    assert np.isfinite(engine.call("log_prob", unit, np.float32([[0.0, 1.0]])).value).all()
    holes = np.where(x[:4] > 1, np.nan, x[:4])
    with pytest.raises(ValueError, match=r"missing entries|NaN"):
        plain.check_data(holes)


def test_jax_compiles_once() -> None:
    x, _ = data()
    program = made(NUMPYRO, "realnvp", num_transforms=1)
    NUMPYRO.call("log_prob", program, x)
    assert NUMPYRO.compiled(lambda: NUMPYRO.call("log_prob", moved(NUMPYRO, program), x)) <= 2
    assert isinstance(jax.tree.leaves(program)[0], jax.Array)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_transform_to_which_another_shape_comes_is_refused(engine: Any) -> None:
    face = engine.face
    coupling = engine.call(face.SplineCoupling.mlp, [True, False, True], hidden=(4,))
    for name, transform in {
        "SplineCoupling": coupling,
        "AffineCoupling": engine.call(face.AffineCoupling.mlp, [True, False, True], hidden=(4,)),
        "AffineAutoregressive": engine.call(face.AffineAutoregressive.mlp, 3, hidden=(4,)),
        "Permute": face.Permute([2, 0, 1]),
        "ActNorm": face.ActNorm(3),
        "LULinear": face.LULinear(3),
        "CNF": engine.call(face.CNF.mlp, 3, hidden=(4,)),
    }.items():
        message = rf"transforms\[1\], {name}: got shape \(4,\) from what stands before it; expected \(3,\)"
        with pytest.raises(ValueError, match=message):
            face.Flow(4, [face.Permute([2, 0, 1, 3]), transform])
        assert face.Flow(3, [transform]).event_shape == (3,)
    with pytest.raises(
        ValueError, match=r"transforms\[1\], ActNorm2d: got shape \(1, 2, 2\).*expected \(2, any, any\)"
    ):
        face.Flow(4, [face.Unflatten((1, 2, 2)), face.ActNorm2d(2)])
    with pytest.raises(ValueError, match=r"transforms\[0\], Unflatten: got shape \(4,\).*expected \(8,\)"):
        face.Flow(4, [face.Unflatten((2, 2, 2))])
    with pytest.raises(ValueError, match=r"transforms\[0\], Split: got shape \(4,\).*expected \(8,\)"):
        face.Flow(4, [face.Split([face.Unflatten((1, 2, 2))], (2, 2, 2))])


@pytest.mark.parametrize("parallel", ["inverse", "forward"])
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_direction_of_one_pass_scales_and_then_shifts(engine: Any, parallel: str) -> None:
    transform = engine.call(engine.face.AffineAutoregressive.mlp, 3, parallel=parallel, hidden=(4,), max_log_scale=1.5)
    (transform,) = moved(engine, engine.face.Flow(3, [transform]), scale=1.0).transforms
    v = engine.array(np.random.default_rng(2).standard_normal((7, 3)).astype(np.float32))
    given = transform.network(v)
    shift, log_scale = given[:, 0], bounded(given[:, 1], -1.5, 1.5)
    value, log_det = getattr(transform, f"{parallel}_and_log_det")(v)
    scale = np.exp(np.asarray(log_scale.detach() if engine is PYRO else log_scale))
    shift, value, log_det = (np.asarray(a.detach() if engine is PYRO else a) for a in (shift, value, log_det))
    np.testing.assert_allclose(value, np.asarray(v) * scale + shift, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_det, np.log(scale).sum(1), rtol=1e-5, atol=1e-5)
    assert np.abs(value - (np.asarray(v) - shift) * scale).max() > 0.1, "the shift before the scale"


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_a_masked_flow_of_an_earlier_form_is_refused(engine: Any) -> None:
    earlier = {name: made(engine, name).spec() for name in ("maf", "iaf")}
    for transform in (each for spec in earlier.values() for each in spec["transforms"]):
        transform.pop("form", None)
    with pytest.raises(ValueError, match=r"AffineAutoregressive: got .*earlier deepgen; expected .* Fit the program"):
        engine.build("flow", earlier["maf"])
    assert engine.build("flow", earlier["iaf"]).event_shape == (2,)
