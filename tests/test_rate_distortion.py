"""Rate, distortion, and comparison of programs by ArviZ, on a linear-Gaussian program in both engines.

A statistical check fails by chance with probability `montecarlo.RATE`, and has a twin with a planted fault.
"""

import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import limit
from registry import ORACLES, oracle_program, twin

from deepgen import evaluation as ev

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.tight)
X = ORACLE.draw(np.random.default_rng(2), 30)
NOISE = 0.8
LOOSE = 0.3
"""What the guide's numbers are multiplied by, for a guide that is not exact."""


def closed_form(engine: Any, program: Any) -> tuple[np.ndarray, np.ndarray]:
    """KL(N(m, V) || N(0, I)) and -E_q log N(x; W z + b, s² I) of each row."""
    loc, scale = (part.astype(float) for part in engine.encode(program, X))
    tensors = engine.tensors(program)
    loading, offset = (tensors[f"decoder.layers.0.{name}"].astype(float) for name in ("weight", "bias"))
    rate = 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(1)
    residual = X - offset - loc @ loading.T
    square = (residual**2).sum(1) + scale**2 @ (loading**2).sum(0)
    return rate, 0.5 * square / NOISE**2 + 0.5 * X.shape[1] * np.log(2 * np.pi * NOISE**2)


RUNS, PARTICLES = 12, 10


def replicates(engine: Any, program: Any) -> np.ndarray:
    """The means over rows of rate and distortion, (RUNS, 2)."""
    runs = [
        engine.call("rate_distortion", program, X, num_particles=PARTICLES, seed=100 + seed) for seed in range(RUNS)
    ]
    return np.array([[run.rate.mean(dtype=float), run.distortion.mean(dtype=float)] for run in runs])


def fit_badly(runs: np.ndarray, exact: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Which of the two parts are not where they should be."""
    error = runs.mean(0) - [part.mean() for part in exact]
    return np.abs(error) / (runs.std(0, ddof=1) / np.sqrt(RUNS)) > limit(2, RUNS - 1)


@BOTH
def test_rate_and_distortion_are_the_closed_forms(engine: Any) -> None:
    """Where the guide is exact and where it is not; the closed form of the other guide must not fit."""
    program, other = oracle_program(ORACLE, engine), twin(ORACLE, engine, encoder=LOOSE)
    runs, loose = replicates(engine, program), replicates(engine, other)
    assert not fit_badly(runs, closed_form(engine, program)).any()
    assert not fit_badly(loose, closed_form(engine, other)).any()
    assert fit_badly(loose, closed_form(engine, program)).all()


@BOTH
def test_their_sum_is_minus_the_bound(engine: Any) -> None:
    """Row by row -log p(x), without any noise, where the guide is exact; above it where it is not."""
    found = engine.call("rate_distortion", oracle_program(ORACLE, engine), X, num_particles=PARTICLES)
    np.testing.assert_allclose(found.rate + found.distortion, -ORACLE.log_prob(X), atol=2e-4)
    loose = engine.call("rate_distortion", twin(ORACLE, engine, encoder=LOOSE), X, num_particles=PARTICLES)
    assert (loose.rate + loose.distortion).mean() > -ORACLE.log_prob(X).mean() + 0.05


def test_holes_are_left_out_of_the_distortion() -> None:
    oracle = next(oracle for oracle in ORACLES if oracle.exact)
    rng = np.random.default_rng(0)
    holes = oracle.hide(oracle.draw(rng, 12), rng)
    found = PYRO.call("rate_distortion", oracle_program(oracle, PYRO), holes, num_particles=3)
    np.testing.assert_allclose(found.rate + found.distortion, -oracle.log_prob(holes), atol=5e-4)


def test_engines_agree_on_the_same_noise() -> None:
    """And a draw's -(rate + distortion) is what log_prob gives for one particle."""
    found = {}
    for engine in ENGINES:
        program = twin(ORACLE, engine, encoder=LOOSE)
        found[engine] = engine.on_tape(5, partial(engine.face.rate_distortion, num_particles=2), program, X[:4])
    for first, second in zip(found[NUMPYRO], found[PYRO], strict=True):
        np.testing.assert_allclose(first, second, rtol=2e-4, atol=2e-5)
    one = PYRO.on_tape(6, partial(PYRO.face.rate_distortion, num_particles=1), program, X[:4])
    bound = PYRO.on_tape(6, partial(PYRO.face.log_prob, num_particles=1), program, X[:4])
    np.testing.assert_allclose(-(one.rate + one.distortion), bound.value, rtol=2e-4, atol=2e-5)
    assert not np.allclose(found[PYRO].rate, one.rate, rtol=2e-4)


@BOTH
def test_several_programs_make_a_table(engine: Any) -> None:
    programs = {1.0: oracle_program(ORACLE, engine), 4.0: twin(ORACLE, engine, encoder=LOOSE)}
    table = engine.call("rate_distortion_curve", programs, X, num_particles=PARTICLES, seed=3)
    assert list(table.index) == [1.0, 4.0]
    for beta, program in programs.items():
        rate, distortion = (part.mean() for part in closed_form(engine, program))
        assert abs(table.loc[beta, "rate"] - rate) < 6 * table.loc[beta, "rate_stderr"]
        assert abs(table.loc[beta, "distortion"] - distortion) < 6 * table.loc[beta, "distortion_stderr"]
    assert table["negative_elbo"].to_numpy() == pytest.approx((table["rate"] + table["distortion"]).to_numpy())
    exact = ORACLE.log_prob(X)
    assert table.loc[1.0, "negative_elbo_stderr"] == pytest.approx(exact.std(ddof=1) / np.sqrt(len(X)), rel=1e-3)


def test_a_table_is_of_the_same_rows() -> None:
    with pytest.raises(ValueError, match=r"found: got numbers of rows \{\}; expected programs measured on the same"):
        ev.rate_distortion_table({})
    with pytest.raises(ValueError, match=r"found: got numbers of rows \{1: 2, 2: 3\}"):
        ev.rate_distortion_table({k: ev.RateDistortion(np.zeros(k + 1), np.zeros(k + 1)) for k in (1, 2)})


@BOTH
def test_a_better_program_wins_the_comparison(engine: Any) -> None:
    programs = {"worse": twin(ORACLE, engine, decoder=1.5), "true": oracle_program(ORACLE, engine)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = engine.call("compare", programs, X, num_particles=200)
    assert list(table.index) == ["true", "worse"]
    assert table.loc["true", "elpd_loo"] == pytest.approx(ORACLE.log_prob(X).sum(), abs=0.02)
    assert table.loc["worse", "elpd_diff"] > 3 * table.loc["worse", "dse"] > 0
    assert table.loc["true", "weight"] > 0.9
    assert list(table["untrusted_rows"]) == [0, 0]
    assert list(table["warning"]) == [False, False]
    assert list(table["kind"]) == ["bound", "bound"]


@BOTH
def test_rows_with_bad_weights_are_told(engine: Any) -> None:
    programs = {"true": oracle_program(ORACLE, engine), "lost guide": twin(ORACLE, engine, encoder=-1.5)}
    with pytest.warns(UserWarning, match=r"the importance weights of \d+ of 30 rows of 'lost guide' are not to be"):
        table = engine.call("compare", programs, X, num_particles=200)
    assert table.loc["lost guide", "untrusted_rows"] > 0
    assert table.loc["true", "untrusted_rows"] == 0
    assert list(table.loc[["true", "lost guide"], "warning"]) == [False, True]


def test_held_out_rows_say_what_they_are() -> None:
    exact = ev.held_out(np.array([[-3.0], [-1e4]]), "exact")
    np.testing.assert_array_equal(exact.value, [-3, -1e4])
    assert not exact.untrusted.any()
    rng = np.random.default_rng(0)
    heavy = np.stack([rng.standard_normal(500), 3 * rng.exponential(size=500)])
    judged = ev.held_out(heavy - 2e3, "bound")
    np.testing.assert_allclose(judged.value, np.log(np.exp(heavy).mean(1)) - 2e3)
    assert list(judged.untrusted) == [False, True]
    with pytest.raises(ValueError, match=r"scores: got numbers of rows \{'a': 2, 'b': 1\}; expected programs scored"):
        ev.comparison({"a": judged, "b": ev.held_out(heavy[:1], "bound")})


@BOTH
def test_what_is_refused(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    with pytest.raises(ValueError, match=r"programs: got \['a'\]; expected two programs or more"):
        engine.call("compare", {"a": program}, X, num_particles=2)
    for verb, arguments in {
        "compare": ({"a": program, "b": program},),
        "rate_distortion": (program,),
        "rate_distortion_curve": ({1.0: program},),
    }.items():
        with pytest.raises(ValueError, match="num_particles: got 0; expected a number >= 1"):
            engine.call(verb, *arguments, X, num_particles=0)
        with pytest.raises(ValueError, match=r"x: got shape \(30, 4\)"):
            engine.call(verb, *arguments, X[:, :4])
