"""Programs of a user's own that name the way to their densities and draws: every verb that needs either goes by it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO
from handmade import TWO_MODES, Handmade
from numpyro import distributions as numpyro_dist
from pyro import distributions as pyro_dist
from scipy import stats

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
NOISE = 0.5
LAW = stats.multivariate_normal(np.zeros(2), np.ones((2, 2)) + NOISE**2 * np.eye(2))
X = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)


class Own(Handmade):
    """z ~ N(0, 1), x_i ~ N(z, 0.5²), its guide the prior, which is a poor one; its own density is in closed form."""

    densities: tuple[str, str | None] = ("own", None)

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def check_data(self, x: Any, *, missing: bool = False, **_: Any) -> np.ndarray:
        if not missing and np.isnan(x).any():
            raise ValueError("x: got NaN; expected complete data")
        return np.asarray(x, dtype=np.float32)

    def own_log_prob(self, *args: Any) -> Any:
        x, y, num_particles = args[-3:]
        self.asked.append((len(args), y, num_particles))
        return LAW.logpdf(x), np.zeros(len(x)), "exact"


class NumPyroOwn(Own):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        n = size if x is None else len(x)
        with numpyro.plate("data", n):
            z = numpyro.sample("z", numpyro_dist.Normal(jnp.zeros((n, 1)), 1.0).to_event(1))
            return numpyro.sample("x", numpyro_dist.Normal(jnp.tile(z, 2), NOISE).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with numpyro.plate("data", len(x)):
            return numpyro.sample("z", numpyro_dist.Normal(jnp.zeros((len(x), 1)), 1.0).to_event(1))


class PyroOwn(Own):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        n = size if x is None else len(x)
        with pyro.plate("data", n):
            z = pyro.sample("z", pyro_dist.Normal(torch.zeros(n, 1), 1.0).to_event(1))
            loc = z.expand(*z.shape[:-1], 2)
            return pyro.sample("x", pyro_dist.Normal(loc, NOISE).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with pyro.plate("data", len(x)):
            return pyro.sample("z", pyro_dist.Normal(torch.zeros(len(x), 1), 1.0).to_event(1))


def own(engine: Any, **changes: Any) -> Any:
    kind = NumPyroOwn if engine is NUMPYRO else PyroOwn
    return type("Changed", (kind,), changes)()


@BOTH
@pytest.mark.filterwarnings("ignore:the importance weights")
def test_every_verb_of_densities_asks_the_program_s_own_way(engine: Any) -> None:
    program, plain = own(engine), own(engine, densities=("guide", "guide"))
    found = engine.call("log_prob", program, X, num_particles=7)
    np.testing.assert_array_equal(found.value, LAW.logpdf(X))
    assert found.kind == "exact"
    assert not found.stderr.any()
    assert program.asked == [(3 + (engine is NUMPYRO), None, 7)]

    bound = engine.call("log_prob", plain, X, num_particles=2)
    assert bound.kind == "bound"
    assert np.abs(bound.value - found.value).max() > 0.1, "the guide's bound would pass for the program's own"

    table = engine.call("compare", {"own": program, "guide": plain}, X, num_particles=2)
    assert table.loc["own", "elpd_loo"] == pytest.approx(LAW.logpdf(X).sum())
    assert table.loc["guide", "elpd_loo"] != pytest.approx(LAW.logpdf(X).sum(), abs=0.5)
    assert not plain.asked

    # rate and distortion are parts of the guide's bound, whatever the way to the density
    rates = [engine.call("rate_distortion", each, X, num_particles=5) for each in (program, plain)]
    for first, second in zip(*rates, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6)


@BOTH
def test_rows_with_holes_go_the_way_that_is_named_for_them(engine: Any) -> None:
    holes = X.copy()
    holes[0, 1] = np.nan
    with pytest.raises(ValueError, match=r"x: got NaN; expected complete data"):
        engine.call("log_prob", own(engine), holes)
    mixed = own(engine, densities=("own", "guide"))
    found = engine.call("log_prob", mixed, holes, num_particles=4000)
    assert found.kind == "bound"
    assert not mixed.asked
    assert abs(found.value[0] - stats.norm(0, np.sqrt(1 + NOISE**2)).logpdf(X[0, 0])) < 5 * found.stderr[0]
    kind = type("Unnamed", (type(TWO_MODES[engine]),), {"likelihood": "estimate"})
    with pytest.raises(ValueError, match=r"program: got a Unnamed, whose likelihood is 'estimate' and which names no"):
        engine.call("log_prob", kind(), X)
    with pytest.raises(ValueError, match=r"densities of Changed: got 'magic'; expected one of \['guide', "):
        engine.call("log_prob", own(engine, densities=("magic", None)), X)


@BOTH
def test_sample_takes_a_program_s_own_draws(engine: Any) -> None:
    def draw(self: Any, *args: Any) -> Any:
        assert len(args) == 1 + (engine is NUMPYRO)
        return engine.array(np.full((args[-1], 2), 3.0, np.float32))

    found = np.asarray(engine.call("sample", own(engine, draw=draw), 4))
    np.testing.assert_array_equal(found, np.full((4, 2), 3.0))
    lost = engine.array(np.array([[0, 0], [0, np.nan]], np.float32))
    with pytest.raises(ValueError, match=r"sample: got NaN in 1 of 2 rows, the first of them row 1"):
        engine.call("sample", own(engine, draw=lambda *_: lost), 2)
    drawn = np.asarray(engine.call("sample", own(engine), 400))
    assert abs(np.corrcoef(drawn.T)[0, 1] - 1 / (1 + NOISE**2)) < 0.1


@BOTH
def test_a_family_names_ways_that_there_are(engine: Any) -> None:
    """Those of a flow depend on its transforms."""
    face = engine.face
    assert engine.call(face.Flow.realnvp, (3,)).densities == ("guide", "completions")
    assert engine.call(face.Flow.cnf, (40,), num_probes=1).densities == ("estimates", "completions")
    assert face.AutoregressiveModel.densities == ("guide", "steps")
    assert face.EnergyBasedModel.densities == face.ClassEnergyModel.densities == ("partition", None)
    assert face.ScoreModel.densities == ("estimates", None)
    assert face.Dequantized.densities == ("guide", None)
