"""Programs with classes: priors, posteriors and convolutions, against closed forms and between the engines."""

from functools import cache
from pathlib import Path
from typing import Any

import class_laws as exact
import numpy as np
import pytest
from engines import ENGINES, NUMPYRO
from labelling import LOG_PI, D, K
from montecarlo import worst_moment
from registry import randomised
from scipy import stats
from scipy.special import logsumexp

from deepgen.models.vae import classes, posterior

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
X, TRUTH = exact.draw(np.random.default_rng(11), 12)
MIXED = np.where(np.arange(len(X)) % 3 == 0, TRUTH, -1).astype(np.int32)
HOLES = np.where(np.arange(X.size).reshape(X.shape) % 3 == 0, np.nan, X).astype(np.float32)
SIGMAS = 5.0
"""Monte Carlo errors allowed: a hundred normal scores exceed it with probability below 1e-4, and seeds are fixed."""


@cache
def program(engine: Any) -> Any:
    return engine.with_tensors(engine.build("vae", exact.CONFIG), exact.TENSORS)


def altered(engine: Any, name: str, value: np.ndarray) -> Any:
    return engine.with_tensors(engine.build("vae", exact.CONFIG), {**exact.TENSORS, name: value.astype(np.float32)})


# a flow as prior and a full covariance, whose law is known


@BOTH
def test_the_bound_of_an_exact_guide_is_the_log_density(engine: Any) -> None:
    """Whatever is drawn: every row's log p(x, y) where its class is known, log p(x) where it is not."""
    objective, truth = engine.face.EnumELBO(), exact.known(X, MIXED).sum()

    def loss(own: Any) -> float:
        return float(engine.bound(own, objective, (X, MIXED))["loss"])

    assert loss(program(engine)) == pytest.approx(-truth, rel=1e-5)
    config, tensors = exact.BY_FLOW
    assert loss(engine.with_tensors(engine.build("vae", config), tensors)) == pytest.approx(-truth, rel=1e-5)
    off = exact.TENSORS["prior.flow.transforms.0.bias"] + 0.1
    assert loss(altered(engine, "prior.flow.transforms.0.bias", off)) != pytest.approx(-truth, rel=1e-4)
    bias = exact.TENSORS["encoder.layers.0.bias"] * [1, 1, 1, 1, 0]
    assert loss(altered(engine, "encoder.layers.0.bias", bias)) != pytest.approx(-truth, rel=1e-3), "no covariance"


@BOTH
def test_values_classes_and_completions_of_rows_with_holes(engine: Any) -> None:
    own, joint = program(engine), exact.log_joint(HOLES)
    score = engine.call("log_prob", own, HOLES, y=MIXED, num_particles=2000)
    truth = exact.known(HOLES, MIXED) - np.where(MIXED >= 0, LOG_PI[MIXED], 0.0)
    assert (np.abs(score.value - truth) < SIGMAS * score.stderr + 1e-4).all()
    assert score.stderr.max() < 0.1
    found = engine.call("classify", own, HOLES, method="importance", num_particles=2000)
    truth = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    assert (np.abs(found.value - truth) < SIGMAS * found.stderr + 1e-5).all()
    post = engine.call("impute", own, HOLES, y=MIXED, method="sir", num_samples=400, num_particles=2000)
    draws = np.concatenate([post.posterior["x"].values, post.posterior["z"].values], axis=-1).astype(float)
    ess = post.sample_stats["ess"].values
    assert worst_moment(draws, *exact.conditional(HOLES, MIXED), ess) < 1
    assert worst_moment(draws, *exact.conditional(HOLES, TRUTH), ess) > 1, "the classes taken for known"


@BOTH
def test_samples_of_a_class_have_the_moments_of_its_prior(engine: Any) -> None:
    draws = np.asarray(engine.call("sample", program(engine), 4000, y=1), dtype=float).reshape(1, 4000, 1, D)
    covariance = exact.COVARIANCE[None, :D, :D]
    assert worst_moment(draws, exact.MEANS[1:2, :D], covariance) < 1
    standard = exact.LOADING @ exact.LOADING.T + exact.NOISE**2 * np.eye(D)
    assert worst_moment(draws, exact.CENTRES[1:2], standard[None]) > 1, "a standard normal in the prior's place"


@BOTH
def test_a_vamp_prior_mixes_posteriors_of_learned_inputs_and_classes(engine: Any) -> None:
    config = {**exact.CONFIG, "posterior": {"posterior": "diagonal"}}
    config |= {"encoder": {**config["encoder"], "out_size": 2 * exact.L}, "prior": {"prior": "standard"}}
    plain = randomised(engine, "vae", config)
    tensors, rng = dict(engine.tensors(plain)), np.random.default_rng(0)
    pseudo = rng.standard_normal((4, D + K)).astype(np.float32)
    vamp = config | {"prior": {"prior": "vamp", "num_components": 4, "num_features": D + K}}
    own = engine.with_tensors(engine.build("vae", vamp), {**tensors, "prior.pseudo_inputs": pseudo})
    z, latents = rng.standard_normal((len(X), exact.L)).astype(np.float32), {"y": TRUTH}
    found = engine.log_joint(own, latents | {"z": z}, X) - engine.log_joint(plain, latents | {"z": z}, X)
    numbers = pseudo @ tensors["encoder.layers.0.weight"].T + tensors["encoder.layers.0.bias"]
    loc, scale = numbers[:, : exact.L], posterior.scale(numbers[:, exact.L :])
    each = stats.norm.logpdf(z[:, None], loc, scale).sum(-1)
    expected = logsumexp(each, axis=1) - np.log(4) - stats.norm.logpdf(z).sum(-1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


@BOTH
def test_pseudo_inputs_start_at_data_of_every_class(engine: Any) -> None:
    options = {"hidden": (), "prior": "vamp", "num_components": 5, "data": HOLES}
    made = engine.call(engine.face.ClassVAE.mlp, (D,), 2, K, "gaussian", **options)
    pseudo = engine.tensors(made)["prior.pseudo_inputs"]
    np.testing.assert_array_equal(pseudo[:, D:], np.eye(K)[[0, 1, 2, 0, 1]])
    rows = np.where(np.isnan(HOLES), np.nanmean(HOLES, axis=0), HOLES)
    assert np.abs(pseudo[:, None, :D] - rows).max(-1).min(1).max() < 0.05


# convolutions

IMAGE = (2, 5, 4)
_CONV: dict[str, Any] = {"hidden": [6], "kernel_size": 3, "activation": "gelu"}
CONV = {
    "program": "class_conditional",
    "latent_dim": 2,
    "num_classes": K,
    "learn_classes": True,
    "input_shape": list(IMAGE),
    "observation": {"law": "gaussian", "event_shape": list(IMAGE)},
    "classifier": {**_CONV, "network": "ConvEncoder", "in_shape": list(IMAGE), "out_size": K, "channels": [3, 4]},
    "encoder": {**_CONV, "network": "ConvEncoder", "in_shape": [2 + K, 5, 4], "out_size": 5, "channels": [3, 4]},
    "decoder": {**_CONV, "network": "ConvDecoder", "in_size": 2 + K, "out_shape": list(IMAGE), "channels": [4, 3]},
    "posterior": {"posterior": "full"},
    "prior": {"prior": "vamp", "num_components": 3, "num_features": 40 + K},
}
IMAGES = np.random.default_rng(4).random((8, *IMAGE)).astype(np.float32)
LABELS = np.array([0, 1, 2, -1, -1, 1, -1, 0], dtype=np.int32)


def test_codes_of_images_are_planes() -> None:
    code = classes.one_hot(np.array([[0], [2]]), 3, IMAGES)
    shown = classes.beside(IMAGES, code, 3)
    assert shown.shape == (2, 8, 5, 5, 4)
    np.testing.assert_array_equal(shown[1, :, :2], IMAGES)
    np.testing.assert_array_equal(shown[0, 3, 2:], np.eye(3)[0][:, None, None] * np.ones((3, 5, 4)))
    np.testing.assert_array_equal(shown[1, 3, 2:], np.eye(3)[2][:, None, None] * np.ones((3, 5, 4)))


def test_the_engines_agree_on_images() -> None:
    """The same parameters and noise: loss and gradients of rows of which some have labels; and what has no noise."""
    tensors, found = NUMPYRO.tensors(randomised(NUMPYRO, "vae", CONV)), []
    for engine in ENGINES:
        own = engine.with_tensors(engine.build("vae", CONV), tensors)
        numbers = engine.bound(own, engine.face.EnumELBO(alpha=0.5), (IMAGES, LABELS))
        assert len(numbers) == 1 + 3 * 8 + 3
        numbers["path"] = np.asarray(engine.call("interpolate", own, IMAGES[:2], IMAGES[2:4], 3, y=[0, 2]))
        numbers["active"] = engine.call("active_units", own, IMAGES, y=LABELS).kl
        numbers["classes"] = engine.call("classify", own, IMAGES).value
        found.append(numbers)
    assert found[0].keys() == found[1].keys()
    for name, first in found[0].items():
        np.testing.assert_allclose(first, found[1][name], rtol=2e-4, atol=2e-5 * np.abs(first).max(), err_msg=name)
        assert np.abs(first).max() > 0, name


@BOTH
@pytest.mark.filterwarnings("ignore:the posterior has collapsed", "ignore:the importance weights of")
def test_images_with_classes_in_every_verb(engine: Any, tmp_path: Path) -> None:
    x = IMAGES.copy()
    x[::2, 0, 1:3] = np.nan
    flow = engine.call(engine.face.Flow.maf, (2,), num_transforms=1, hidden=(4,))
    options = {"channels": (3, 4), "hidden": (6,), "posterior": "full", "prior": flow, "data": x}
    start = engine.call(engine.face.ClassVAE.conv, IMAGE, 2, K, "gaussian", **options)
    before = {name: value.copy() for name, value in engine.tensors(start).items()}
    objective = engine.face.EnumELBO(alpha=1.0)
    fit = engine.call("fit", start, x, LABELS, steps=2, chunk=2, objective=objective, progress=False)
    assert np.isfinite(fit.losses).all()
    own, after = fit.program, engine.tensors(fit.program)
    assert [name for name, value in before.items() if (after[name] == value).all()] == ["fill"]
    assert np.asarray(engine.call("sample", own, 3, y=2)).shape == (3, *IMAGE)
    score = engine.call("log_prob", own, x, y=LABELS, num_particles=20)
    assert score.kind == "bound"
    assert np.isfinite(score.value).all()
    post = engine.call("impute", own, x, y=LABELS, method="sir", num_samples=4, num_particles=50).posterior
    assert (post["x"].values[..., ~np.isnan(x)] == x[~np.isnan(x)]).all()
    assert (post["y"].values == LABELS)[:, :, LABELS >= 0].all()
    assert np.asarray(engine.call("reconstruct", own, x, y=LABELS)).shape == x.shape
    assert np.asarray(engine.call("interpolate", own, x[:2], x[2:4], 3, y=1)).shape == (3, 2, *IMAGE)
    assert engine.call("active_units", own, x).active.shape == (2,)
    np.testing.assert_allclose(engine.call("classify", own, x).value.sum(1), 1.0, rtol=1e-5)
    engine.face.save(own, tmp_path)
    for other in ENGINES:
        loaded = other.face.load(tmp_path)
        assert type(loaded) is other.face.ClassVAE
        assert loaded.spec() == own.spec()
        assert all((other.tensors(loaded)[name] == value).all() for name, value in after.items())


@BOTH
def test_conv_is_built_as_asked(engine: Any) -> None:
    data = (np.random.default_rng(0).random((300, *IMAGE)) < 0.3).astype(np.float32)
    options = {"channels": (4, 6), "hidden": (8, 7), "kernel_size": 5, "num_categories": None, "data": data}
    flow = engine.call(engine.face.Flow.iaf, (2,), num_transforms=1, hidden=(4,), context_dim=3)
    program = engine.call(engine.face.ClassVAE.conv, IMAGE, 2, K, **options, posterior=flow, learn_classes=False)
    spec = program.spec()
    assert spec["input_shape"] == list(IMAGE)
    assert not spec["learn_classes"]
    up = {"network": "ConvEncoder", "channels": [4, 6], "hidden": [8, 7], "kernel_size": 5, "activation": "gelu"}
    assert spec["classifier"] == {**up, "in_shape": [2, 5, 4], "out_size": K}
    assert spec["encoder"] == {**up, "in_shape": [2 + K, 5, 4], "out_size": 4 + 3}
    down = {**up, "network": "ConvDecoder", "channels": [6, 4], "hidden": [7, 8]}
    assert spec["decoder"] == {**down, "in_size": 2 + K, "out_shape": [2, 5, 4]}
    tensors = dict(engine.tensors(program))
    last = max(name for name in tensors if name.startswith("decoder.convolutions") and name.endswith("weight"))
    silent = engine.with_tensors(program, {**tensors, last: 0 * tensors[last]})
    mean = silent.decode(engine.array(np.zeros((1, 2), np.float32)), engine.array(np.zeros(1, np.int32)))
    np.testing.assert_allclose(np.asarray(mean.tolist())[0], data.mean(0), atol=1e-5)


@BOTH
def test_refusals(engine: Any) -> None:
    make = engine.face.ClassVAE
    for constructor, shape in ((make.mlp, (D,)), (make.conv, IMAGE)):
        with pytest.raises(
            ValueError, match="posterior: got 'conjugate', the posterior of one linear-Gaussian program"
        ):
            engine.call(constructor, shape, 2, K, posterior="conjugate")
        with pytest.raises(ValueError, match="posterior: got 'diag'; expected one of"):
            engine.call(constructor, shape, 2, K, posterior="diag")
        with pytest.raises(ValueError, match="num_components: got None; expected a number >= 2"):
            engine.call(constructor, shape, 2, K, prior="mixture")
        with pytest.raises(ValueError, match=r"prior: got a flow of event_shape \(3,\) for latent_dim=2"):
            engine.call(constructor, shape, 2, K, prior=engine.call(engine.face.Flow.maf, (3,), hidden=(4,)))
    with pytest.raises(ValueError, match=r"event_shape: got \(4,\); expected \(channels, height, width\)"):
        engine.call(make.conv, (D,), 2, K)
    with pytest.raises(ValueError, match="channels: got none; expected at least one"):
        engine.call(make.conv, IMAGE, 2, K, channels=())
    own = program(engine)
    parts = own.classifier, own.encoder, own.decoder, own.observation, exact.L, K
    conjugate = engine.call(engine.face.VAE.mlp, (D,), 2, "gaussian", hidden=(), posterior="conjugate").posterior
    with pytest.raises(ValueError, match="expected a posterior that the encoder gives: 'diagonal', 'full' or a flow"):
        make(*parts, posterior=conjugate)
