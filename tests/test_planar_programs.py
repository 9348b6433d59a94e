"""Programs learned from laws in the plane: their modes, their own densities summed over a grid, and their constants.

The two errors are held apart. What a program has learned is its density, whose shares of the modes are summed over a
grid without any noise: they are off from the truth by its training alone. Draws along the flow are compared with these
shares, not with the truth, within Monte Carlo error alone. The reverse diffusion has the flow's law where the score is
exact, and is held to the truth within Monte Carlo error there; of a learned score it has a law of its own, as far from
the truth as training may leave it.
"""

from functools import cache
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit
from scipy import stats
from scipy.special import logsumexp

from deepgen import data
from deepgen.models.score.sdes import VE

pytestmark = pytest.mark.slow
UNEQUAL = data.eight_gaussians(weights=np.arange(1.0, 9.0))
MOONS, BOARD = data.two_moons(), data.checkerboard()
ROWS, DRAWS, CELLS = 8000, 2000, 48


class Learned(NamedTuple):
    """A trained score model and what it says of itself.

    Attributes:
        program: the program.
        mass: (cells,) the probability of each cell of a grid.
        shares: (k,) of the modes, by this density.
        held_out: (n,) its log density of rows it has not seen, and the truth's.
        truth: (n,).
    """

    program: Any
    mass: np.ndarray
    shares: np.ndarray
    held_out: np.ndarray
    truth: np.ndarray


def told(engine: Any, program: Any, law: Any) -> Learned:
    """What a trained program says of itself."""
    rng = np.random.default_rng(1)
    rows, (points, area) = law.draw(rng, 500), law.grid(CELLS)
    value = engine.call("log_prob", program, np.concatenate([points, rows])).value.astype(float)
    mass, held_out = np.exp(value[: len(points)]) * area, value[len(points) :]
    return Learned(program, mass, law.shares(points, mass) / mass.sum(), held_out, law.log_prob(rows))


def untrained(engine: Any, law: Any, sde: str) -> tuple[Any, np.ndarray]:
    """A program and its rows."""
    x = law.draw(np.random.default_rng(0), ROWS)
    return engine.call(engine.face.ScoreModel.mlp, (2,), sde=sde, hidden=(64, 64, 64), data=x), x


@cache
def learned(engine: Any, law: Any, sde: str) -> Learned:
    program, x = untrained(engine, law, sde)
    options = {"batch_size": 256, "learning_rate": 3e-3, "ema": 0.99, "progress": False}
    program = engine.call("fit", program, x, steps=2500, **options).program.with_options(tolerance=3e-4)
    return told(engine, program, law)


@cache
def carried(engine: Any, law: Any, sde: str) -> Learned:
    """With the parameters that NumPyro has trained."""
    program, _ = untrained(engine, law, sde)
    trained = NUMPYRO.tensors(learned(NUMPYRO, law, sde).program)
    return told(engine, engine.with_tensors(program, trained).with_options(tolerance=3e-4), law)


def p_value(law: Any, shares: np.ndarray, draws: np.ndarray) -> float:
    """That draws fall into the modes with these probabilities, by Pearson's chi-square."""
    return float(stats.chisquare(np.bincount(law.mode(draws), minlength=len(shares)), len(draws) * shares).pvalue)


CASES = [
    # what training may cost: of a mode's share, beside the error of a share of so many rows, and of the log density in
    # nats. The board has edges, which a network of this size blurs over about a tenth of a square.
    pytest.param(learned, NUMPYRO, UNEQUAL, "ve", 0.03, 0.30, id="numpyro-eight_gaussians-ve"),
    pytest.param(learned, NUMPYRO, MOONS, "vp", 0.05, 0.35, id="numpyro-two_moons-vp"),
    pytest.param(learned, NUMPYRO, BOARD, "vp", 0.03, 0.75, id="numpyro-checkerboard-vp"),
    pytest.param(learned, PYRO, MOONS, "vp", 0.05, 0.35, id="pyro-two_moons-vp"),
    pytest.param(carried, PYRO, UNEQUAL, "ve", 0.03, 0.30, id="pyro-eight_gaussians-ve-carried"),
    pytest.param(carried, PYRO, BOARD, "vp", 0.03, 0.75, id="pyro-checkerboard-vp-carried"),
]


@pytest.mark.parametrize(("of", "engine", "law", "sde", "share", "nats"), CASES)
def test_a_score_model_has_the_modes_and_the_density(
    of: Any, engine: Any, law: Any, sde: str, share: float, nats: float
) -> None:
    found = of(engine, law, sde)
    # the midpoint rule misses what varies within a cell; a density whose change of volume is wrong is off by far more
    assert found.mass.sum() == pytest.approx(1, abs=0.01)
    rows = limit(len(law.weights)) * np.sqrt(law.weights * (1 - law.weights) / ROWS)
    assert (np.abs(found.shares - law.weights) < share + rows).all()
    # the Kullback-Leibler divergence from the truth: not negative, and what training costs
    gap = found.truth - found.held_out
    error = limit(1) * gap.std() / np.sqrt(len(gap))
    assert -error < gap.mean() < nats + error
    assert (found.held_out + 2 * nats - found.truth).mean() > error, "a density that is too high would be seen"

    draws = np.asarray(engine.call("sample", found.program, DRAWS, method="ode", seed=2))
    assert p_value(law, found.shares, draws) > 1e-5
    uniform = np.full(len(law.weights), 1 / len(law.weights))
    moved = uniform + 0.12 * (-1.0) ** np.arange(len(uniform)) * uniform
    assert p_value(law, moved if np.ptp(law.weights) == 0 else uniform, draws) < 1e-5, "other weights"

    draws = np.asarray(engine.call("sample", found.program, DRAWS, method="sde", num_steps=200, seed=2))
    bound = share + rows * (1 + np.sqrt(ROWS / DRAWS))
    assert (np.abs(law.shares(draws) - law.weights) < bound).all()
    lost = draws[law.mode(draws) != np.argmax(law.weights)]
    assert (np.abs(law.shares(lost) - law.weights) > bound).any(), "a mode that is not found"


ANGLES = np.pi / 4 * np.arange(8)
CENTRES = (2 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)).astype(np.float32)


def exact(x: Any, rho: Any, weights: np.ndarray) -> Any:
    """The scaled score of `UNEQUAL`, or of other weights, with noise rho: of eight normals of variance 0.2² + rho²."""
    xp = array_namespace(x)
    variance, away = (0.04 + rho**2)[:, None], xp.asarray(CENTRES) - x[:, None]
    logits = xp.asarray(np.log(weights).astype(np.float32)) - 0.5 * (away**2).sum(-1) / variance
    parts = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
    return rho[:, None] * ((parts / parts.sum(-1)[:, None])[..., None] * away).sum(1) / variance


class JaxExact(eqx.Module):
    def __call__(self, x: Any, rho: Any) -> Any:
        return exact(x, rho, UNEQUAL.weights)


class TorchExact(torch.nn.Module):
    def forward(self, x: Any, rho: Any) -> Any:
        return exact(x, rho, UNEQUAL.weights)


@pytest.mark.parametrize("method", ["ode", "sde"])
@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_draws_of_an_exact_score_have_the_modes_of_the_truth(engine: Any, method: str) -> None:
    network = JaxExact() if engine is NUMPYRO else TorchExact()
    program = engine.face.ScoreModel(network, (2,), VE(0.02, 20.0), tolerance=3e-4)
    steps = {} if method == "ode" else {"num_steps": 500}
    draws = np.asarray(engine.call("sample", program, 2 * DRAWS, method=method, seed=2, **steps))
    assert p_value(UNEQUAL, UNEQUAL.weights, draws) > 1e-5
    assert p_value(UNEQUAL, 0.8 * UNEQUAL.weights + 0.2 / 8, draws) < 1e-5, "a fifth of the way to equal weights"


def test_too_little_noise_at_the_start_would_be_seen() -> None:
    """The same network from a noise that does not cover the modes: its density still sums to one, its modes do not."""
    found = learned(NUMPYRO, UNEQUAL, "ve")
    short = NUMPYRO.face.ScoreModel(found.program.network, (2,), VE(0.02, 0.5), tolerance=3e-4)
    draws = np.asarray(NUMPYRO.call("sample", short, DRAWS, seed=2))
    assert p_value(UNEQUAL, found.shares, draws) < 1e-5
    points, area = UNEQUAL.grid(CELLS)
    mass = np.exp(NUMPYRO.call("log_prob", short, points).value.astype(float)) * area
    assert np.abs(UNEQUAL.shares(points, mass) / mass.sum() - UNEQUAL.weights).max() > 0.05


@pytest.mark.filterwarnings("ignore:after .* iterations chains from the base:UserWarning")
def test_the_constant_of_an_energy_is_held_by_its_bracket() -> None:
    """Of an energy that has begun to learn the eight normals, against the sum over a grid."""
    x = UNEQUAL.draw(np.random.default_rng(0), 2000)
    program = NUMPYRO.call(NUMPYRO.face.EnergyBasedModel.mlp, (2,), hidden=(32, 32), data=x)
    options = {"batch_size": 128, "learning_rate": 3e-3, "progress": False}
    program = NUMPYRO.call("fit", program, x, steps=300, **options).program
    law = program.distribution()
    points, area = data.eight_gaussians(radius=4.0, scale=0.5).grid(200)
    value = np.asarray(law.log_prob(points)).astype(float)
    truth = logsumexp(value) + np.log(area)
    base = law.base.log_prob(points)
    assert logsumexp(np.asarray(base).astype(float)) + np.log(area) == pytest.approx(0, abs=1e-3)
    assert np.std(value - np.asarray(base)) > 0.5, "an energy that has learned nothing"
    found = NUMPYRO.call("log_partition", program, num_chains=300, num_temperatures=200)

    def holds(shift: float) -> bool:
        low = (found.value - truth - shift) / found.stderr
        high = (found.upper - truth - shift) / found.upper_stderr
        return low < limit(1) and high > -limit(1) and max(abs(low), abs(high)) < limit(2)

    assert max(found.stderr, found.upper_stderr) < 0.08
    assert holds(0.0)
    assert not holds(0.5)
    assert not holds(-0.5)
