"""The VAE itself: constructors, paths between latents, active units, and its place in larger programs."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from montecarlo import worst_moment
from registry import ORACLES, oracle_program, twin

from deepgen.models.vae.activity import active_units, diagnose
from deepgen.models.vae.interpolation import interpolate

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.tight)


def make(engine: Any, *args: Any, kind: str = "mlp", **kwargs: Any) -> Any:
    return engine.call(getattr(engine.face.VAE, kind), *args, **kwargs)


def table(n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(2)
    return (np.array([1.0, -3.0, 0.5]) + np.array([0.3, 2.0, 1.0]) * rng.standard_normal((n, 3))).astype(np.float32)


@BOTH
def test_mlp_is_built_as_asked(engine: Any) -> None:
    program = make(engine, (2, 3), 4, "student_t", hidden=(7, 5), activation="tanh", residual=True, layer_norm=True)
    spec = program.spec()
    assert spec["latent_dim"] == 4
    assert spec["input_shape"] == [6]
    assert spec["observation"] == {"law": "student_t", "event_shape": [2, 3]}
    same = {"network": "MLP", "activation": "tanh", "residual": True, "layer_norm": True, "skip": False}
    assert spec["encoder"] == {**same, "in_size": 6, "out_size": 8, "hidden": [7, 5]}
    assert spec["decoder"] == {**same, "in_size": 4, "out_size": 18, "hidden": [5, 7]}
    names = engine.tensors(program)
    assert names["encoder.layers.0.weight"].shape == (7, 6)
    assert names["decoder.layers.2.weight"].shape == (18, 7)
    assert names["fill"].shape == (2, 3)


@BOTH
def test_conv_is_built_as_asked(engine: Any) -> None:
    program = make(
        engine, (2, 5, 4), 3, "categorical", kind="conv", num_classes=3, channels=(4, 6), hidden=(8,), kernel_size=5
    )
    spec = program.spec()
    assert spec["input_shape"] == [6, 5, 4]
    assert spec["observation"]["num_classes"] == 3
    assert spec["encoder"]["in_shape"] == [6, 5, 4]
    assert spec["encoder"]["channels"] == [4, 6]
    assert spec["encoder"]["hidden"] == [8]
    assert spec["decoder"]["out_shape"] == [6, 5, 4]
    assert spec["decoder"]["channels"] == [6, 4]
    assert spec["encoder"]["kernel_size"] == spec["decoder"]["kernel_size"] == 5
    assert np.asarray(engine.call("sample", program, 2)).shape == (2, 2, 5, 4)


@BOTH
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_decoder_starts_at_the_data_s_marginals(engine: Any, kind: str) -> None:
    """With all else of the decoder at zero, and without data its bias is what it was."""
    rng = np.random.default_rng(0)
    data = (rng.random((500, 1, 4, 3)) < np.linspace(0.1, 0.9, 12).reshape(1, 4, 3)).astype(np.float32)
    data[rng.random(data.shape) < 0.1] = np.nan
    size = {"hidden": (6,)} if kind == "mlp" else {"channels": (4,)}
    program = make(engine, (1, 4, 3), 2, "bernoulli", kind=kind, data=data, **size)
    tensors = engine.tensors(program)
    start = program.observation.start(data).reshape(-1)
    biases = [name for name, v in tensors.items() if v.size == 12 and np.allclose(v.reshape(-1), start, atol=1e-6)]
    assert len(biases) == 1
    silent = {
        name: value if name in ["fill", *biases] or not name.startswith("decoder") else np.zeros_like(value)
        for name, value in tensors.items()
    }
    mean = _plain(engine.with_tensors(program, silent).decode(engine.array(np.zeros((1, 2), dtype=np.float32))))[0]
    np.testing.assert_allclose(mean, np.nanmean(data, axis=0), atol=1e-5)
    np.testing.assert_allclose(tensors["fill"], np.nanmean(data, axis=0), atol=1e-6)
    without = engine.tensors(make(engine, (1, 4, 3), 2, "bernoulli", kind=kind, **size))
    assert (without["fill"] == 0).all()
    assert np.abs(without[biases[0]]).max() < 1.0


CONSTRUCTOR: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("mlp", ((3,), 0), {}, r"latent_dim: got 0; expected"),
    ("mlp", ((3,), 2, "gausian"), {}, r"likelihood: got 'gausian'; expected one of \['bernoulli'"),
    ("mlp", ((3,), 2, "bernoulli"), {"num_classes": 3}, "'categorical' and 'discretized_logistic' take it"),
    ("mlp", ((3,), 2, "categorical"), {}, r"num_classes: got None; expected a number >= 2"),
    ("mlp", ((), 2), {}, r"event_shape: got \(\); expected a tuple of one or more positive integers"),
    ("mlp", ((3, 0), 2), {}, r"event_shape: got \(3, 0\)"),
    ("mlp", ((3,), 2, "bernoulli"), {"data": 255 * np.ones((4, 3))}, r"values from 255 to 255 .*x / 255"),
    ("mlp", ((3,), 2, "gaussian"), {"data": np.ones((4, 2))}, r"x: got shape \(4, 2\)"),
    ("conv", ((28, 28), 2), {}, r"event_shape: got \(28, 28\); expected \(channels, height, width\)"),
    ("conv", ((1, 8, 8), 2), {"kernel_size": 1}, "kernel_size"),
    ("mlp", ((3,), 2), {"activation": "swish2"}, "activation"),
]


@BOTH
@pytest.mark.parametrize(("kind", "args", "kwargs", "message"), CONSTRUCTOR)
def test_constructors_refuse(engine: Any, kind: str, args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(engine, *args, kind=kind, **kwargs)


@BOTH
def test_verbs_refuse_bad_data(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    x = ORACLE.draw(np.random.default_rng(0), 4)
    with pytest.raises(ValueError, match=r"num_samples: got 0; expected a finite number > 0"):
        engine.call("sample", program, 0)
    with pytest.raises(ValueError, match=r"x: got shape \(4, 2\)"):
        engine.call("reconstruct", program, x[:, :2])
    with pytest.raises(ValueError, match=r"x: got no rows; expected at least one row"):
        engine.call("fit", program, x[:0])
    with pytest.raises(ValueError, match=r"values from 0 to 255 under the Bernoulli likelihood.*< x / 255"):
        engine.call("fit", make(engine, (5,), 2, hidden=(3,)), np.array([[0, 255, 3, 4, 5]] * 3, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"num_points: got 1; expected a number >= 2"):
        engine.call("interpolate", program, x, x, 1)
    with pytest.raises(ValueError, match=r"kind: got 'cubic'; expected one of \['linear', 'spherical'\]"):
        engine.call("interpolate", program, x, x, kind="cubic")
    with pytest.raises(ValueError, match=r"start and end: got shapes \(4, 5\) and \(3, 5\)"):
        engine.call("interpolate", program, x, x[:3])
    with pytest.raises(ValueError, match=r"x: got 1 row; expected two rows or more"):
        engine.call("active_units", program, x[:1])
    with pytest.raises(ValueError, match=r"threshold: got -1"):
        engine.call("active_units", program, x, threshold=-1.0)


# the guide and the reconstruction


@BOTH
def test_the_encoder_is_shown_the_mean_where_x_is_missing(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    x = ORACLE.draw(np.random.default_rng(0), 6)
    holes = ORACLE.hide(x, np.random.default_rng(1))
    filled = np.where(np.isnan(holes), ORACLE.tensors["fill"], x)
    for part, other in zip(program.encode(engine.array(holes)), program.encode(engine.array(filled)), strict=True):
        np.testing.assert_array_equal(_plain(part), _plain(other))
    assert not np.allclose(_plain(program.encode(engine.array(holes))[0]), _plain(program.encode(engine.array(x))[0]))


def _plain(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


@BOTH
def test_the_guide_without_data_is_the_prior(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(0), 5)
    latents = engine.draw_latents(oracle_program(ORACLE, engine), x)
    assert {name: value.shape for name, value in latents.items()} == {"z": (5, 2)}
    drawn = [engine.predictive(oracle_program(ORACLE, engine), 400, 5, {})["z"]]
    assert worst_moment(drawn[0].reshape(1, 400, 5, 2), np.zeros((5, 2)), np.tile(np.eye(2), (5, 1, 1))) < 1


@BOTH
def test_reconstructions_are_decoded_posterior_draws(engine: Any) -> None:
    """Mean and covariance of W z + b under the exact posterior, which the guide is here."""
    program = oracle_program(ORACLE, engine)
    x = ORACLE.draw(np.random.default_rng(0), 3)
    many = np.repeat(x, 2000, axis=0)
    draws = np.asarray(engine.call("reconstruct", program, many)).reshape(3, 2000, 5)
    mean, covariance = ORACLE.posterior(x)["z"]
    loading, offset = ORACLE.tensors["decoder.layers.0.weight"], ORACLE.tensors["decoder.layers.0.bias"]
    law = mean @ loading.T + offset, loading @ covariance @ loading.T
    assert worst_moment(np.moveaxis(draws, 1, 0)[None].astype(float), *law) < 1
    # the posterior's mean decoded, without a draw
    planted = np.broadcast_to(law[0], (1, 2000, 3, 5)) + 1e-3 * np.random.default_rng(0).standard_normal(
        (1, 2000, 3, 5)
    )
    assert worst_moment(planted, *law) > 1


# interpolation

POINTS = hnp.arrays(np.float64, (3, 4), elements=st.floats(-5, 5))


@given(a=POINTS, b=POINTS, kind=st.sampled_from(["linear", "spherical"]))
def test_paths_begin_and_end_where_they_should(a: np.ndarray, b: np.ndarray, kind: str) -> None:
    path = interpolate(a, b, np.linspace(0.0, 1.0, 5), kind)
    assert path.shape == (5, 3, 4)
    np.testing.assert_allclose(path[0], a, atol=1e-9)
    np.testing.assert_allclose(path[-1], b, atol=1e-9)
    assert np.isfinite(path).all()
    back = interpolate(b, a, np.linspace(0.0, 1.0, 5), kind)
    np.testing.assert_allclose(path, back[::-1], atol=1e-6)


@given(a=POINTS, b=POINTS)
def test_a_spherical_path_is_an_arc_in_the_plane_of_its_ends(a: np.ndarray, b: np.ndarray) -> None:
    a, b = (v[np.newaxis, 0] / max(np.linalg.norm(v[0]), 1e-9) for v in (a, b))
    assume(np.linalg.norm(a) > 0.5 < np.linalg.norm(b))
    cosine = float(np.clip((a * b).sum(), -1, 1))
    assume(abs(cosine) < 0.999)
    weights = np.linspace(0.0, 1.0, 7)
    path = interpolate(3 * a, 3 * b, weights, "spherical")[:, 0]
    np.testing.assert_allclose(np.linalg.norm(path, axis=-1), 3.0, rtol=1e-6)
    angles = np.arccos(np.clip(path @ a[0] / 3, -1, 1))
    np.testing.assert_allclose(angles, weights * np.arccos(cosine), atol=1e-5)
    chord = interpolate(3 * a, 3 * b, weights, "linear")[:, 0]
    assert np.linalg.norm(chord[3]) < 3 * (1 - 1e-5)


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0, 2.5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parallel_ends_give_the_straight_line(factor: float, dtype: Any) -> None:
    a = np.array([[1.0, -2.0, 0.5]], dtype=dtype)
    weights = np.linspace(0, 1, 6, dtype=dtype)
    path = interpolate(a, (factor * a).astype(dtype), weights, "spherical")
    np.testing.assert_allclose(path, interpolate(a, factor * a, weights, "linear"), atol=1e-6)
    assert path.dtype == dtype


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind: got 'bezier'"):
        interpolate(np.ones((1, 2)), np.ones((1, 2)), np.ones(1), "bezier")


@BOTH
@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_interpolations_go_from_datum_to_datum(engine: Any, kind: str) -> None:
    program = oracle_program(ORACLE, engine)
    x = ORACLE.draw(np.random.default_rng(0), 6)
    path = np.asarray(engine.call("interpolate", program, x[:3], x[3:], 5, kind=kind))
    assert path.shape == (5, 3, 5)
    loading, offset = ORACLE.tensors["decoder.layers.0.weight"], ORACLE.tensors["decoder.layers.0.bias"]
    z = ORACLE.posterior(x)["z"][0]
    expected = interpolate(z[:3], z[3:], np.linspace(0, 1, 5), kind) @ loading.T.astype(float) + offset
    np.testing.assert_allclose(path, expected, atol=1e-4)
    other = interpolate(z[:3], z[3:], np.linspace(0, 1, 5), "linear" if kind == "spherical" else "spherical")
    assert not np.allclose(path, other @ loading.T.astype(float) + offset, atol=1e-4)


# active units


def test_activity_of_a_constructed_posterior() -> None:
    rng = np.random.default_rng(0)
    loc = rng.standard_normal((5000, 3)) * np.array([1.0, 0.2, 0.05]) + np.array([0.0, 0.0, 3.0])
    scale = np.broadcast_to([0.5, 1.0, 1.0], loc.shape)
    units = active_units(loc, scale)
    np.testing.assert_array_equal(units.active, [True, True, False])
    assert units.num_active == 2
    np.testing.assert_allclose(units.variance, loc.var(0))
    expected = 0.5 * np.array([1 + 0.25 - 1 - 2 * np.log(0.5), 0.04, 0.05**2 + 9.0])
    np.testing.assert_allclose(units.kl, expected, rtol=0.1)
    assert active_units(loc, scale, threshold=0.5).num_active == 1
    assert diagnose(units) == []


@BOTH
def test_active_units_of_the_oracle(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(0), 200)
    mean, covariance = ORACLE.posterior(x)["z"]
    units = engine.call("active_units", oracle_program(ORACLE, engine), x)
    np.testing.assert_allclose(units.variance, mean.var(0), rtol=1e-4)
    sd = np.sqrt(np.diagonal(covariance[0]))
    np.testing.assert_allclose(units.kl, (0.5 * (mean**2 + sd**2 - 1) - np.log(sd)).mean(0), rtol=1e-4)
    assert units.num_active == 2


@BOTH
def test_a_collapsed_posterior_is_announced(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(0), 50)
    assert oracle_program(ORACLE, engine).diagnose(x) == []
    collapsed = twin(ORACLE, engine, encoder=0.0)
    (warning,) = collapsed.diagnose(x)
    assert isinstance(warning, engine.face.PosteriorCollapseWarning)
    assert "none of the 2 latents is active" in str(warning)
    assert "free_bits" in str(warning)
    assert collapsed.diagnose(x[:1]) == []
    with pytest.warns(engine.face.PosteriorCollapseWarning, match="the posterior has collapsed"):
        engine.call("fit", collapsed, x, steps=2, chunk=2, learning_rate=1e-6)


# compiled once


@BOTH
def test_a_second_call_of_the_same_shapes_compiles_nothing(engine: Any) -> None:
    """With other data, another key and other parameters; the first call does, where there is a compiler."""
    first, second = (twin(ORACLE, engine, decoder=factor) for factor in (1.0, 0.9))
    rng = np.random.default_rng(0)
    x, y = (ORACLE.hide(ORACLE.draw(rng, 7), rng) for _ in range(2))
    few = {"num_samples": 3, "num_warmup": 3, "num_chains": 2}
    calls: dict[str, Any] = {
        "log_prob": lambda program, x, seed: engine.call("log_prob", program, x, num_particles=20, seed=seed),
        "sample": lambda program, x, seed: engine.call("sample", program, len(x), seed=seed),
        "mcmc": lambda program, x, seed: engine.call("impute", program, x, method="mcmc", **few, seed=seed),
        "reconstruct": lambda program, x, seed: engine.call("reconstruct", program, x, seed=seed),
        "interpolate": lambda program, x, seed: engine.call("interpolate", program, x, x, 3),
        "active_units": lambda program, x, seed: engine.call("active_units", program, x),
    }
    compiled = {}
    for name, call in calls.items():
        compiled[name] = engine.compiled(lambda call=call: call(first, x, 0))
        assert engine.compiled(lambda call=call: call(second, y, 1)) == 0, name
    assert len({bool(count) for count in compiled.values()}) == 1, "the count sees nothing in some"


# in larger programs


@BOTH
def test_the_model_under_predictive_and_condition(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    free = engine.predictive(program, 500, 8, {})
    assert {"z", "x"} <= free.keys()
    draws = free["x"].reshape(1, 500 * 8, 1, 5).astype(float)
    assert worst_moment(draws, *ORACLE.conditional(np.full((1, 5), np.nan))) < 1
    z = np.array([[2.0, -1.0]] * 8, dtype=np.float32)
    fixed = engine.predictive(program, 500, 8, {"z": z})["x"].reshape(1, 4000, 1, 5).astype(float)
    noise = (ORACLE.conditional(np.full((1, 5), np.nan))[1][0] - _loading() @ _loading().T)[None]
    assert worst_moment(fixed, ORACLE.decode({"z": z[:1].astype(float)}), noise) < 1
    assert worst_moment(draws, ORACLE.decode({"z": z[:1].astype(float)}), noise) > 1


def _loading() -> np.ndarray:
    return ORACLE.tensors["decoder.layers.0.weight"].astype(float)


@BOTH
def test_the_engine_s_own_nuts_finds_the_exact_posterior(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(0), 3)
    draws = engine.nuts(oracle_program(ORACLE, engine), x, 100, 400)["z"][None].astype(float)
    law = ORACLE.posterior(x)["z"]
    assert worst_moment(draws, *law) < 1
    assert worst_moment(draws, law[0] + 0.3, law[1]) > 1


@BOTH
def test_the_engine_s_own_svi_trains_it(engine: Any) -> None:
    """Its loss comes down from a poor guide to the entropy of the data, and not below what the truth allows."""
    x = ORACLE.draw(np.random.default_rng(0), 200)
    losses = engine.svi(twin(ORACLE, engine, encoder=0.0), x, 250, 0.02) / len(x)
    truth = -ORACLE.log_prob(x).mean()
    # Gaussian maximum likelihood gains about half a nat for each parameter
    parameters = sum(value.size for value in ORACLE.tensors.values())
    assert losses[-50:].mean() > truth - parameters / len(x)
    assert losses[-50:].mean() < truth + 0.15
    assert losses[:5].mean() > truth + 0.3
