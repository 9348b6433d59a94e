"""Missing variables under flows: two modes, kernels from the target, what completes, log p of what is observed."""

import importlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from engines import ENGINES, PYRO
from kernels import holds, start_at_target
from montecarlo import RATE, worst_moment, worst_stated_error
from registry import ORACLES, oracle_program, twin
from scipy import stats
from test_oracle import data, worst_of_imputation

from deepgen.inference.imputation import importance
from deepgen.inference.imputation.gibbs import metropolis
from deepgen.inference.imputation.hamiltonian import clamping
from deepgen.inference.imputation.neighbours import mixture
from deepgen.inference.imputation.projected import latent

# R-hat of chains that are many and short
pytestmark = pytest.mark.filterwarnings("ignore:the chains of:UserWarning")

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
AFFINE = next(oracle for oracle in ORACLES if oracle.family == "flow")
GRID = np.linspace(-2.5, 3, 1101, dtype=np.float32)
FIRST = np.array([0.0, 0.25, 0.5, 0.75, 1.0], dtype=np.float32)


def room(engine: Any, name: str) -> Any:
    return importlib.import_module(f"deepgen.inference.imputation.{name}.{engine.name}")


class Moons(NamedTuple):
    """A flow fitted to two moons.

    Attributes:
        tensors: its parameters.
        spec: its description.
        mass: p(x_1) at ``FIRST``, by quadrature.
        cdf: (5, grid) of x_2 given x_1 on ``GRID``.
    """

    tensors: dict[str, np.ndarray]
    spec: dict[str, Any]
    mass: np.ndarray
    cdf: np.ndarray


@cache
def moons() -> Moons:
    rng = np.random.default_rng(0)
    angle, moon = rng.random(1000) * np.pi, rng.integers(0, 2, 1000)
    x = np.stack([np.where(moon, np.cos(angle), 1 - np.cos(angle)), np.where(moon, np.sin(angle), 0.5 - np.sin(angle))])
    x = (x.T + 0.1 * rng.standard_normal((1000, 2))).astype(np.float32)
    program = PYRO.call(PYRO.face.Flow.nsf, (2,), num_transforms=3, hidden=(16,), data=x)
    program = PYRO.call("fit", program, x, steps=250, learning_rate=1e-2, progress=False).program
    rows = np.stack(np.meshgrid(FIRST, GRID, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(PYRO.call("log_prob", program, rows).value.astype(float)).reshape(len(FIRST), -1)
    steps = (density[:, 1:] + density[:, :-1]) / 2 * np.diff(GRID.astype(float))
    total = np.concatenate([np.zeros((len(FIRST), 1)), np.cumsum(steps, 1)], 1)
    return Moons(PYRO.tensors(program), program.spec(), total[:, -1], total / total[:, -1:])


@cache
def moons_program(engine: Any) -> Any:
    return engine.with_tensors(engine.build("flow", moons().spec), moons().tensors)


def quantile(u: np.ndarray) -> np.ndarray:
    """(rows, draws) exact draws of x_2 given x_1 from uniforms."""
    return np.stack([np.interp(each, cdf, GRID) for each, cdf in zip(u, moons().cdf, strict=True)])


def uniform(x2: np.ndarray) -> np.ndarray:
    """(..., rows) the distribution function at each value."""
    return np.stack([np.interp(x2[..., i], GRID, cdf) for i, cdf in enumerate(moons().cdf)], -1)


def half_moons() -> np.ndarray:
    return np.stack([FIRST, np.full_like(FIRST, np.nan)], 1)


def worst_uniform(u: np.ndarray, particles: np.ndarray | float = np.inf) -> float:
    """Means and variances of (chain, draw, row) numbers that ought to be uniform, as a share of their limit."""
    rows = u.shape[2]
    return worst_moment(u[..., None], np.full((rows, 1), 0.5), np.full((rows, 1, 1), 1 / 12), particles)


# two modes


def test_the_moons_have_two_modes() -> None:
    density = np.diff(moons().cdf, axis=1)
    middle = density[2]
    peaks = (middle[1:-1] > middle[:-2]) & (middle[1:-1] > middle[2:]) & (middle[1:-1] > 0.1 * middle.max())
    assert peaks.sum() >= 2
    between = middle[np.flatnonzero(peaks)[0] : np.flatnonzero(peaks)[-1]]
    assert between.min() < 0.2 * middle.max()


OPTIONS = {
    "importance": {"num_samples": 2000, "num_particles": 4000},
    "auto": {"num_samples": 500, "num_particles": 4000},
    "pl-mcmc": {"num_chains": 60, "num_samples": 20, "num_warmup": 10, "num_steps": 8},
    "hmc": {"num_chains": 200, "num_samples": 5, "num_warmup": 10, "num_steps": 4},
}
LEAST = 80
"""Effective completions among those from which the starts of chains are drawn: the chains may keep their modes."""


@BOTH
@pytest.mark.parametrize("method", OPTIONS)
def test_both_modes_have_their_share(engine: Any, method: str) -> None:
    """Against quadrature; a method that stays in one mode, or gives both the same share, would show."""
    post = engine.call("impute", moons_program(engine), half_moons(), method=method, seed=1, **OPTIONS[method])
    u = uniform(post.posterior["x"].values[..., 1].astype(float))
    particles = post.sample_stats["ess"].values if "ess" in post.sample_stats else LEAST if method == "hmc" else np.inf
    assert worst_uniform(u, particles) < 1
    assert worst_uniform(np.where(u < 0.5, u, 1 - u), particles) > 1, "one mode"
    assert worst_uniform(u**3, particles) > 1
    if method == "pl-mcmc":
        assert ((u[:, 1:] < 0.5) != (u[:, :-1] < 0.5)).mean((0, 1)).min() > 0.05, "its chains cross between modes"


# kernels from the target on


# JAX compiles anew for each fault: one fault there, all in Pyro
FAULTS = ("no ratio", "no jacobian", "no auxiliary law", "no law of the way back")
CASES = [
    pytest.param(engine, fault, id=f"{engine.name}-{fault}")
    for engine in ENGINES
    for fault in (None, *(FAULTS if engine is PYRO else FAULTS[1:2]))
]


@pytest.mark.parametrize(("engine", "fault"), CASES)
def test_exact_draws_stay_exact(engine: Any, fault: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Projected latent steps on a flow whose Jacobian is not constant."""
    faults: dict[str, Any] = {
        "no ratio": (metropolis, "log_ratio", lambda target, proposal: 0 * target[0]),
        "no jacobian": (latent, "log_target", lambda log_prob, log_q, log_jacobian: log_prob + log_q),
        "no auxiliary law": (latent, "log_target", lambda log_prob, log_q, log_jacobian: log_prob + log_jacobian),
        "no law of the way back": (latent, "log_proposal", lambda noise, log_base: 0 * log_base),
    }
    if fault:
        monkeypatch.setattr(*faults[fault])
    own = room(engine, "projected")
    chart, count = moons_program(engine).chart(), 1500
    rng = np.random.default_rng(3)
    x2 = quantile(rng.random((len(FIRST), count))).T
    start = np.stack([np.broadcast_to(FIRST, x2.shape), x2], -1).astype(np.float32)
    v, observed = engine.array(np.where(np.isnan(half_moons()), 0, half_moons())), engine.array(~np.isnan(half_moons()))
    rows = own.Rows(chart, v, observed, engine.array(np.full((len(FIRST), 2), 0.3, np.float32)))
    # compiled anew for each fault, as the numbers of chains differ
    start = start[: count - len(fault or "")]
    draws, *_ = engine.call(
        own.run, rows, engine.array(start), num_warmup=0, num_samples=3, num_steps=2, step_size=0.8, progress=False
    )
    found = np.asarray(draws, dtype=float)
    p_values = [
        stats.kstest(uniform(each[..., 1])[:, i], "uniform").pvalue for each in found for i in range(len(FIRST))
    ]
    assert holds(p_values) is (fault is None)
    assert (found[0][..., 1] != start[..., 1]).mean() > 0.2, "the chains move"


def test_hamiltonian_steps_leave_the_conditional_as_it_is() -> None:
    """In the mathematics: the clamped density with its filling, by leapfrog and Metropolis in NumPy."""
    from deepgen.inference.hmc import hamiltonian

    correlation, count = 0.8, 20_000
    v, seen = np.tile([[1.0, 0.0]], (count, 1)), np.tile([[True, False]], (count, 1))
    precision = np.linalg.inv(np.array([[1, correlation], [correlation, 1]]))
    rng = np.random.default_rng(0)

    def value_and_gradient(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = clamping.clamp(q, v, seen)
        value = -0.5 * ((x @ precision) * x).sum(-1) + clamping.log_filling(q, seen)
        return value, np.where(seen, -q, -x @ precision)

    def advance(q: np.ndarray, shift: float = 0.0) -> np.ndarray:
        state = hamiltonian.State(q, *value_and_gradient(q))
        p = rng.standard_normal(q.shape)
        end, p_end = state, p
        for _ in range(3):
            end, p_end = hamiltonian.leapfrog(value_and_gradient, end, p_end, np.full(len(q), 0.5), np.ones_like(q))
        end = end._replace(log_density=end.log_density + shift * end.position[:, 1])
        moved, _ = hamiltonian.metropolis(rng.random(len(q)), state, p, end, p_end, np.ones_like(q), np.asarray(3))
        return moved.position

    spread = np.sqrt(1 - correlation**2)
    start = np.stack([rng.standard_normal(count), correlation + spread * rng.standard_normal(count)], 1)
    laws: dict[str, Any] = {
        "missing": (lambda q: q[:, 1], stats.norm(correlation, spread).cdf),
        "filling": (lambda q: q[:, 0], stats.norm.cdf),
    }
    assert holds(list(start_at_target(start, advance, laws).values()))
    assert not holds(list(start_at_target(start, lambda q: advance(q, 0.5), laws).values()))


# the law that completes


def test_the_completing_law_is_a_density_and_its_draws_have_it() -> None:
    """In two dimensions, one of them missing: it integrates to one, and its draws are uniform in its distribution."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((mixture.DRAWS, 1, 2)) @ np.array([[1.0, 0.5], [0, 0.8]])
    v, observed = np.array([[0.7, 0.0]]), np.array([[True, False]])
    law = mixture.fit(draws, v, observed)
    u = np.zeros((80_001, 1, 2))
    u[:, 0, 1] = np.linspace(-400, 400, 80_001)
    density = np.exp(mixture.log_density(u, law)[:, 0])
    assert np.trapezoid(density, u[:, 0, 1]) == pytest.approx(1, abs=1e-4)
    count = 20_000
    noise = mixture.Noise(
        rng.standard_normal((count, 1, 2)), rng.standard_normal((count, 1, mixture.DF)), *rng.random((2, count, 1))
    )
    completed, log_q = mixture.complete(noise, law, v, observed)
    assert (completed[..., 0] == 0.7).all()
    back = (completed[:, 0, 1] - law.centre[0, 1]) / law.factor[0, 1, 1]
    np.testing.assert_allclose(log_q[:, 0], np.interp(back, u[:, 0, 1], np.log(density)) - law.log_det[0], atol=1e-3)
    cdf = np.cumsum(density) * (u[1, 0, 1] - u[0, 0, 1])
    assert stats.kstest(np.interp(back, u[:, 0, 1], cdf), "uniform").pvalue > RATE
    assert stats.kstest(np.interp(1.1 * back, u[:, 0, 1], cdf), "uniform").pvalue < RATE
    np.testing.assert_allclose(np.exp(law.log_shares).sum(1), 1)
    nearest = mixture.fit(draws, np.array([[3.0, 0.0]]), observed)
    assert nearest.centre[0, 1] == pytest.approx(1.5, abs=0.2), "the regression on what is observed"


def test_draws_that_are_wild_do_not_rule_the_law() -> None:
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((mixture.DRAWS, 1, 2))
    wild = draws.copy()
    wild[:3] = [[[np.inf, 1e30]], [[np.nan, -1e30]], [[1e20, 0]]]
    given = np.zeros((1, 2)), np.array([[True, False]])
    tame, found = mixture.fit(draws, *given), mixture.fit(wild, *given)
    np.testing.assert_allclose(found.factor, tame.factor, rtol=0.3)
    assert np.isfinite(found.neighbours).all()
    floored = mixture.floored(np.array([[0.0], [np.nan], [-np.inf]]))
    assert floored[:, 0].tolist() == [0.0, -700.0, -700.0]


@BOTH
def test_completions_without_their_weights_show(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, holes = data(AFFINE)

    def equal(log_weights: np.ndarray) -> importance.Weights:
        n, k = log_weights.shape
        return importance.Weights(np.full((n, k), 1 / k), np.full(n, float(k)), np.full(n, -np.inf))

    program = oracle_program(AFFINE, engine)
    few = {"num_samples": 4000, "num_particles": 4000}
    post = engine.call("impute", program, holes, method="importance", seed=3, **few)
    assert worst_of_imputation(AFFINE, post, holes) < 1
    monkeypatch.setattr(importance, "smooth", equal)
    post = engine.call("impute", program, holes, method="importance", seed=3, **few)
    assert worst_of_imputation(AFFINE, post, holes) > 1


# log p of what is observed


@BOTH
def test_log_prob_of_rows_with_holes_is_right_within_its_stated_error(engine: Any) -> None:
    x, holes = data(AFFINE, rows=300)
    program = oracle_program(AFFINE, engine)
    found = engine.call("log_prob", program, holes, num_particles=1000, seed=1)
    truth = AFFINE.log_prob(holes)
    assert found.kind == "estimate"
    whole = ~np.isnan(holes).any(1)
    assert whole.any()
    assert not found.stderr[whole].any()
    assert (found.stderr[~whole] > 0).all()
    np.testing.assert_allclose(found.value[whole], truth[whole], atol=2e-5)
    parts = found.value[~whole], found.stderr[~whole], truth[~whole]
    assert worst_stated_error(*parts) < 1
    assert worst_stated_error(parts[0], parts[1] / 2, parts[2]) > 1
    assert worst_stated_error(parts[0], parts[1] * 2, parts[2]) > 1
    filled = AFFINE.log_prob(np.where(np.isnan(holes), 0, holes))[~whole]
    assert worst_stated_error(filled, parts[1], parts[2]) > 1, "missing entries taken for zeros"
    wrong = engine.call("log_prob", twin(AFFINE, engine, transforms=0.9), holes, num_particles=1000, seed=1)
    assert worst_stated_error(wrong.value[~whole], wrong.stderr[~whole], parts[2]) > 1
    complete = engine.call("log_prob", oracle_program(AFFINE, engine), x)
    assert complete.kind == "exact"
    with pytest.raises(ValueError, match="num_particles: got 0"):
        engine.call("log_prob", program, holes, num_particles=0)


@BOTH
def test_log_prob_of_one_moon_coordinate_is_that_of_quadrature(engine: Any) -> None:
    found = engine.call("log_prob", moons_program(engine), half_moons(), num_particles=4000, seed=1)
    assert worst_stated_error(found.value, found.stderr, np.log(moons().mass)) < 1
    assert (found.stderr < 0.05).all()


@BOTH
def test_weights_that_are_not_to_be_trusted_are_told(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "LARGEST_K", -5.0)
    monkeypatch.setattr(importance, "untrusted", lambda judged, count: judged.pareto_k > importance.LARGEST_K)
    with pytest.warns(UserWarning, match=r"weights of \d+ of 5 rows are not to be trusted.*Raise num_particles"):
        engine.call("log_prob", moons_program(engine), half_moons(), num_particles=50)
