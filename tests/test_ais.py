"""Annealed importance sampling against closed forms, bounds from both sides, and faults that must be seen."""

import importlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from handmade import CLASSES, Handmade
from hypothesis import given
from hypothesis import strategies as st
from montecarlo import limit, worst_stated_error
from numpyro import distributions as numpyro_dist
from pyro import distributions as pyro_dist
from registry import ORACLES, cases, oracle_program
from scipy import stats
from scipy.special import logsumexp

from deepgen.inference.hmc import hamiltonian
from deepgen.inference.likelihood.ais import annealing, bounds
from deepgen.inference.likelihood.ais import pyro as ais_pyro

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
FACTORS = next(oracle for oracle in ORACLES if oracle.name == "factor-analysis")
CONJUGATE = next(oracle for oracle in ORACLES if oracle.name == "conjugate")
SMALL = {"num_chains": 64, "num_temperatures": 10, "num_steps": 3, "progress": False}


def rows(oracle: Any, n: int) -> np.ndarray:
    """Every second row with holes."""
    rng = np.random.default_rng(3)
    x = oracle.draw(rng, n)
    x[1::2] = oracle.hide(x, rng)[1::2]
    return x


def biased(ratio: np.ndarray) -> float:
    """How far the mean of unbiased ratios is from one, as a share of its limit."""
    return float(abs(ratio.mean() - 1) / (ratio.std(ddof=1) / np.sqrt(len(ratio))) / limit(1, len(ratio) - 1))


def fault(engine: Any, n: int = 40, start: str = "prior") -> float:
    """The worst of both checks on factor analysis: stated errors row by row, and the weights' mean over rows."""
    x = rows(FACTORS, n)
    found = engine.call("ais", oracle_program(FACTORS, engine), x, start=start, **SMALL)
    truth = FACTORS.log_prob(x)
    return max(worst_stated_error(found.value, found.stderr, truth), biased(np.exp(found.value.astype(float) - truth)))


@BOTH
@pytest.mark.parametrize("start", ["prior", "guide"])
def test_the_closed_form_within_the_stated_errors(engine: Any, start: str) -> None:
    assert fault(engine, start=start) < 1


@pytest.mark.slow
@pytest.mark.parametrize(("oracle", "engine"), cases([oracle for oracle in ORACLES if oracle.latent]))
def test_every_oracle_within_the_stated_errors(oracle: Any, engine: Any) -> None:
    x = rows(oracle, 20)
    found = engine.call("ais", oracle_program(oracle, engine), x, **SMALL)
    assert worst_stated_error(found.value, found.stderr, oracle.log_prob(x)) < 1


def test_the_estimate_s_own_transitions_are_accepted_as_often_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the pilot's step sizes, which stay as they are whatever the estimate's chains do."""
    seen: list[tuple[float, np.ndarray]] = []
    real = ais_pyro.hmc.step

    def step(state: Any, target: Any, step_size: Any, *args: Any) -> Any:
        state, info = real(state, target, step_size, *args)
        seen.append((float(info.accept_prob.mean()), step_size.numpy().copy()))
        return state, info

    monkeypatch.setattr(ais_pyro.hmc, "step", step)
    PYRO.call("ais", oracle_program(FACTORS, PYRO), rows(FACTORS, 40), **{**SMALL, "num_temperatures": 60})
    pilot, estimate = seen[annealing.SETTLING : -59], seen[-59:]
    assert abs(np.mean([accepted for accepted, _ in estimate]) - annealing.TARGET) < 0.06
    for (_, learned), (_, used) in zip(pilot, estimate, strict=True):
        np.testing.assert_array_equal(learned, used)
    assert (estimate[0][1] != estimate[-1][1]).all()


@BOTH
def test_wrong_increments_are_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(temperatures: np.ndarray, *, reverse: bool) -> annealing.Plan:
        right, other = (plan(t, reverse=reverse) for t in (temperatures, temperatures**1.5))
        return right._replace(increment=other.increment, last=other.last)

    plan = annealing.plan
    monkeypatch.setattr(annealing, "plan", wrong)
    assert fault(engine) > 1


@BOTH
@pytest.mark.filterwarnings("ignore:in .* annealed chains outweighs:UserWarning")
def test_transitions_without_acceptance_are_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hamiltonian.metropolis

    def always(uniform: Any, start: Any, p_start: Any, end: Any, *args: Any) -> Any:
        return end, real(uniform, start, p_start, end, *args)[1]

    monkeypatch.setattr(hamiltonian, "metropolis", always)
    # one row more than elsewhere, so that nothing compiled with the right transition is used, or the other way round
    assert fault(engine, 41) > 1


@BOTH
def test_every_weight_is_exact_where_the_guide_is_the_posterior(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the weights do not vary at all, whatever the noise; in batches that the rows do not fill, with a bar."""
    monkeypatch.setattr(bounds, "chunk_rows", lambda *_: 4)
    x = rows(CONJUGATE, 6)
    settings = {"num_chains": 3, "num_temperatures": 4, "num_steps": 2}
    found = engine.call("ais", oracle_program(CONJUGATE, engine), x, start="guide", progress=True, **settings)
    np.testing.assert_allclose(found.value, CONJUGATE.log_prob(x), atol=1e-4)
    assert found.kind == "estimate"
    assert (found.stderr < 1e-3).all()
    assert found.value.shape == found.stderr.shape == (6,)


class NumPyroPositive(Handmade):
    """A positive latent: log z ~ N(0, 1), x_i ~ N(log z, 0.5²)."""

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        n = size if x is None else len(x)
        with numpyro.plate("data", n):
            z = numpyro.sample("z", numpyro_dist.LogNormal(jnp.zeros((n, 1)), 1.0).to_event(1))
            loc = jnp.broadcast_to(jnp.log(z), (*z.shape[:-1], 2))
            return numpyro.sample("x", numpyro_dist.Normal(loc, 0.5).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with numpyro.plate("data", len(x)):
            return numpyro.sample("z", numpyro_dist.LogNormal(jnp.zeros((len(x), 1)), 1.0).to_event(1))


class PyroPositive(Handmade):
    """The same in Pyro."""

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        n = size if x is None else len(x)
        with pyro.plate("data", n):
            z = pyro.sample("z", pyro_dist.LogNormal(torch.zeros(n, 1), 1.0).to_event(1))
            return pyro.sample("x", pyro_dist.Normal(z.log().expand(*z.shape[:-1], 2), 0.5).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with pyro.plate("data", len(x)):
            return pyro.sample("z", pyro_dist.LogNormal(torch.zeros(len(x), 1), 1.0).to_event(1))


@BOTH
def test_a_constrained_latent_brings_its_jacobian(engine: Any) -> None:
    program = NumPyroPositive() if engine is NUMPYRO else PyroPositive()
    x = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    found = engine.call("ais", program, x, **SMALL)
    truth = stats.multivariate_normal.logpdf(x, np.zeros(2), np.ones((2, 2)) + 0.25 * np.eye(2))
    assert worst_stated_error(found.value, found.stderr, truth) < 1


NARROW = (1e-3, 1e-3, 1.0, 1.0)


class NumPyroLevels(Handmade):
    """A level of two normals above one of four, at them and at their halves with scales far apart; x_i sums two."""

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        n = size if x is None else len(x)
        with numpyro.plate("data", n):
            above = numpyro.sample("z_2", numpyro_dist.Normal(jnp.zeros((n, 2)), 1.0).to_event(1))
            loc = jnp.concatenate([above, above / 2], axis=-1)
            z = numpyro.sample("z_1", numpyro_dist.Normal(loc, jnp.asarray(NARROW)).to_event(1))
            return numpyro.sample("x", numpyro_dist.Normal(z[..., :2] + z[..., 2:], 0.5).to_event(1), obs=x)

    guide = model


class PyroLevels(Handmade):
    """The same in Pyro."""

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        n = size if x is None else len(x)
        with pyro.plate("data", n):
            above = pyro.sample("z_2", pyro_dist.Normal(torch.zeros(n, 2), 1.0).to_event(1))
            loc = torch.cat([above, above / 2], dim=-1)
            z = pyro.sample("z_1", pyro_dist.Normal(loc, torch.tensor(NARROW)).to_event(1))
            return pyro.sample("x", pyro_dist.Normal(z[..., :2] + z[..., 2:], 0.5).to_event(1), obs=x)

    guide = model


def levels(engine: Any) -> float:
    """The worst error of a row of two levels beside its stated one."""
    program = NumPyroLevels() if engine is NUMPYRO else PyroLevels()
    x = np.array([[0.2, -0.3], [1.0, 2.0], [-3.0, -5.0], [6.0, 5.0]], np.float32)
    truth = stats.norm.logpdf(x, 0, np.sqrt(1.5**2 + NARROW[0] ** 2 + NARROW[2] ** 2 + 0.5**2)).sum(1)
    found = engine.call("ais", program, x, num_chains=64, num_temperatures=30, num_steps=5, progress=False)
    return worst_stated_error(found.value, found.stderr, truth)


@BOTH
def test_the_scales_of_a_level_may_be_far_apart(engine: Any) -> None:
    assert levels(engine) < 1


@BOTH
def test_levels_in_their_own_units_would_fail(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    room = importlib.import_module(f"deepgen.inference.likelihood.ais.{engine}")
    monkeypatch.setattr(room.latents.Noise, "model", lambda self, x=None, *, size=1: self.program.model(x, size=size))
    assert levels(engine) > 1


def brackets(engine: Any, num_temperatures: int) -> bounds.Bracket:
    settings = {**SMALL, "num_chains": 4, "num_temperatures": num_temperatures}
    return engine.call("bdmc", oracle_program(FACTORS, engine), 600, **settings)


def score(values: np.ndarray) -> float:
    return float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))


@BOTH
def test_bounds_from_both_sides_close_in_on_the_truth(engine: Any) -> None:
    near, wide = brackets(engine, 10), brackets(engine, 2)
    for found in (near, wide):
        truth = FACTORS.log_prob(found.x)
        assert found.x.shape == (600, *FACTORS.event_shape)
        assert score(truth - found.row_lower) > -limit(1)
        assert score(found.row_upper - truth) > -limit(1)
    truth = FACTORS.log_prob(near.x)
    assert biased(np.exp(near.row_lower - truth)) < 1
    assert biased(np.exp(truth - near.row_upper)) < 1
    assert wide.gap > limit(1) * wide.gap_stderr
    assert wide.gap - near.gap > limit(1) * np.hypot(wide.gap_stderr, near.gap_stderr)


@BOTH
def test_reverse_chains_that_begin_elsewhere_are_seen(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper bound rests on the exact draw of the posterior: begun at another row's it is none."""
    room = importlib.import_module(f"deepgen.inference.likelihood.ais.{engine.name}")
    real = room._simulate

    def elsewhere(*args: Any) -> Any:
        values, x = real(*args)
        return {name: value[np.arange(1, len(x) + 1) % len(x)] for name, value in values.items()}, x

    monkeypatch.setattr(room, "_simulate", elsewhere)
    found = brackets(engine, 10)
    assert score(found.row_upper - FACTORS.log_prob(found.x)) < -limit(1)


def test_a_second_call_compiles_nothing() -> None:
    program = oracle_program(FACTORS, NUMPYRO)

    def call(seed: int) -> Any:
        return NUMPYRO.call("ais", program, rows(FACTORS, 40), seed=seed, **SMALL).value

    first = call(0)
    values: list[Any] = []
    assert NUMPYRO.compiled(lambda: values.append(call(1))) == 0
    assert (values[0] != first).any()
    np.testing.assert_array_equal(call(0), first)


@given(count=st.integers(2, 2000))
def test_temperatures_rise_from_zero_to_one_and_are_densest_at_the_ends(count: int) -> None:
    temperatures = annealing.sigmoid_schedule(count)
    steps = np.diff(temperatures)
    assert temperatures[0] == 0
    assert temperatures[-1] == 1
    assert len(steps) == count
    assert (steps > 0).all()
    np.testing.assert_allclose(temperatures, 1 - temperatures[::-1], atol=1e-12)
    assert steps[0] == pytest.approx(steps.min())
    sigmoid = 1 / (1 + np.exp(-4 * (2 * np.arange(count + 1) / count - 1)))
    np.testing.assert_allclose(temperatures, (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0]), rtol=1e-9, atol=1e-12)


@given(count=st.integers(2, 50))
def test_both_directions_of_a_path_have_the_same_weight(count: int) -> None:
    """Delta of z_0 ... z_{T-1} as random numbers: the reverse leg meets them in the other order."""
    temperatures = annealing.sigmoid_schedule(count)
    delta = np.random.default_rng(count).standard_normal(count)
    plan = annealing.plan(temperatures, reverse=True)
    expected = (np.diff(temperatures) * delta).sum()
    for leg, met in ((1, delta), (2, delta[::-1])):
        mine = plan.leg == leg
        weight = (plan.increment[mine] * met[:-1]).sum() + plan.last[leg] * met[-1]
        assert weight == pytest.approx(expected)
        np.testing.assert_array_equal(np.sort(plan.slot[mine]), np.arange(count - 1))
        np.testing.assert_array_equal(plan.temperature[mine], temperatures[1:-1][plan.slot[mine]])
    assert (np.diff(plan.leg) >= 0).all()
    assert (plan.increment[plan.leg == 0] == 0).all()
    assert (np.diff(plan.temperature[plan.leg == 1]) > 0).all()
    assert (np.diff(plan.temperature[plan.leg == 2]) < 0).all()
    assert set(annealing.plan(temperatures, reverse=False).leg) == {0, 1}


def test_the_pilot_finds_the_step_size_of_the_target_acceptance() -> None:
    """Acceptance exp(-(e / s)²) of two rows, from far off on either side, within the pilot's settling time."""
    scale = np.array([[0.02, 3.0]])
    log_step_size = np.log(np.full((1, 2), annealing.FIRST_STEP_SIZE))
    for _ in range(annealing.SETTLING):
        accept_prob = np.repeat(np.exp(-((np.exp(log_step_size) / scale) ** 2)), 3, axis=0)
        log_step_size = annealing.adapted(log_step_size, accept_prob)
    reached = np.exp(-((np.exp(log_step_size) / scale) ** 2))
    np.testing.assert_allclose(reached, annealing.TARGET, atol=0.05)


def test_bounds_of_given_weights() -> None:
    rng = np.random.default_rng(0)
    forward, reverse = rng.standard_normal((2, 5, 7))
    found = bounds.bracket(forward, reverse, np.zeros((7, 1)))
    lower = logsumexp(forward, axis=0) - np.log(5)
    upper = -(logsumexp(-reverse, axis=0) - np.log(5))
    np.testing.assert_allclose(found.row_lower, lower)
    np.testing.assert_allclose(found.row_upper, upper)
    for mean, stderr, values in (
        (found.lower, found.lower_stderr, lower),
        (found.upper, found.upper_stderr, upper),
        (found.gap, found.gap_stderr, upper - lower),
    ):
        assert mean == pytest.approx(values.mean())
        assert stderr == pytest.approx(values.std(ddof=1) / np.sqrt(7))


class NoLatents(Handmade):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        return x

    guide = model


@BOTH
def test_bad_arguments_are_refused(engine: Any) -> None:
    program, x = oracle_program(FACTORS, engine), rows(FACTORS, 2)
    for verb, given_first in (("ais", x), ("bdmc", 2)):
        for name, least in (("num_chains", 2), ("num_temperatures", 2), ("num_steps", 1)):
            with pytest.raises(ValueError, match=rf"{name}: got 0; expected a number >= {least}"):
                engine.call(verb, program, given_first, **{name: 0})
        with pytest.raises(ValueError, match=r"start: got 'posterior'; expected one of \['prior', 'guide'\]"):
            engine.call(verb, program, given_first, start="posterior")
    with pytest.raises(ValueError, match=r"num_rows: got 1; expected a number >= 2"):
        engine.call("bdmc", program, 1)
    with pytest.raises(ValueError, match=r"x: got shape \(2, 1, 2\)"):
        engine.call("ais", program, x[..., 0])
    flat = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"latent 'c': got a discrete law; .*Call log_prob"):
        engine.call("ais", CLASSES[engine], flat)
    with pytest.raises(ValueError, match=r"program: got one without latents; .*Call log_prob, which needs none"):
        engine.call("ais", NoLatents(), flat)


def test_chains_of_which_one_outweighs_all_are_reported() -> None:
    """Of most rows, and of enough chains to say so."""
    even = np.random.default_rng(0).normal(0.0, 0.3, (16, 6))
    lost = np.random.default_rng(0).normal(0.0, 30.0, (16, 6))
    with pytest.warns(UserWarning, match=r"in 6 of 6 rows one of the 16 .* start the chains at the guide"):
        found = bounds.judged(lost, "prior")
    np.testing.assert_array_equal(found, bounds.log_mean(lost))
    with pytest.warns(UserWarning, match="Raise num_temperatures.$"):
        bounds.judged(lost, "guide")
    bounds.judged(even, "prior")
    bounds.judged(lost[:4], "prior")
    bounds.judged(np.where(np.arange(6) < 3, lost, even), "prior")
