"""What a fit learns of values that are hidden because they are high, with a model of that and without."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES, PYRO
from scipy.special import expit

engines = pytest.mark.parametrize("engine", ENGINES, ids=repr)


def hidden_high(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear-Gaussian table whose first column is hidden where it is high, and which entries are observed."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, 1)) * [1.0, 0.7, -0.6] + 0.6 * rng.standard_normal((n, 3))
    observed = np.ones(x.shape, bool)
    observed[:, 0] = rng.random(n) < expit(-4 * x[:, 0])
    return x.astype(np.float32), observed


OPTIONS: dict[str, Any] = {"steps": 150, "batch_size": None, "learning_rate": 0.08, "chunk": 150, "progress": False}


def hidden_mean(engine: Any, *, at_random: bool) -> tuple[float, float, float]:
    """The fitted mean of the column that is hidden, its true one and how uncertain a mean of what is seen of it is."""
    x, observed = hidden_high(800)
    vae = engine.call(engine.face.VAE.mlp, (3,), 1, "gaussian", hidden=(), seed=3)
    program = vae if at_random else engine.face.MNAR(vae, engine.face.SelfMasking((3,), "high"))
    holes = np.where(observed, x, np.nan).astype(np.float32)
    fitted = engine.call("fit", program, holes, objective=engine.face.IWAE(8), **OPTIONS).program
    bias = engine.tensors(fitted if at_random else fitted.program)["decoder.layers.0.bias"]
    return float(bias[0]), float(x[:, 0].mean()), float(x[:, 0].std() / np.sqrt(observed[:, 0].sum()))


@engines
def test_fit_with_the_mechanism_finds_the_hidden_mean(engine: Any) -> None:
    found, truth, error = hidden_mean(engine, at_random=False)
    assert abs(found - truth) < 3 * error


def test_fit_that_takes_them_for_missing_at_random_does_not() -> None:
    found, truth, error = hidden_mean(PYRO, at_random=True)
    assert found < truth - 3 * error
