"""Programs whose parameters are NaN say so, whatever is asked of them."""

from functools import cache
from typing import Any

import numpy as np
import pyro
import pytest
from engines import ENGINES

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
X = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
LOST = r"NaN in 6 of 6 rows.*lower learning_rate"


@cache
def lost(engine: Any, family: str) -> Any:
    """A program with NaN for the weights of its network."""
    pyro.set_rng_seed(0)
    options = {"features": 2} if family == "ScoreModel" else {}
    program = engine.call(getattr(engine.face, family).mlp, (2,), hidden=[3], **options)
    tensors = engine.tensors(program)
    inner = {name for name in tensors if name.endswith("weight")}
    return engine.with_tensors(
        program, {name: value * np.nan if name in inner else value for name, value in tensors.items()}
    )


@BOTH
def test_an_energy_that_is_nan(engine: Any) -> None:
    program = lost(engine, "EnergyBasedModel")
    with pytest.raises(ValueError, match=r"NaN in 6 of 6 rows.*learning_rate|not finite at 6 of 6.*NaN in the data or"):
        engine.call("sample", program, 6)
    with pytest.raises(ValueError, match="log_prob: got " + LOST):
        engine.call("log_prob", program, X, num_particles=5)
    with pytest.raises(engine.face.NonFiniteLoss, match=r"step 0 .*Try a lower learning_rate"):
        engine.call("fit", program, X, steps=2)


@BOTH
def test_a_score_that_is_nan(engine: Any) -> None:
    program = lost(engine, "ScoreModel")
    with pytest.raises(ValueError, match="sample: got " + LOST):
        engine.call("sample", program, 6, method="sde", num_steps=3)
    with pytest.raises(ValueError, match="log_prob: got " + LOST):
        engine.call("log_prob", program, X)
    holes = X.copy()
    holes[:, 0] = np.nan
    with pytest.raises(ValueError, match="impute: got " + LOST):
        engine.call("impute", program, holes, num_samples=2, num_chains=1, num_steps=3)
