"""Verbs of programs that wrap a VAE, of classes that are known, and of programs that are no VAE."""

from typing import Any

import numpy as np
import pytest
from element_laws import SCALE, squash, stretch
from engines import ENGINES, NUMPYRO, PYRO
from labelling import CENTRES, CONFIG, LOADING, SD, TENSORS, K, log_prob
from oracles import POSTERIOR_SCALE
from registry import ORACLES, oracle_program, randomised

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
NAMED = {repr(oracle): oracle for oracle in ORACLES}
VAE, FLOW, SEQUENCE = (NAMED[name] for name in ("vae-conjugate", "flow-affine", "autoregressive-regressions"))
X = VAE.draw(np.random.default_rng(3), 6)
HOLES = np.where(np.arange(6)[:, None] % 4 == np.arange(4), np.nan, X).astype(np.float32)

LINEAR: dict[str, Any] = {"network": "MLP", "hidden": [], "activation": "gelu"}
CLASSES = {
    "program": "class_conditional",
    "latent_dim": 1,
    "num_classes": 2,
    "learn_classes": True,
    "observation": {"law": "gaussian", "event_shape": [2]},
    "classifier": {**LINEAR, "in_size": 2, "out_size": 2},
    "encoder": {**LINEAR, "in_size": 4, "out_size": 2},
    "decoder": {**LINEAR, "in_size": 3, "out_size": 2},
}
ROWS = np.random.default_rng(5).standard_normal((4, 2)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0])
MASKED = {"network": "SelfMasking", "event_shape": [2], "hides": "high"}


def of_classes(engine: Any) -> Any:
    return randomised(engine, "vae", CLASSES)


def given_class(tensors: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log N(x; b + W_y, w w' + s^2 I): the decoder is linear in the latent and the class's code."""
    weight, bias = (tensors[f"decoder.layers.0.{name}"].astype(float) for name in ("weight", "bias"))
    loc = bias + weight[:, 1:].T[y]
    log_scale = squash(tensors["observation.raw_scale"].astype(float), *SCALE)
    covariance = np.outer(weight[:, 0], weight[:, 0]) + np.exp(2 * log_scale) * np.eye(2)
    error = x - loc
    square = (error * np.linalg.solve(covariance, error.T).T).sum(1)
    return -0.5 * (square + np.linalg.slogdet(2 * np.pi * covariance)[1])


@BOTH
def test_ais_of_known_classes(engine: Any) -> None:
    """log p(x | y) in closed form; that of the other class does not fit."""
    program = of_classes(engine)
    found = engine.call("ais", program, ROWS, y=LABELS, num_chains=64, num_temperatures=20, num_steps=4, progress=False)

    def near(value: np.ndarray) -> bool:
        return bool((abs(found.value - value) < 5 * found.stderr + found.stderr**2).all())

    tensors = engine.tensors(program)
    assert near(given_class(tensors, ROWS, LABELS))
    assert not near(given_class(tensors, ROWS, 1 - LABELS))


@BOTH
def test_both_bounds_given_classes_are_the_closed_form_where_the_guide_is_the_posterior(engine: Any) -> None:
    """Then no weight varies, whatever the noise: to float32 both engines give the same numbers of the same rows."""
    spread = SD**2 / (SD**2 + LOADING @ LOADING)
    gain = LOADING * spread / SD**2
    weight = np.stack([np.concatenate([gain, -CENTRES @ gain]), np.zeros(len(gain) + K)])
    bias = np.array([0.0, stretch(0.5 * np.log(spread), *POSTERIOR_SCALE)])
    exact = {"encoder.layers.0.weight": weight, "encoder.layers.0.bias": bias}
    tensors = TENSORS | {name: value.astype(np.float32) for name, value in exact.items()}
    program = engine.with_tensors(engine.build("vae", CONFIG), tensors)
    y = np.array([0, 2, 1, 2, 0])
    run = {"num_chains": 3, "num_temperatures": 4, "num_steps": 2, "progress": False}
    found = engine.call("bdmc", program, 5, y=y, start="guide", **run)
    for bound in (found.row_lower, found.row_upper):
        np.testing.assert_allclose(bound, log_prob(found.x, y), atol=2e-4)
    assert np.abs(found.row_lower - log_prob(found.x, (y + 1) % K)).max() > 0.1
    np.testing.assert_allclose(engine.call("bdmc", program, 3, y=1, start="guide", **run).gap, 0.0, atol=2e-4)


@BOTH
def test_bounds_given_classes_close_in_on_the_closed_form(engine: Any) -> None:
    """Rows are drawn given their classes: with those of the others the bounds are of another law."""
    program, y = of_classes(engine), np.tile(LABELS, 150)
    run = {"num_chains": 4, "num_temperatures": 10, "num_steps": 3, "progress": False}
    found = engine.call("bdmc", program, len(y), y=y, **run)
    tensors = engine.tensors(program)

    def scores(labels: np.ndarray) -> tuple[float, float]:
        truth = given_class(tensors, found.x, labels)
        below, above = truth - found.row_lower, found.row_upper - truth
        first, second = (part.mean() / (part.std(ddof=1) / np.sqrt(len(y))) for part in (below, above))
        return float(first), float(second)

    assert min(scores(y)) > -4.5
    assert min(scores(1 - y)) < -4.5


@BOTH
def test_ais_of_unknown_classes_is_refused(engine: Any) -> None:
    program = of_classes(engine)
    with pytest.raises(ValueError, match=r"y: got 1 unknown labels; expected the class of each row"):
        engine.call("ais", program, ROWS, y=[0, 1, -1, 0])
    with pytest.raises(ValueError, match=r"latent 'y': got a discrete law.*all are known, pass y"):
        engine.call("ais", program, ROWS)
    with pytest.raises(ValueError, match=r"y: got a VAE, which has no classes"):
        engine.call("ais", oracle_program(VAE, engine), X, y=0)
    with pytest.raises(ValueError, match=r"y: got 1 unknown labels; expected the class of each row"):
        engine.call("bdmc", program, 4, y=[0, 1, -1, 0])
    with pytest.raises(ValueError, match=r"latent 'y': got a discrete law.*all are known, pass y"):
        engine.call("bdmc", program, 4)
    with pytest.raises(ValueError, match=r"y: got a VAE, which has no classes"):
        engine.call("bdmc", oracle_program(VAE, engine), 4, y=0)


@BOTH
def test_a_wrapped_vae_encodes_and_decodes(engine: Any) -> None:
    """Of an MNAR as of the VAE within, bit for bit; of another VAE otherwise."""
    vae = oracle_program(VAE, engine)
    mnar = engine.face.MNAR(vae, engine.face.SelfMasking((4,)))
    verbs: dict[str, tuple[Any, ...]] = {"reconstruct": (HOLES,), "interpolate": (X[:2], X[2:4], 3)}
    for verb, args in verbs.items():
        found = np.asarray(engine.call(verb, mnar, *args))
        np.testing.assert_array_equal(found, np.asarray(engine.call(verb, vae, *args)))
    units = engine.call("active_units", mnar, HOLES)
    np.testing.assert_array_equal(units.kl, engine.call("active_units", vae, HOLES).kl)


@BOTH
def test_what_has_no_encoder(engine: Any) -> None:
    for oracle, name in ((FLOW, "Flow"), (SEQUENCE, "AutoregressiveModel")):
        program = oracle_program(oracle, engine)
        calls: dict[str, tuple[Any, ...]] = {"reconstruct": (X,), "interpolate": (X, X), "active_units": (X,)}
        for verb, args in calls.items():
            with pytest.raises(ValueError, match=rf"program: got a {name}, which has no encoder and decoder; .*VAE"):
                engine.call(verb, program, *args)


@BOTH
def test_annealing_of_a_law_of_what_is_observed_is_refused(engine: Any) -> None:
    mnar = engine.face.MNAR(oracle_program(VAE, engine), engine.face.SelfMasking((4,)))
    match = r"program: got a MNAR, whose latents count the missing entries; .*program\.program"
    with pytest.raises(ValueError, match=match):
        engine.call("ais", mnar, HOLES)
    with pytest.raises(ValueError, match=match):
        engine.call("bdmc", mnar, 3)


@BOTH
@pytest.mark.filterwarnings("ignore:the posterior has collapsed")
def test_classes_missing_not_at_random_are_fitted(engine: Any) -> None:
    """By the bound with the class summed out, the mean log weight of the guide's draws; not that of another mask."""
    inner = {"family": "vae", "config": CLASSES}
    program = randomised(engine, "mnar", {"program": inner, "mechanism": MASKED})
    other = engine.face.MNAR(program.program, engine.face.SelfMasking((2,), "low"))
    holes, draws = ROWS.copy(), 200
    holes[0, 1] = holes[2] = np.nan
    options: dict[str, Any] = {"steps": 1, "batch_size": None, "progress": False}
    fitted = engine.call("fit", program, holes, **options)
    assert fitted.objective == engine.face.EnumELBO()
    bound = -engine.call("fit", program, holes, objective=engine.face.EnumELBO(num_particles=draws), **options).losses

    def near(program: Any) -> bool:
        repeated = np.repeat(holes, draws, axis=0)
        weights = engine.call("log_prob", program, repeated, num_particles=1).value.reshape(len(holes), draws)
        error = np.sqrt((weights.var(1) / draws).sum()) / len(holes)
        return bool(abs(bound[0] - weights.mean()) < 5 * np.sqrt(2) * error)

    assert near(program)
    assert not near(other)


def test_other_programs_keep_their_objective() -> None:
    for engine in (NUMPYRO, PYRO):
        mnar = engine.face.MNAR(oracle_program(VAE, engine), engine.face.SelfMasking((4,)))
        assert mnar.objective() == engine.face.ELBO()
