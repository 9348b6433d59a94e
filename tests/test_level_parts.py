"""Stochastic levels with full covariances, other priors on top, and convolutions below them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from element_laws import stretch
from engines import ENGINES, NUMPYRO, PYRO
from registry import INSTANCES, randomised
from scipy import stats
from scipy.special import logsumexp

from deepgen.models.vae import posterior
from deepgen.models.vae.normals import Correlated, Normal

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
QUICK_IN_PYRO = pytest.mark.parametrize(
    "engine", [pytest.param(NUMPYRO, marks=pytest.mark.slow, id="numpyro"), pytest.param(PYRO, id="pyro")]
)
"""Where NumPyro compiles for long what the parity of the engines says already."""
NAMED = {repr(instance): instance for instance in INSTANCES}


def plain(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


# mathematics


def correlated(rng: np.random.Generator, *batch: int, dim: int = 3) -> Correlated:
    root = np.tril(rng.standard_normal((*batch, dim, dim)), -1)
    return Correlated(
        rng.standard_normal((*batch, dim)), root + np.eye(dim) * rng.uniform(0.4, 2.0, (*batch, dim))[..., None]
    )


def product(first: Correlated, second: Normal) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance by the sum of precisions."""
    own = np.linalg.inv(first.root @ np.swapaxes(first.root, -2, -1))
    other = np.eye(own.shape[-1]) / second.scale[..., None] ** 2
    covariance = np.linalg.inv(own + other)
    potential = own @ first.loc[..., None] + other @ second.loc[..., None]
    return (covariance @ potential)[..., 0], covariance


def test_a_correlated_product_adds_the_precisions_up() -> None:
    rng = np.random.default_rng(0)
    first, second = correlated(rng, 4), Normal(rng.standard_normal((2, 4, 3)), rng.uniform(0.3, 2.0, (2, 4, 3)))
    mean, covariance = product(first, second)
    found = first.times(second)
    np.testing.assert_allclose(found.loc, mean, atol=1e-12)
    np.testing.assert_allclose(found.root @ np.swapaxes(found.root, -2, -1), covariance, atol=1e-12)
    np.testing.assert_allclose(found.sd, np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1)), atol=1e-12)
    np.testing.assert_array_equal(found.root, np.tril(found.root))
    assert (np.diagonal(found.root, axis1=-2, axis2=-1) > 0).all()
    # the correlations left out
    diagonal = Normal(first.loc, first.sd).times(second)
    assert np.abs(diagonal.loc - mean).max() > 1e-2


def test_a_correlated_product_of_independent_components_is_that_of_normals() -> None:
    rng = np.random.default_rng(1)
    loc, scale = rng.standard_normal((5, 3)), rng.uniform(0.3, 2.0, (5, 3))
    other = Normal(rng.standard_normal((5, 3)), rng.uniform(0.3, 2.0, (5, 3)))
    found, expected = Correlated(loc, np.eye(3) * scale[:, None]).times(other), Normal(loc, scale).times(other)
    np.testing.assert_allclose(found.loc, expected.loc, atol=1e-12)
    np.testing.assert_allclose(found.sd, expected.sd, atol=1e-12)


@pytest.mark.parametrize("narrow", [np.exp(-7.0), 1.0, np.exp(3.0)])
@pytest.mark.parametrize("wide", [np.exp(-7.0), np.exp(3.0)])
def test_a_correlated_product_is_right_at_the_ends_in_single_precision(narrow: float, wide: float) -> None:
    """Every pair of the smallest and the largest scale, with a correlation of 0.995."""
    root = narrow * np.array([[1.0, 0.0, 0.0], [10.0, 1.0, 0.0], [10.0, 9.0, 1.0]], np.float32)
    first = Correlated(np.float32([0.3, -0.2, 0.5]), root.astype(np.float32))
    second = Normal(np.float32([-0.1, 0.4, 0.2]), np.float32([wide, wide / 2, wide]))
    mean, covariance = product(
        Correlated(*(part.astype(float) for part in first)), Normal(*(part.astype(float) for part in second))
    )
    found = first.times(second)
    assert found.loc.dtype == found.root.dtype == np.float32
    sd = np.sqrt(np.diag(covariance))
    # rounding in units of float32, times the condition of the problem in its own scales
    assert (np.abs(found.loc - mean) < 1e-3 * (sd + np.abs(mean))).all()
    np.testing.assert_allclose(found.sd, sd, rtol=2e-3)


# one level


@QUICK_IN_PYRO
def test_one_level_with_parts_is_the_plain_program(engine: Any) -> None:
    instance = NAMED["vae-full-mixture"]
    own = randomised(engine, "vae", instance.config)
    config = {name: value for name, value in instance.config.items() if name not in ("latent_dim", "prior")}
    config |= {"program": "hierarchical", "latent_dims": [2], "prior": [], "top": instance.config["prior"]}
    config["encoder"] = [config["encoder"]]
    tensors = {
        name.replace("encoder.", "encoder.0.").replace("prior.", "top."): value
        for name, value in engine.tensors(own).items()
    }
    program = engine.with_tensors(engine.build("vae", config), tensors)
    rng = np.random.default_rng(0)
    x, z = instance.data(rng, 7), rng.standard_normal((7, 2)).astype(np.float32)
    np.testing.assert_allclose(engine.log_joint(program, {"z1": z}, x), engine.log_joint(own, {"z": z}, x), rtol=1e-6)
    drawn, expected = engine.draw_latents(program, x), engine.draw_latents(own, x)
    np.testing.assert_allclose(drawn["z1"], expected["z"], rtol=1e-6)
    (level,) = program.levels(engine.array(x))
    for part, other in zip(level, 2 * own.encode(engine.array(x)), strict=True):
        np.testing.assert_allclose(plain(part), plain(other), rtol=1e-6)


# a prior on top


def two(engine: Any, **parts: Any) -> Any:
    """Two levels of linear networks, every number of which is moved from where it starts."""
    make = engine.face.HierarchicalVAE.mlp
    program = engine.call(make, (4,), (2, 2), "gaussian", hidden=(), **parts)
    return randomised(engine, "vae", program.spec())


@BOTH
@pytest.mark.parametrize("name", ["mixture", "vamp", "flow"])
def test_the_top_level_has_its_prior(engine: Any, name: str) -> None:
    flow = engine.call(engine.face.Flow.maf, (2,), num_transforms=1, hidden=(4,)) if name == "flow" else None
    own = two(engine, **({"prior": flow} if flow else {"prior": name, "num_components": 3}))
    tensors, rng = engine.tensors(own), np.random.default_rng(3)
    same = {key: value for key, value in tensors.items() if not key.startswith("top.")}
    standard = engine.with_tensors(two(engine), same)
    latents = {site: rng.standard_normal((6, 2)).astype(np.float32) for site in ("z1", "z2")}
    x, z = rng.standard_normal((6, 4)).astype(np.float32), latents["z2"]
    if name == "flow":
        expected = plain(own.top.flow.distribution().log_prob(engine.array(z)))
    else:
        if name == "mixture":
            weights, loc, raw = (tensors[f"top.{part}"] for part in ("logits", "loc", "raw_scale"))
            scale = posterior.scale(raw)
        else:
            weights = np.zeros(3)
            first, second = (tensors[f"encoder.{i}.layers.0.weight"] for i in (0, 1))
            up = tensors["top.pseudo_inputs"] @ first.T + tensors["encoder.0.layers.0.bias"]
            raw = up[:, 4:] @ second.T + tensors["encoder.1.layers.0.bias"]
            loc, scale = raw[:, :2], posterior.scale(raw[:, 2:])
        each = stats.norm.logpdf(z[:, None], loc, scale).sum(-1) + weights - logsumexp(weights)
        expected = logsumexp(each, axis=1)
    expected = expected - stats.norm.logpdf(z).sum(-1)
    found = engine.log_joint(own, latents, x) - engine.log_joint(standard, latents, x)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1
    assert np.isfinite(np.asarray(engine.call("sample", own, 5))).all()


# convolutions

IMAGE = (2, 5, 4)


def holey() -> np.ndarray:
    x = np.random.default_rng(0).random((6, *IMAGE)).astype(np.float32)
    x[::2, 0, 1:3] = np.nan
    return x


@cache
def images(engine: Any) -> Any:
    options = {"channels": (3, 4), "hidden": (6,), "posterior": "full", "prior": "mixture", "num_components": 2}
    return engine.call(engine.face.HierarchicalVAE.conv, IMAGE, (2, 2), "gaussian", **options, data=holey())


@QUICK_IN_PYRO
@pytest.mark.filterwarnings("ignore:the posterior has collapsed", "ignore:the importance weights of")
def test_levels_of_images_in_every_verb(engine: Any, tmp_path: Path) -> None:
    x, start = holey(), images(engine)
    before = {name: value.copy() for name, value in engine.tensors(start).items()}
    fit = engine.call("fit", start, x, steps=2, chunk=2, progress=False)
    assert np.isfinite(fit.losses).all()
    own, after = fit.program, engine.tensors(fit.program)
    assert [name for name, value in before.items() if (after[name] == value).all()] == ["fill"]
    assert np.asarray(engine.call("sample", own, 3)).shape == (3, *IMAGE)
    found = engine.call("log_prob", own, x, num_particles=20)
    assert found.kind == "bound"
    assert np.isfinite(found.value).all()
    post = engine.call("impute", own, x, method="sir", num_samples=4, num_particles=64).posterior
    assert [post[name].shape[2:] for name in ("x", "z1", "z2")] == [x.shape, (6, 2), (6, 2)]
    assert (post["x"].values[..., ~np.isnan(x)] == x[~np.isnan(x)]).all()
    assert np.asarray(engine.call("reconstruct", own, x)).shape == x.shape
    for level in (1, 2):
        assert np.isfinite(plain(engine.call("interpolate", own, x[:3], x[3:], 4, level=level))).all()
    np.testing.assert_array_equal(engine.call("active_units", own, x).level, [1, 1, 2, 2])
    engine.face.save(own, tmp_path)
    for other in ENGINES:
        loaded = other.face.load(tmp_path)
        assert type(loaded) is other.face.HierarchicalVAE
        assert loaded.spec() == own.spec()
        assert all((other.tensors(loaded)[name] == value).all() for name, value in after.items())


@BOTH
@pytest.mark.parametrize("hidden", [(8, 7), ()])
def test_conv_is_built_as_asked(engine: Any, hidden: tuple[int, ...]) -> None:
    data = (np.random.default_rng(0).random((300, *IMAGE)) < 0.3).astype(np.float32)
    options = {"channels": (4, 6), "hidden": hidden, "kernel_size": 5, "activation": "tanh", "posterior": "full"}
    program = engine.call(engine.face.HierarchicalVAE.conv, IMAGE, (3, 2, 1), data=data, **options)
    spec, up = program.spec(), {"hidden": list(hidden), "activation": "tanh"}
    # without hidden layers a network hands up as many features as it takes, the first 6 channels of 2 x 1 pixels
    handed = hidden[-1] if hidden else 12
    assert spec["input_shape"] == list(IMAGE)
    assert spec["posterior"] == {"posterior": "full"}
    first = {**up, "network": "ConvEncoder", "in_shape": [2, 5, 4], "channels": [4, 6], "kernel_size": 5}
    mlp = {**up, "network": "MLP", "residual": False, "layer_norm": False, "skip": False}
    assert spec["encoder"] == [
        {**first, "out_size": 9 + handed},
        {**mlp, "in_size": handed, "out_size": 5 + handed},
        {**mlp, "in_size": handed, "out_size": 2},
    ]
    down = {**mlp, "hidden": list(hidden)[::-1]}
    assert spec["prior"] == [{**down, "in_size": 2, "out_size": 6}, {**down, "in_size": 1, "out_size": 4}]
    assert spec["decoder"]["out_shape"] == [2, 5, 4]
    assert spec["decoder"]["hidden"] == down["hidden"]
    tensors = dict(engine.tensors(program))
    last = max(name for name in tensors if name.startswith("decoder.convolutions") and name.endswith("weight"))
    silent = engine.with_tensors(program, {**tensors, last: 0 * tensors[last]})
    mean = plain(silent.decode(engine.array(np.zeros((1, 3), np.float32))))
    np.testing.assert_allclose(mean[0], data.mean(0), atol=1e-5)


@BOTH
def test_activity_of_a_correlated_level_is_that_of_its_components(engine: Any) -> None:
    """N(m, L L') against N(0, 1) of each latent, with a network whose numbers are known."""
    program = engine.call(engine.face.HierarchicalVAE.mlp, (2,), (2,), "gaussian", hidden=(), posterior="full")
    tensors = {name: 0 * value for name, value in engine.tensors(program).items()}
    tensors["encoder.0.layers.0.weight"][:2] = np.eye(2)
    raw = stretch(np.log([0.3, 0.4]), -7.0, 3.0)
    tensors["encoder.0.layers.0.bias"] = np.float32([0.0, 0.0, *raw, 0.3])
    x = np.float32([[1.0, -1.0], [0.0, 2.0], [-1.0, 0.5]])
    units = engine.call("active_units", engine.with_tensors(program, tensors), x)
    sd = np.array([0.3, 0.5])
    np.testing.assert_allclose(units.kl, (0.5 * (x**2 + sd**2 - 1) - np.log(sd)).mean(0), rtol=1e-4)


@BOTH
def test_refusals(engine: Any) -> None:
    make, flow = engine.face.HierarchicalVAE, engine.call(engine.face.Flow.maf, (3,), hidden=(4,))
    match = "expected 'diagonal' or 'full': each level's normal is multiplied by the law"
    for constructor, shape in ((make.mlp, (4,)), (make.conv, IMAGE)):
        with pytest.raises(ValueError, match=f"posterior: got 'conjugate'; {match}"):
            engine.call(constructor, shape, (2, 2), posterior="conjugate")
        with pytest.raises(ValueError, match=f"posterior: got a Flow; {match}"):
            engine.call(constructor, shape, (2, 2), posterior=flow)
        with pytest.raises(ValueError, match="prior: got 'normal'; expected one of"):
            engine.call(constructor, shape, (2, 2), prior="normal")
        with pytest.raises(ValueError, match="num_components: got 3; expected None with prior='standard'"):
            engine.call(constructor, shape, (2, 2), num_components=3)
        with pytest.raises(ValueError, match=r"prior: got a flow of event_shape \(3,\) for latent_dim=2"):
            engine.call(constructor, shape, (3, 2), prior=flow)
    with pytest.raises(ValueError, match=r"event_shape: got \(4,\); expected \(channels, height, width\)"):
        engine.call(make.conv, (4,), (2, 2))
    with pytest.raises(ValueError, match="channels: got none; expected at least one"):
        engine.call(make.conv, IMAGE, (2, 2), channels=())
    own = images(engine)
    parts = own.encoder, own.prior, own.decoder, own.observation
    with pytest.raises(ValueError, match=f"posterior: got a Flow; {match}"):
        make(*parts, (2, 2), posterior=flow)
    wrong = make(*parts, (2, 3), input_shape=IMAGE, posterior=own.posterior)
    with pytest.raises(ValueError, match="encoder 1: got 5 numbers; expected 9, of a mean and a full covariance of 3"):
        wrong.levels(engine.array(holey()))


def test_a_program_of_an_older_description_has_the_plain_parts() -> None:
    instance = NAMED["vae-three-levels"]
    assert not {"posterior", "top"} & set(instance.config)
    for engine in ENGINES:
        spec = engine.build("vae", instance.config).spec()
        assert (spec["posterior"], spec["top"]) == ({"posterior": "diagonal"}, {"prior": "standard"})
