"""Class-conditional and semi-supervised programs, against closed forms and against each other."""

from functools import cache
from pathlib import Path
from typing import Any

import labelling as exact
import numpy as np
import numpyro
import objectives
import pyro
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from registry import randomised

from deepgen.inference.svi import enumeration, kl
from deepgen.inference.svi import numpyro as nsvi
from deepgen.inference.svi import pyro as psvi
from deepgen.models.vae import classes

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
RNG = np.random.default_rng(11)
X, TRUTH = exact.draw(RNG, 12)
KNOWN = {
    "labelled": TRUTH,
    "unlabelled": np.full_like(TRUTH, -1),
    "mixed": np.where(np.arange(len(X)) % 3 == 0, TRUTH, -1).astype(np.int32),
}
HOLES = np.where(np.arange(X.size).reshape(X.shape) % 3 == 0, np.nan, X).astype(np.float32)
SIGMAS = 5.0
"""Monte Carlo errors allowed: a hundred normal scores exceed it with probability below 1e-4, and seeds are fixed."""


@cache
def program(engine: Any) -> Any:
    return engine.with_tensors(engine.build("vae", exact.CONFIG), exact.TENSORS)


def value(engine: Any, objective: Any, y: np.ndarray) -> float:
    """The objective without Monte Carlo error: its integrand is quadratic in the one normal of each row and class."""
    pair = [engine.bound(program(engine), objective, (X, y), sign)["loss"] for sign in (1.0, -1.0)]
    return float(np.mean(pair))


@BOTH
def test_the_bound_is_the_closed_form(engine: Any) -> None:
    alpha = 0.7
    found = {name: value(engine, engine.face.EnumELBO(alpha=alpha), y) for name, y in KNOWN.items()}
    for name, y in KNOWN.items():
        assert found[name] == pytest.approx(exact.loss(X, y, alpha), rel=2e-5), name
    # faults that are larger than what the comparison allows
    assert found["mixed"] != pytest.approx(exact.loss(X, KNOWN["unlabelled"]), rel=1e-3)
    assert found["mixed"] != pytest.approx(exact.loss(X, KNOWN["mixed"]), rel=1e-3)
    assert found["unlabelled"] != pytest.approx(exact.loss(X, KNOWN["unlabelled"], entropy=False), rel=1e-3)


@pytest.mark.parametrize("fault", ["labels ignored", "entropy left out"])
def test_a_fault_of_the_bound_shows(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the mathematics that both engines share."""
    pairs = enumeration.pairs
    if fault == "labels ignored":
        monkeypatch.setattr(classes, "pinned", lambda logits, y: logits)
    else:
        without = lambda p, q: ((a, None if a and a["name"] == "y" else b, c) for a, b, c in pairs(p, q))  # noqa: E731
        monkeypatch.setattr(enumeration, "pairs", without)
    y = KNOWN["mixed"]
    assert value(PYRO, PYRO.face.EnumELBO(), y) != pytest.approx(exact.loss(X, y), rel=1e-3)


@pytest.mark.parametrize("engine", [objectives.NUMPYRO, objectives.PYRO], ids=repr)
@pytest.mark.parametrize("fault", [False, True])
def test_latents_in_another_order_than_the_model_s(engine: Any, fault: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guide that is the model's own law from the other end leaves nothing; a KL of every site would not."""

    def model(x: Any) -> None:
        with engine.plate("data", 3):
            engine.sample("y", engine.dist.Categorical(logits=engine.array([0.0, 0.0])))
            a = engine.sample("a", engine.dist.Normal(engine.array(0.0), 1.0))
            engine.sample("b", engine.dist.Normal(a, 1.0))

    def guide(x: Any) -> None:
        with engine.plate("data", 3):
            logits = engine.array([0.0, 0.0])
            engine.sample("y", engine.dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            b = engine.sample("b", engine.dist.Normal(engine.array(0.0), 2.0**0.5))
            engine.sample("a", engine.dist.Normal(b / 2, 0.5**0.5))

    if fault:
        monkeypatch.setattr(kl, "closed_form_sites", lambda model_order, guide_order: set(model_order))
    objective = nsvi.EnumELBO() if engine is objectives.NUMPYRO else psvi.EnumELBO()
    losses = engine.losses(objective, model, guide, np.zeros(3, dtype=np.float32), count=300)
    assert (abs(losses.mean()) > SIGMAS * losses.std() / len(losses) ** 0.5) == fault


def test_pyro_s_own_enumeration_is_the_closed_form() -> None:
    for y in KNOWN.values():
        for objective in (pyro.infer.TraceEnum_ELBO(max_plate_nesting=1), PYRO.face.EnumELBO()):
            assert value(PYRO, objective, y) == pytest.approx(exact.loss(X, y), rel=2e-5)


def test_a_plain_svi_of_numpyro_trains_it() -> None:
    """The loss of NumPyro's own objectives is the bound in expectation; SVI with ours goes down to where `fit` does."""
    import jax

    own, y = program(NUMPYRO), KNOWN["mixed"]
    state = numpyro.infer.SVI(own.model, own.guide, numpyro.optim.Adam(1e-2), numpyro.infer.TraceGraph_ELBO())
    start = state.init(jax.random.key(0), X, y)
    losses = jax.jit(jax.vmap(lambda key: state.evaluate(start._replace(rng_key=key), X, y)))(
        jax.random.split(jax.random.key(1), 3000)
    )
    error = np.std(losses) / np.sqrt(len(losses))
    assert abs(np.mean(losses) - exact.loss(X, y)) < SIGMAS * error < 0.02 * abs(exact.loss(X, y))
    svi = numpyro.infer.SVI(own.model, own.guide, numpyro.optim.Adam(1e-2), NUMPYRO.face.EnumELBO(alpha=0.5))
    course = np.asarray(svi.run(jax.random.key(0), 100, X, y, progress_bar=False).losses)
    assert course[-20:].mean() < course[:20].mean() - 1


def test_the_engines_agree() -> None:
    """The same parameters and noise: loss and gradients of rows of which some have labels; and what has no noise."""
    mlp = {"network": "MLP", "hidden": [6], "activation": "gelu"}
    config = exact.CONFIG | {
        "latent_dim": 2,
        "classifier": {**mlp, "in_size": 4, "out_size": 3},
        "encoder": {**mlp, "in_size": 7, "out_size": 4},
        "decoder": {**mlp, "in_size": 5, "out_size": 4},
    }
    y, found = KNOWN["mixed"], []
    for engine in ENGINES:
        own = engine.with_tensors(engine.build("vae", config), NUMPYRO.tensors(randomised(NUMPYRO, "vae", config)))
        numbers = engine.bound(own, engine.face.EnumELBO(alpha=0.5), (X, y))
        assert len(numbers) == 1 + 3 * 4 + 2
        numbers["path"] = np.asarray(engine.call("interpolate", program(engine), X[:2], X[2:4], 3, y=[0, 2]))
        numbers["active"] = engine.call("active_units", program(engine), X, y=y).variance
        found.append(numbers)
    assert found[0].keys() == found[1].keys()
    for name, first in found[0].items():
        np.testing.assert_allclose(first, found[1][name], rtol=2e-4, atol=2e-5 * np.abs(first).max(), err_msg=name)


@BOTH
def test_log_prob_sums_the_classes_out_or_takes_them_as_given(engine: Any) -> None:
    own = program(engine)
    scores = {name: engine.call("log_prob", own, HOLES, y=y, num_particles=2000) for name, y in KNOWN.items()}
    for name, y in KNOWN.items():
        score = scores[name]
        assert score.kind == "bound"
        assert (score.stderr > 0).all()
        assert (score.stderr < 0.1).all()
        assert (np.abs(score.value - exact.log_prob(HOLES, y)) < SIGMAS * score.stderr + 1e-4).all(), name
    wrong = exact.log_prob(HOLES, KNOWN["labelled"])
    assert (np.abs(scores["unlabelled"].value - wrong) > SIGMAS * scores["unlabelled"].stderr).any()
    one = engine.call("log_prob", program(engine), HOLES, y=2, num_particles=2000)
    assert (np.abs(one.value - exact.log_prob(HOLES, np.full(len(X), 2))) < SIGMAS * one.stderr + 1e-4).all()


@BOTH
def test_classes_of_data(engine: Any) -> None:
    guess = engine.call("classify", program(engine), X)
    assert guess.kind == "approximate"
    np.testing.assert_allclose(guess.value, np.exp(exact.log_q(X)), rtol=1e-4)
    assert (guess.stderr == 0).all()
    found = engine.call("classify", program(engine), HOLES, method="importance", num_particles=2000)
    assert found.kind == "estimate"
    joint = exact.log_joint(HOLES)
    truth = np.exp(joint - exact.log_prob(HOLES)[:, None])
    assert (np.abs(found.value - truth) < SIGMAS * found.stderr + 1e-5).all()
    assert (found.stderr < 0.05).all()
    holes = engine.call("classify", program(engine), HOLES).value
    assert (np.abs(holes - truth) > SIGMAS * found.stderr + 1e-5).any(), "the classifier is taken for exact"


@BOTH
def test_samples_have_their_class_s_moments(engine: Any) -> None:
    n = 4000
    y = np.arange(n) % exact.K
    x = np.asarray(engine.call("sample", program(engine), n, y=y), dtype=float)
    for k in range(exact.K):
        rows = x[y == k]
        error = np.sqrt(np.diag(exact.COVARIANCE) / len(rows))
        assert (np.abs(rows.mean(0) - exact.CENTRES[k]) < SIGMAS * error).all()
        assert (np.abs(rows.mean(0) - exact.CENTRES[k - 1]) > SIGMAS * error).any()
        np.testing.assert_allclose(np.cov(rows.T), exact.COVARIANCE, atol=SIGMAS * np.sqrt(2 / len(rows)) * 1.2)
    x = np.asarray(engine.call("sample", program(engine), n), dtype=float)
    assert (np.abs(x.mean(0) - np.exp(exact.LOG_PI) @ exact.CENTRES) < SIGMAS * x.std(0) / np.sqrt(n)).all()
    one = np.asarray(engine.call("sample", program(engine), n, y=1), dtype=float)
    assert (np.abs(one.mean(0) - exact.CENTRES[1]) < SIGMAS * np.sqrt(np.diag(exact.COVARIANCE) / n)).all()


def far(post: Any, moments: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest error of a posterior mean, in Monte Carlo errors of the resampled particles."""
    mean, variance = moments
    draws = np.concatenate([post.posterior["x"].values, post.posterior["z"].values], axis=-1).astype(float)
    ess = post.sample_stats["ess"].values.reshape(-1) if "ess" in post.sample_stats else np.full(len(mean), 400.0)
    size = np.sqrt(np.maximum(variance, 0.0) * (1 / draws.shape[1] + 1 / ess[:, None]))
    return float((np.abs(draws.mean((0, 1)) - mean) / np.where(size > 1e-6, size, np.inf)).max())


@BOTH
def test_imputation_given_and_without_classes(engine: Any) -> None:
    post = {name: engine.call("impute", program(engine), HOLES, y=y, method="sir") for name, y in KNOWN.items()}
    for name, y in KNOWN.items():
        assert far(post[name], exact.conditional(HOLES, y)) < SIGMAS
        assert (post[name].posterior["y"].values == y)[:, :, y >= 0].all()
    assert far(post["unlabelled"], exact.conditional(HOLES, TRUTH)) > SIGMAS
    assert far(post["labelled"], exact.conditional(HOLES, KNOWN["unlabelled"])) > SIGMAS


@BOTH
def test_known_labels_stay_with_their_rows(engine: Any) -> None:
    """Chains repeat the rows, block after block; their labels have to follow."""
    y = KNOWN["mixed"][:4]
    drawn = engine.draw_latents(program(engine).given(y), HOLES)["y"]
    repeated = np.concatenate([y] * 3)
    assert (drawn == repeated)[repeated >= 0].all()
    assert len(set(drawn[repeated < 0])) > 1


@BOTH
def test_a_tenth_of_the_labels_is_enough(engine: Any) -> None:
    """Well-separated classes: nearly the accuracy of Bayes' rule, and not with labels that are wrong."""
    rng = np.random.default_rng(3)
    centres = np.array([[2.5, 0.0, -1.0], [-2.5, 1.0, 0.5], [0.0, -2.0, 2.5]])
    truth = rng.integers(0, 3, 700)
    x = (centres[truth] + rng.standard_normal((700, 1)) * [0.6, 0.6, 0.0] + 0.6 * rng.standard_normal((700, 3))).astype(
        np.float32
    )
    y = np.where(np.arange(700) % 10 == 0, truth, -1)
    covariance = 0.36 * np.eye(3) + np.outer([0.6, 0.6, 0.0], [0.6, 0.6, 0.0])
    scores = np.linalg.solve(covariance, centres.T).T @ x.T
    bayes = (scores.T - 0.5 * np.einsum("kd,kd->k", centres, np.linalg.solve(covariance, centres.T).T)).argmax(1)
    start = engine.call(engine.face.ClassVAE.mlp, (3,), 1, 3, "gaussian", hidden=(12,), learn_classes=False, data=x)
    accuracy = {}
    for name, labels in {"right": y, "wrong": np.where(y >= 0, (y + 1) % 3, -1)}.items():
        fitted = engine.call(
            "fit",
            start,
            x,
            labels,
            steps=250,
            learning_rate=2e-2,
            objective=engine.face.EnumELBO(alpha=1.0),
            validation=(x[:50], labels[:50]),
            progress=False,
        )
        assert fitted.validation_losses[-1] < fitted.losses[0]
        accuracy[name] = (engine.call("classify", fitted.program, x[100:]).value.argmax(1) == truth[100:]).mean()
    assert accuracy["right"] > (bayes[100:] == truth[100:]).mean() - 0.02
    assert accuracy["wrong"] < 0.2


@BOTH
def test_a_fit_to_holes_minimises_the_bound_of_what_is_observed(engine: Any) -> None:
    """Steps too small to move anything: the losses are draws of the bound, of rows with holes and some labels."""
    x, y = np.repeat(HOLES, 40, axis=0), np.repeat(KNOWN["mixed"], 40)
    settings = {"steps": 60, "learning_rate": 1e-12, "batch_size": None, "progress": False}
    fit = engine.call("fit", program(engine), x, y, **settings)
    error = fit.losses.std() / np.sqrt(len(fit.losses))
    assert abs(fit.losses.mean() - exact.loss(HOLES, KNOWN["mixed"]) / len(X)) < SIGMAS * error
    assert abs(fit.losses.mean() - exact.loss(HOLES, KNOWN["unlabelled"]) / len(X)) > SIGMAS * error
    assert repr(fit.objective) == "EnumELBO(alpha=0.0, num_particles=1)"


@BOTH
@pytest.mark.parametrize("learned", [True, False])
def test_checkpoints_load_into_both(engine: Any, learned: bool, tmp_path: Path) -> None:
    config = exact.CONFIG | {"learn_classes": learned}
    original = randomised(engine, "vae", config)
    engine.face.save(original, tmp_path / "program")
    for other in ENGINES:
        loaded = other.face.load(tmp_path / "program")
        assert type(loaded) is other.face.ClassVAE
        assert loaded.spec() == original.spec()
        assert loaded.spec()["learn_classes"] == learned
        mine, theirs = engine.tensors(original), other.tensors(loaded)
        assert mine.keys() == theirs.keys()
        assert ("classes.logits" in mine) == learned
        assert all((mine[name] == theirs[name]).all() for name in mine)


@BOTH
def test_reconstructions_follow_the_class(engine: Any) -> None:
    same = np.repeat(X[:1], 300, axis=0)
    for k in range(exact.K):
        x = np.asarray(engine.call("reconstruct", program(engine), same, y=k), dtype=float)
        left = X[0] - exact.CENTRES[k]
        mean = exact.CENTRES[k] + (left @ exact.GAIN) * exact.LOADING
        error = np.abs(exact.LOADING) * exact.SPREAD / np.sqrt(len(x))
        assert (np.abs(x.mean(0) - mean) < SIGMAS * error).all()
    assert np.asarray(engine.call("reconstruct", program(engine), HOLES)).shape == X.shape


@BOTH
def test_refusals(engine: Any) -> None:
    own, vae = program(engine), engine.call(engine.face.VAE.mlp, (4,), 1, "gaussian", hidden=())
    for y, message in [
        (np.full(len(X), 3), r"y: got the label 3; expected labels 0 to 2, or -1"),
        (np.full(len(X), -2), r"y: got the label -2"),
        (np.zeros(len(X)), r"y: got dtype float64; expected integers"),
        (TRUTH[:5], r"y: got shape \(5,\); expected \(12,\)"),
    ]:
        for verb in ("fit", "log_prob", "impute", "reconstruct", "active_units"):
            with pytest.raises(ValueError, match=message):
                engine.call(verb, own, X, y=y)
        with pytest.raises(ValueError, match=message):
            engine.call("sample", own, len(X), y=y)
    for verb in ("fit", "log_prob", "impute", "reconstruct", "active_units"):
        with pytest.raises(ValueError, match="y: got a VAE, which has no classes; expected a program with classes"):
            engine.call(verb, vae, X, y=TRUTH)
    with pytest.raises(ValueError, match="y: got a VAE, which has no classes"):
        engine.call("sample", vae, 3, y=0)
    with pytest.raises(ValueError, match="program: got a VAE, which has no classes"):
        engine.call("classify", vae, X)
    with pytest.raises(ValueError, match="method: got 'nearest'; expected one of"):
        engine.call("classify", own, X, method="nearest")
    with pytest.raises(ValueError, match="y: got no class; expected the class of each path"):
        engine.call("interpolate", own, X[:2], X[2:4])
    with pytest.raises(ValueError, match="y: got an unknown class"):
        engine.call("interpolate", own, X[:2], X[2:4], y=[0, -1])
    with pytest.raises(ValueError, match="alpha: got a weight of the classification term, and no labels"):
        engine.call("fit", own, X, steps=1, objective=engine.face.EnumELBO(alpha=1.0))
    with pytest.raises(ValueError, match="alpha: got -1"):
        engine.face.EnumELBO(alpha=-1)
    with pytest.raises(ValueError, match="num_classes: got 1; expected a number >= 2"):
        engine.call(engine.face.ClassVAE.mlp, (4,), 1, 1)
    with pytest.raises(ValueError, match="program: got 'conditional'; expected one of"):
        engine.build("vae", exact.CONFIG | {"program": "conditional"})
    with pytest.raises(ValueError, match="guide: got no site marked to be enumerated"):
        engine.call("fit", vae, X, steps=1, objective=engine.face.EnumELBO())
    with pytest.raises(ValueError, match="method: got 'mcmc'; expected one of"):
        engine.call("impute", own, HOLES, method="mcmc")
