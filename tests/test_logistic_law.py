"""The law of integer pixels in VAEs: coupled channels, gaps, starts, refusals, bits per dimension, every verb."""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro
import pyro
import pytest
import torch
from element_laws import squash
from engines import ENGINES, NUMPYRO, PYRO
from logistic_laws import pixel_probabilities, probabilities

import deepgen.program.numpyro
import deepgen.program.pyro
from deepgen.evaluation import bits_per_dim
from deepgen.likelihoods import laws

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
EVENT, V, K = (3, 2, 4), 6, 2
LOG_SCALE = (-np.log(V - 1) - 2, 2.0)


def law_of(engine: Any, coupled: bool | None = None, event_shape: tuple[int, ...] = EVENT) -> Any:
    return engine.face.likelihoods.DiscretizedLogistic(event_shape, K, V, coupled)


def outputs(rows: int = 2) -> np.ndarray:
    """(rows, 10 K, height, width) of a decoder."""
    return np.random.default_rng(4).standard_normal((rows, 10 * K, 2, 4)).astype(np.float32)


def pixel_of(row: np.ndarray, i: int, j: int) -> np.ndarray:
    """(V, V, V) the law of one pixel, the outputs' layout restated."""
    own = row[:, i, j].astype(float)
    loc, raw, coefficients = own[K:].reshape(3, 3, K)
    return pixel_probabilities(own[:K], loc, np.exp(squash(raw, *LOG_SCALE)), np.tanh(coefficients), V)


def data(rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Images whose channels go together, and the same with whole pixels missing."""
    rng = np.random.default_rng(2)
    x = np.clip(rng.integers(0, V, (rows, 1, 2, 4)) + rng.integers(-1, 2, (rows, *EVENT)), 0, V - 1).astype(np.int32)
    gaps = rng.random((rows, 1, 2, 4)) < 0.3
    gaps[:, :, 0, 0] = False
    return x, np.where(gaps, -1, x).astype(np.int32)


@cache
def program_of(engine: Any, likelihood: str = "law") -> Any:
    x, _ = data()
    law = law_of(engine) if likelihood == "law" else likelihood
    return engine.call(engine.face.VAE.conv, EVENT, 2, law, channels=(4,), data=x)


@BOTH
def test_an_image_has_the_law_of_its_pixels(engine: Any) -> None:
    law, raw = law_of(engine), outputs()
    assert (law.coupled, law.outputs_shape, law.feature_shape) == (True, (10 * K, 2, 4), EVENT)
    x, _ = data(2)
    fn = law(engine.array(raw))
    assert (tuple(fn.batch_shape), tuple(fn.event_shape)) == ((2,), EVENT)
    expected = np.array(
        [
            sum(np.log(pixel_of(row, i, j)[tuple(image[:, i, j])]) for i, j in np.ndindex(2, 4))
            for row, image in zip(raw, x, strict=True)
        ]
    )
    np.testing.assert_allclose(plain(fn.log_prob(engine.array(x))), expected, rtol=1e-4)
    turned = x[:, ::-1].copy()
    assert not np.allclose(plain(fn.log_prob(engine.array(turned))), expected, rtol=1e-2)


def plain(value: Any) -> np.ndarray:
    return value.detach().numpy().copy() if isinstance(value, torch.Tensor) else np.array(value)


@BOTH
def test_missing_pixels_are_integrated_out_and_parts_of_pixels_are_not(engine: Any) -> None:
    """By the handler on a plain model: whole pixels leave the density, parts of them are refused."""
    raw = outputs(1)
    fn = law_of(engine)(engine.array(raw))
    x, _ = data(1)
    holes = x.astype(np.float32)
    holes[:, :, 1, 2:] = np.nan
    seen = [(i, j) for i, j in np.ndindex(2, 4) if not (i == 1 and j >= 2)]
    expected = sum(np.log(pixel_of(raw[0], i, j)[tuple(x[0, :, i, j])]) for i, j in seen)
    assert observed_log_prob(engine, fn, holes) == pytest.approx(expected, rel=1e-4)
    holes[0, 1, 0, 0] = np.nan
    message = r"1 blocks along axis -3 with some of their entries missing, the first at \(0, 0, 0, 0\)"
    with pytest.raises(ValueError, match=message):
        observed_log_prob(engine, fn, holes)


def observed_log_prob(engine: Any, fn: Any, x: np.ndarray) -> float:
    if engine is NUMPYRO:
        handled = engine.face.missing(lambda: numpyro.sample("x", fn), data={"x": x}, latent=False)
        trace = numpyro.handlers.trace(numpyro.handlers.seed(handled, 0)).get_trace()
        return float(trace["x"]["fn"].log_prob(trace["x"]["value"]).sum())
    handled = engine.face.missing(lambda: pyro.sample("x", fn), data={"x": x}, latent=False)
    return float(pyro.poutine.trace(handled).get_trace().log_prob_sum())


@BOTH
def test_a_pixel_observed_in_part_makes_the_density_of_its_row_nan(engine: Any) -> None:
    """Where no check came before: never a number that is not the density."""
    program = program_of(engine)
    x, holes = data(3)
    seen = holes >= 0
    seen[1, 2, 0, 0] = False
    latents = {"z": np.zeros((3, 2), dtype=np.float32)}
    found = log_joint(engine, program, latents, x, seen)
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])


def log_joint(engine: Any, program: Any, latents: Any, x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    given = {name: engine.array(value) for name, value in latents.items()}
    arrays = given, engine.array(x), engine.array(seen)
    if engine is PYRO:
        with deepgen.program.pyro.isolated():
            return plain(deepgen.program.pyro.log_joint(program.model, *arrays))
    return plain(jax.jit(lambda *arrays: deepgen.program.numpyro.log_joint(program.model, *arrays))(*arrays))


def test_both_engines_give_the_same_densities_and_gradients() -> None:
    """Of a program of images with coupled channels, at the same random parameters, latents and noise."""
    x, holes = data(4)
    latents = {"z": np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)}
    rng, found = np.random.default_rng(3), []
    tensors = {
        name: (value + 0.2 * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in NUMPYRO.tensors(program_of(NUMPYRO)).items()
    }
    for engine in ENGINES:
        program = engine.build("vae", program_of(engine).spec())
        program = engine.with_tensors(program, tensors)
        found.append(engine.numbers(program, latents, x, (holes, holes >= 0), 5, {"ELBO": engine.face.ELBO()}))
    assert found[0].keys() == found[1].keys()
    assert len([name for name in found[0] if "gradient by decoder" in name]) >= 4
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-3, atol=2e-3, err_msg=name)
    assert not np.allclose(found[0]["log joint"], found[0]["log joint of the observed"], rtol=1e-2)


@BOTH
def test_every_verb_takes_images_with_missing_pixels(engine: Any, tmp_path: Path) -> None:
    x, holes = data()
    program = program_of(engine)
    with warnings.catch_warnings():
        # twelve steps are too few for the latents to matter
        warnings.simplefilter("ignore", UserWarning)
        fit = engine.call("fit", program, holes, steps=12, batch_size=8, progress=False)
    assert np.isfinite(fit.losses).all()
    drawn = plain(engine.call("sample", fit.program, 6))
    assert (drawn.dtype.kind, drawn.shape) == ("i", (6, *EVENT))
    assert (drawn.min() >= 0) & (drawn.max() <= V - 1)
    value = engine.call("log_prob", fit.program, holes, num_particles=20).value
    assert np.isfinite(value).all()
    assert (value > engine.call("log_prob", fit.program, x, num_particles=20).value).mean() > 0.8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        post = engine.call("impute", fit.program, holes, method="sir", num_samples=20, num_particles=50)
    completed = post.posterior["x"].values
    seen = holes >= 0
    assert completed.dtype.kind == "i"
    assert (completed[:, :, seen] == holes[seen]).all()
    hidden = completed[:, :, ~seen]
    assert (hidden.min() >= 0) & (hidden.max() <= V - 1) & (hidden.std((0, 1)).mean() > 0.1)
    shown = plain(engine.call("reconstruct", fit.program, holes))
    assert (shown.dtype.kind, shown.shape) == ("f", x.shape)
    assert (shown >= 0).all() & (shown <= V - 1).all() & (shown != np.rint(shown)).any()
    engine.face.save(fit.program, tmp_path)
    for other in ENGINES:
        again = other.face.load(tmp_path)
        assert again.spec() == fit.program.spec()
        tensors = engine.tensors(fit.program)
        assert all((value == tensors[name]).all() for name, value in other.tensors(again).items())


@BOTH
def test_bits_per_dimension_of_integers(engine: Any) -> None:
    """A decoder that says the same of every latent has a law that is known exactly; 8 bits where all are alike."""
    shape, rng = (5,), np.random.default_rng(0)
    x = rng.integers(0, 256, (40, *shape)).astype(np.uint8)
    program = engine.call(engine.face.VAE.mlp, shape, 1, "discretized_logistic", hidden=(), data=x)
    tensors = {
        name: value * (0 if name == "decoder.layers.0.weight" else 1) for name, value in engine.tensors(program).items()
    }
    program = engine.with_tensors(program, {name: value.astype(np.float32) for name, value in tensors.items()})
    bias = tensors["decoder.layers.0.bias"].astype(float).reshape(3, 5, 5)
    logits, loc, raw = (part.T for part in bias)
    p = probabilities(logits, loc, np.exp(squash(raw, -np.log(255) - 2, 2.0)), 256)
    exact = np.log(np.take_along_axis(p, x.astype(int), axis=0)).sum(1)
    encoder = {name: np.zeros_like(value) for name, value in tensors.items() if name.startswith("encoder")}
    program = engine.with_tensors(program, {**engine.tensors(program), **encoder})
    found = engine.call("log_prob", program, x, num_particles=300).value
    # the encoder's zeros are not quite the prior's scale: what is left is Monte Carlo
    bits = bits_per_dim(found, 5)
    assert bits.value == pytest.approx(-exact.mean() / (5 * np.log(2)), abs=0.02)
    assert 7.9 < bits.value < 8.3


def test_a_start_has_the_marginals_of_the_data() -> None:
    """Before rounding, with holes; the components of an element apart from each other."""
    _, holes = data(200)
    wide = np.where(holes < 0, -1, 40 * holes + np.arange(200)[:, None, None, None] % 30)
    for coupled in (True, False):
        law = PYRO.face.likelihoods.DiscretizedLogistic(EVENT, K, 256, coupled)
        start = law.start(wide)
        assert start.shape == law.outputs_shape
        if coupled:
            loc, raw, coefficients = start[K:].reshape(3, 3, K, 2, 4).swapaxes(1, 2)
            assert not coefficients.any()
        else:
            _, loc, raw = start.reshape(3, K, *EVENT)
        mean, scale = 255 * (loc + 1) / 2, 255 / 2 * np.exp(squash(raw, -np.log(255) - 2, 2.0))
        seen = np.where(wide < 0, np.nan, wide.astype(float))
        np.testing.assert_allclose(mean.mean(0), np.nanmean(seen, axis=0), rtol=0.01)
        variance = (mean**2 + np.pi**2 / 3 * scale**2).mean(0) - mean.mean(0) ** 2
        np.testing.assert_allclose(variance, np.nanvar(seen, axis=0), rtol=0.02)
        assert (np.diff(mean, axis=0) > 10).all()


def test_a_start_of_little_data_is_finite() -> None:
    law = law_of(NUMPYRO, coupled=False, event_shape=(3,))
    start = law.start(np.array([[2, 5, -1], [2, -1, -1]]))
    assert np.isfinite(start).all()
    loc = start.reshape(3, K, 3)[1]
    np.testing.assert_allclose(loc, [[-0.2, 1.0, -1.0]] * 2)
    np.testing.assert_allclose(law.feature_mean(np.array([[2, 5, -1], [3, -1, -1]])), [0.0, 1.0, 0.0])


@BOTH
def test_names_numbers_and_channels(engine: Any) -> None:
    make = engine.face.likelihoods.observation
    assert make("discretized_logistic", (4,)).spec() == {
        "law": "discretized_logistic",
        "event_shape": [4],
        "num_components": 5,
        "num_values": 256,
        "coupled": False,
    }
    assert make("discretized_logistic", (3, 4, 4)).coupled
    assert not any(make("discretized_logistic", shape).coupled for shape in ((1, 4, 4), (3,), (3, 4)))
    assert make("discretized_logistic", (4,), 16).num_values == 16
    assert law_of(engine, False).outputs_shape == (3 * K, *EVENT)
    law = engine.face.likelihoods.DiscretizedLogistic
    with pytest.raises(ValueError, match="num_values: got 1; expected a number >= 2"):
        make("discretized_logistic", (4,), 1)
    with pytest.raises(ValueError, match="num_components: got 0; expected a number >= 1"):
        law((4,), 0)
    with pytest.raises(ValueError, match=r"coupled: got True for an event of shape \(1, 4, 4\); expected three"):
        law((1, 4, 4), coupled=True)


REFUSED: list[tuple[Any, str]] = [
    (np.full((1, *EVENT), 0.3), r"values from 0\.3 to 0\.3 under.*0 to 5\. Scale them: np\.rint\(5 \* x\)\.astype"),
    (np.full((1, *EVENT), -0.5), r"expected the integers 0 to 5\. Scale them: np\.rint\(5 \* \(x \+ 1\) / 2\)"),
    (np.full((1, *EVENT), 9), r"values from 9 to 9.*set num_values \(num_classes of a constructor\) to 10"),
    (np.full((1, *EVENT), 2.5), r"values from 2\.5 to 2\.5.*Round them"),
    (np.where(np.arange(24).reshape(1, *EVENT) == 9, -1, 2), r"x: got 1 pixels with some of their channels missing"),
]


@pytest.mark.parametrize(("x", "message"), REFUSED)
def test_what_the_law_cannot_produce_is_refused(x: np.ndarray, message: str) -> None:
    for engine in ENGINES:
        with pytest.raises(ValueError, match=message):
            laws.check_data(law_of(engine), x, missing=True)


def test_single_channels_may_be_missing_where_they_are_not_coupled() -> None:
    x = np.where(np.arange(24).reshape(1, *EVENT) == 9, np.nan, 2.0)
    found = laws.check_data(law_of(NUMPYRO, coupled=False), x, missing=True)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.where(np.isnan(x), -1, 2))
