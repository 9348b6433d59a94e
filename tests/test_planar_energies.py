"""Energies learned from laws in the plane: the modes that their density has, and that long chains find.

As in `test_planar_programs` two errors are held apart. What an energy has learned is its density, whose shares of the
modes are summed over a grid: they are off from the truth by training alone. Chains are compared with these shares, not
with the truth, within Monte Carlo error alone, and that by the effective number of draws.
"""

from functools import cache
from typing import Any, NamedTuple

import arviz as az
import numpy as np
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit
from scipy.special import logsumexp

from deepgen import data

pytestmark = pytest.mark.slow
LAWS = {
    # modes wide enough for chains to cross between them
    "eight_gaussians": data.eight_gaussians(weights=np.arange(1.0, 9.0), scale=0.3),
    "two_moons": data.two_moons(noise=0.15),
}
ROWS, CELLS, CHAINS, ENDS = 8000, 200, 40, 800
LEAST = 400
"""Effective draws of each mode's indicator, below which chains have not crossed often enough to say anything."""


class Learned(NamedTuple):
    """A trained energy and what its density says.

    Attributes:
        program: the program.
        shares: (k,) of the modes, by its density.
        log_partition: log Z by the sum over the grid, nats.
        held_out: (n,) the normalised log density of rows that it has not seen, and the truth's.
        truth: (n,).
    """

    program: Any
    shares: np.ndarray
    log_partition: float
    held_out: np.ndarray
    truth: np.ndarray


def log_density(engine: Any, program: Any, x: np.ndarray) -> np.ndarray:
    """Without the constant, of rows of NumPy."""
    value = program.distribution().log_prob(engine.array(x))
    return np.asarray(value.detach() if engine is PYRO else value).astype(float)


@cache
def learned(engine: Any, name: str, persistent: bool = False) -> Learned:
    """By noise contrast, or by persistent chains."""
    law, rng = LAWS[name], np.random.default_rng(0)
    x, rows = law.draw(rng, ROWS), law.draw(rng, 1000)
    program = engine.call(engine.face.EnergyBasedModel.mlp, (2,), hidden=(64, 64), data=x)
    options = {"batch_size": 256, "learning_rate": 3e-3, "ema": 0.99, "progress": False}
    if persistent:
        program = engine.call("fit", program, x, steps=400, **options).program
    else:
        objective = engine.face.NoiseContrastive(2)
        program = engine.call("fit", program, x, steps=1500, objective=objective, **options).program
    points, area = law.grid(CELLS)
    value = log_density(engine, program, points)
    log_z = float(logsumexp(value) + np.log(area))
    held_out = log_density(engine, program, rows) - log_z
    shares = law.shares(points, np.exp(value - log_z) * area)
    return Learned(program, shares, log_z, held_out, law.log_prob(rows))


def apart(law: Any, draws: np.ndarray, shares: np.ndarray) -> float:
    """How far chains' shares of the modes are from others, in Monte Carlo errors; the worst as a share of its limit.

    Args:
        law: whose modes.
        draws: (chain, draw, 2).
        shares: (k,) expected.

    Returns:
        Infinity where a mode has fewer than ``LEAST`` effective draws.
    """
    mode = law.mode(draws.reshape(-1, 2)).reshape(draws.shape[:2])
    inside = (mode[..., None] == np.arange(len(shares))).astype(float)
    ess = np.array([float(az.ess(inside[..., k])) for k in range(len(shares))])
    if not (ess > LEAST).all():
        return float("inf")
    error = np.sqrt(shares * (1 - shares) / ess)
    return float((np.abs(inside.mean((0, 1)) - shares) / error).max() / limit(len(shares)))


def starts(engine: Any, seed: int = 3) -> Any:
    """Where chains begin, (chains, 2): all over the plane."""
    return engine.array((2 * np.random.default_rng(seed).standard_normal((CHAINS, 2))).astype(np.float32))


def hamiltonian(engine: Any, program: Any, *, length: int) -> np.ndarray:
    """Long chains of the law's own kernel, (chain, draw, 2)."""
    law = program.distribution()
    settings = {"num_warmup": 200, "num_samples": length, "num_steps": 8, "progress": False}
    run = engine.call(law.kernel.run, law, starts(engine)[:, None], **settings)
    return np.asarray(run.x[:, :, 0]).swapaxes(0, 1)


def langevin(engine: Any, program: Any, start: Any = None, *, length: int, **options: Any) -> np.ndarray:
    """Long chains of `run_chains` by MALA, (chain, draw, 2)."""
    law = program.distribution()
    kernel = engine.face.MALA(potential_fn=lambda z: -law.log_prob(z["x"]), **options)
    settings = {"num_samples": length // 5, "thinning": 5, "num_chains": CHAINS, "progress": False}
    warmup = 300 if options.get("adapt_step_size", True) else 0
    given = {"x": starts(engine) if start is None else start}
    post = engine.call("run_chains", kernel, num_warmup=warmup, init_params=given, **settings)
    return post.posterior["x"].values


CASES = [
    # what training may cost: of a mode's share, beside the error of a share of so many rows, and of the log density in
    # nats. Persistent chains of few steps cost more than telling data from noise does.
    pytest.param(NUMPYRO, "eight_gaussians", True, 0.03, 0.4, id="numpyro-eight_gaussians-persistent"),
    pytest.param(NUMPYRO, "two_moons", False, 0.02, 0.15, id="numpyro-two_moons-noise"),
    pytest.param(PYRO, "eight_gaussians", False, 0.02, 0.15, id="pyro-eight_gaussians-noise"),
    pytest.param(PYRO, "two_moons", False, 0.02, 0.15, id="pyro-two_moons-noise"),
]


@pytest.mark.filterwarnings("ignore:after .* iterations chains from the base:UserWarning")
@pytest.mark.parametrize(("engine", "name", "persistent", "share", "nats"), CASES)
def test_long_chains_find_the_modes_of_a_trained_energy(
    engine: Any, name: str, persistent: bool, share: float, nats: float
) -> None:
    law, found = LAWS[name], learned(engine, name, persistent)
    rows = limit(len(law.weights)) * np.sqrt(law.weights * (1 - law.weights) / ROWS)
    assert (np.abs(found.shares - law.weights) < share + rows).all()
    gap = found.truth - found.held_out
    error = limit(1) * gap.std() / np.sqrt(len(gap))
    assert -error < gap.mean() < nats + error
    assert (gap - 2 * nats).mean() < -error, "a density that is too high would be seen"
    if not persistent:
        assert abs(found.log_partition) < 0.1, "noise contrast learns the constant too"

    moved = found.shares * np.where(np.arange(len(law.weights)) % 2, 1.0, 3.0)
    moved = moved / moved.sum()
    # the more modes there are, the longer it takes to go round them
    for draws in (
        hamiltonian(engine, found.program, length=max(500, 250 * len(moved))),
        langevin(engine, found.program, length=max(3000, 750 * len(moved))),
    ):
        assert apart(law, draws, found.shares) < 1
        assert apart(law, draws, moved) > 1, "other weights"
    ends = np.asarray(engine.call("sample", found.program, ENDS, seed=2))
    # each is the end of a chain of its own, so that there are as many effective draws
    counted = np.abs(law.shares(ends) - found.shares) / np.sqrt(found.shares * (1 - found.shares) / ENDS)
    assert counted.max() < limit(len(found.shares))
    far = np.abs(law.shares(ends) - moved) / np.sqrt(moved * (1 - moved) / ENDS)
    assert far.max() > limit(len(found.shares))


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_chains_that_never_leave_their_mode_would_be_seen(engine: Any) -> None:
    law, found = LAWS["two_moons"], learned(engine, "two_moons")
    short: dict[str, Any] = {"step_size": 0.01, "adapt_step_size": False, "adapt_mass_matrix": False}
    spread = langevin(engine, found.program, length=500, **short)
    mode = law.mode(spread.reshape(-1, 2)).reshape(spread.shape[:2])
    assert 0.2 < mode.mean() < 0.8, "by where they began, the shares could pass for the truth"
    assert apart(law, spread, found.shares) > 1
    rows = law.draw(np.random.default_rng(1), CHAINS)
    # the law is the same turned by half a circle, which exchanges the moons
    one = engine.array(np.where(law.mode(rows)[:, None] == 0, rows, -rows))
    assert apart(law, langevin(engine, found.program, one, length=500, **short), found.shares) > 1
