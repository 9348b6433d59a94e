"""Score matching of energy-based programs through `fit`: the precision of a normal law is found, and nothing else."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
MEAN = np.array([0.5, -1.0])
COVARIANCE = np.array([[0.6, 0.3], [0.3, 0.5]])
ROWS, SIGMA = 2000, 0.3
X = np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, ROWS).astype(np.float32)


def precision(engine: Any, objective: Any) -> np.ndarray:
    """Of the law N(0, 4 I) exp(-|W x + b|^2 / 2) that has been fitted."""
    face = engine.face
    base = face.Base("diagonal", (2,), np.array([[-2, -2], [2, 2], [-2, 2], [2, -2]], np.float32))
    program = face.EnergyBasedModel(base, engine.call(face.QuadraticEnergy, 2, 2, seed=1))
    options = {"steps": 600, "batch_size": 500, "learning_rate": 2e-2, "ema": 0.98, "progress": False}
    fit = engine.call("fit", program, X, objective=objective, **options)
    weight = engine.tensors(fit.program)["energy.weight"].astype(float)
    return np.eye(2) / 4 + weight.T @ weight


def off(found: np.ndarray, noise: float) -> float:
    """The largest error of an entry of the covariance, over five standard errors and what minibatches leave."""
    truth = np.cov(X.T) + noise**2 * np.eye(2)
    scale = np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    return float(np.abs((np.linalg.inv(found) - truth) / scale).max() / (5 * np.sqrt(2 / ROWS)))


@pytest.mark.filterwarnings("ignore:after .* iterations chains from the base:UserWarning")
@BOTH
@pytest.mark.parametrize("name", ["exact", "sliced", "denoising"])
def test_score_matching_finds_the_precision_of_a_normal(engine: Any, name: str) -> None:
    face = engine.face
    objective, noise = {
        "exact": (face.ExactScoreMatching(), 0.0),
        "sliced": (face.SlicedScoreMatching(num_projections=2), 0.0),
        "denoising": (face.DenoisingScoreMatching(sigma=SIGMA), SIGMA),
    }[name]
    found = precision(engine, objective)
    assert off(found, noise) < 1
    assert off(np.eye(2) / 4, noise) > 1, "the base would pass"
    assert off(1.3 * found, noise) > 1
    assert off(found, 0.45 if noise == 0 else 2.5 * SIGMA) > 1, "noise counted wrongly"
