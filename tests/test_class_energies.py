"""A classifier as an energy-based model whose law is known: linear logits on a normal base, a mixture of normals."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from montecarlo import limit
from scipy import stats
from scipy.special import log_softmax, logsumexp

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
WEIGHT = np.float32([[2.0, 0.0], [-1.0, 1.5]])
BIAS = np.float32([-1.0, 0.2])
"""N(0, I) exp(w_y x + b_y) is N(w_y, I) times exp(b_y + |w_y|^2 / 2)."""
PRIOR = log_softmax(BIAS + 0.5 * (WEIGHT.astype(float) ** 2).sum(1))
X = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)
BY_CLASS = np.stack([stats.multivariate_normal(mean).logpdf(X.astype(float)) for mean in WEIGHT.astype(float)], axis=1)


def known(engine: Any) -> Any:
    program = engine.call(engine.face.ClassEnergyModel.mlp, (2,), 2, hidden=())
    tensors = {"energy.network.layers.0.weight": WEIGHT, "energy.network.layers.0.bias": BIAS}
    return engine.with_tensors(program, {**engine.tensors(program), **tensors})


@BOTH
def test_the_density_of_each_class_and_of_all(engine: Any) -> None:
    program, y = known(engine), np.arange(12) % 3 - 1
    found = engine.call("log_prob", program, X, y=y, num_particles=300)
    truth = np.where(y >= 0, BY_CLASS[np.arange(12), y], logsumexp(BY_CLASS + PRIOR, axis=1))
    assert found.kind == "estimate"
    for label in (-1, 0, 1):
        off, stderr = (found.value - truth)[y == label], found.stderr[y == label]
        assert np.ptp(off) < 2e-5
        assert 0 < stderr[0] < 0.1
        assert abs(off[0]) < limit(3) * stderr[0]
    swapped = BY_CLASS[np.arange(12), 1 - np.maximum(y, 0)]
    assert np.ptp((found.value - swapped)[y == 0]) > 0.1, "the classes exchanged"
    alone = engine.call("log_prob", program, X, num_particles=300)
    assert np.ptp(alone.value - logsumexp(BY_CLASS + PRIOR, axis=1)) < 2e-5


@BOTH
def test_draws_and_completions_of_a_class(engine: Any) -> None:
    program, y = known(engine), np.arange(1000) % 2
    draws = np.asarray(engine.call("sample", program, 1000, y=y))
    means = np.stack([draws[y == label].mean(0) for label in (0, 1)])
    assert np.abs(means - WEIGHT).max() < limit(4) / np.sqrt(500)
    assert np.abs(means[::-1] - WEIGHT).max() > limit(4) / np.sqrt(500), "the classes exchanged"
    holes = np.float32([[np.nan, 0.3], [np.nan, 0.3]])
    post = engine.call("impute", program, holes, y=np.array([0, 1]), num_samples=200, num_warmup=100, num_chains=5)
    # independent entries: at least 100 effective draws of N(w_y0, 1)
    completed = post.posterior["x"].values[..., 0].mean((0, 1))
    assert np.abs(completed - WEIGHT[:, 0]).max() < limit(2) / 10


@BOTH
def test_the_classifier_is_the_softmax_of_the_logits(engine: Any) -> None:
    found = np.asarray(known(engine).class_probs(X))
    np.testing.assert_allclose(np.log(found), log_softmax(BY_CLASS + PRIOR, axis=1), rtol=1e-4, atol=1e-5)


@BOTH
def test_classify_gives_that_softmax_as_exact_and_nothing_else(engine: Any) -> None:
    program = known(engine)
    for method in (None, "exact"):
        found = engine.call("classify", program, X, method=method)
        np.testing.assert_allclose(np.log(found.value), log_softmax(BY_CLASS + PRIOR, axis=1), rtol=1e-4, atol=1e-5)
        assert found.kind == "exact"
        assert found.stderr.max() == 0
    for method in ("importance", "guide"):
        with pytest.raises(ValueError, match=rf"method: got '{method}'; expected one of \['exact'\]"):
            engine.call("classify", program, X, method=method)
    with pytest.raises(ValueError, match=r"x: got 1 NaN values.*expected complete data"):
        engine.call("classify", program, np.where(np.arange(24).reshape(12, 2) == 3, np.nan, X))


@BOTH
def test_labels_that_are_known_train_the_classifier(engine: Any) -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 200)
    x = (rng.standard_normal((200, 2)) + WEIGHT[y]).astype(np.float32)
    program = engine.call(engine.face.ClassEnergyModel.mlp, (2,), 2, hidden=(8,), data=x)
    objective = engine.face.PersistentContrastiveDivergence(2)
    options: dict[str, Any] = {"steps": 60, "learning_rate": 0.03, "objective": objective, "progress": False}
    half = np.where(np.arange(200) < 100, y, -1)
    fit = engine.call("fit", program, x, half, **options)
    unlabelled = engine.call("fit", program, x, **options)
    right = [(np.asarray(each.program.class_probs(x)).argmax(1) == y)[100:].mean() for each in (fit, unlabelled)]
    # Bayes' rate is 95 %; 100 rows
    assert right[0] > 0.85
    assert right[1] < 0.8, "nothing says which class is which"


@BOTH
def test_labels_and_sizes_are_checked(engine: Any) -> None:
    make = engine.face.ClassEnergyModel.mlp
    with pytest.raises(ValueError, match="num_classes: got 1; expected a number >= 2"):
        engine.call(make, (2,), 1)
    program = known(engine)
    with pytest.raises(ValueError, match="num_classes: got 1; expected a number >= 2"):
        type(program)(program.base, program.energy, 1)
    with pytest.raises(ValueError, match="y: got the label 2; expected labels 0 to 1"):
        engine.call("log_prob", known(engine), X, y=2)
    with pytest.raises(NotImplementedError, match="sample: got an EnergyBased law"):
        engine.call(known(engine).model) if engine.name == "pyro" else _traced(known(engine))


def _traced(program: Any) -> None:
    from numpyro import handlers

    handlers.seed(program.model, 0)()
