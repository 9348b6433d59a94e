"""log p of rows with holes: exact where it can be, else an estimate whose error is stated; ensembles as mixtures."""

from itertools import product
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest
from engines import ENGINES
from montecarlo import worst_moment, worst_stated_error
from registry import ORACLES, cases, oracle_program

from deepgen.inference.imputation.enumeration import completions
from deepgen.inference.imputation.sequential import clouds

MINE = [oracle for oracle in ORACLES if oracle.family == "autoregressive"]
DISCRETE = [oracle for oracle in MINE if oracle.discrete]
MIXED = next(oracle for oracle in MINE if oracle.first)
BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def holes(oracle: Any, rows: int = 40) -> np.ndarray:
    rng = np.random.default_rng(2)
    return oracle.hide(oracle.draw(rng, rows), rng)


@pytest.mark.parametrize(("oracle", "engine"), cases(DISCRETE))
def test_few_completions_are_counted(oracle: Any, engine: Any) -> None:
    x = holes(oracle)
    found = engine.call("log_prob", oracle_program(oracle, engine), x)
    assert found.kind == "exact"
    assert found.stderr.max() == 0
    np.testing.assert_allclose(found.value, oracle.log_prob(x), atol=2e-5)
    filled = engine.call("log_prob", oracle_program(oracle, engine), np.nan_to_num(x)).value
    assert np.abs(filled - oracle.log_prob(x)).max() > 0.1, "holes filled with zeros would pass"


@pytest.mark.parametrize(("oracle", "engine"), cases(MINE))
def test_what_is_missing_last_costs_nothing(oracle: Any, engine: Any) -> None:
    rng = np.random.default_rng(3)
    x = oracle.hide_last(oracle.draw(rng, 20), rng)
    with mock.patch.object(completions, "MOST", 0):
        found = engine.call("log_prob", oracle_program(oracle, engine), x)
    assert found.kind == "exact"
    assert found.stderr.max() == 0
    np.testing.assert_allclose(found.value, oracle.log_prob(x), atol=2e-5)


@pytest.mark.parametrize(("oracle", "engine"), cases(MINE))
def test_other_rows_are_estimated_within_their_stated_error(oracle: Any, engine: Any) -> None:
    x = holes(oracle, 160)
    with mock.patch.object(completions, "MOST", 0), mock.patch("deepgen.inference.likelihood.evidence.ways.CLOUDS", 30):
        found = engine.call("log_prob", oracle_program(oracle, engine), x, num_particles=100, seed=4)
    truth = oracle.log_prob(x)
    assert found.kind == "estimate"
    assert 0.1 < (found.stderr > 0).mean() < 1
    assert worst_stated_error(found.value, found.stderr, truth) < 1
    assert worst_stated_error(found.value, found.stderr / 2, truth) > 1
    assert worst_stated_error(found.value + 0.03, found.stderr, truth) > 1


@BOTH
def test_an_ensemble_is_imputed_as_its_mixture_and_not_as_its_members_in_turn(engine: Any) -> None:
    """Members must weigh in by their evidence: at equal weights the conditional law is another."""
    x = holes(MIXED, 24)
    program = oracle_program(MIXED, engine)
    law = MIXED.conditional(x)

    def score(post: Any) -> float:
        draws = post.posterior["x"].values
        return worst_moment(draws.reshape(*draws.shape[:3], -1).astype(float), *law, post.sample_stats["ess"].values)

    options = {"method": "smc", "num_particles": 4000, "seed": 5}
    assert score(engine.call("impute", program, x, **options)) < 1
    mix = clouds.mix

    def even(parts: Any) -> Any:
        return mix([part._replace(log_evidence=0 * part.log_evidence) for part in parts])

    with mock.patch.object(clouds, "mix", even):
        assert score(engine.call("impute", program, x, **options)) > 1


@BOTH
def test_members_whose_missing_entries_come_last_are_drawn_exactly(engine: Any) -> None:
    rng = np.random.default_rng(6)
    x = MIXED.hide_last(MIXED.draw(rng, 24), rng)
    program = oracle_program(MIXED, engine)
    post = engine.call("impute", program, x, method="exact", num_samples=1000, seed=7)
    np.testing.assert_allclose(post.sample_stats["log_evidence"].values, MIXED.log_prob(x), atol=2e-5)
    draws = post.posterior["x"].values.reshape(4, 1000, 24, -1).astype(float)
    assert worst_moment(draws, *MIXED.conditional(x)) < 1
    other = x.copy()
    other[:, MIXED.order[-1]], other[:, MIXED.order[0]] = 1.0, np.nan
    with pytest.raises(ValueError, match="rows with entries observed in a later step than one that is missing"):
        engine.call("impute", program, other, method="exact")


STATES = np.array(list(product([0.0, 1.0], repeat=4)), np.float32)


@BOTH
def test_clamped_draws_of_an_ensemble_weigh_its_members_row_by_row(engine: Any) -> None:
    """Against enumeration, with members that are all as probable as each other as the planted fault."""
    network = {"network": "MaskedMLP", "event_shape": [4], "num_params": 1, "hidden": [5]}
    law = {"law": "bernoulli", "event_shape": [4]}
    config = {"observation": law, "network": network, "members": [[None, None], [None, 3]]}
    program, rng = engine.build("autoregressive", config), np.random.default_rng(32)
    tensors = {name: rng.normal(0, 1.5, value.shape) for name, value in engine.tensors(program).items()}
    program = engine.with_tensors(program, {name: value.astype(np.float32) for name, value in tensors.items()})
    x = np.array([[0, 0, np.nan, np.nan], [0, 1, np.nan, np.nan], [1, 0, np.nan, np.nan]], np.float32)
    joint = np.exp(engine.call("log_prob", program, STATES).value)
    p = np.where((STATES[:, :2] == x[:, None, :2]).all(-1), joint, 0.0)
    p /= p.sum(1, keepdims=True)
    mean = p @ STATES
    covariance = np.einsum("ns,nsi,nsj->nij", p, STATES - mean[:, None], STATES - mean[:, None])

    def score() -> float:
        drawn = np.asarray(engine.call("sample", program, 4000 * len(x), given=np.tile(x, (4000, 1)), seed=8))
        return worst_moment(drawn.reshape(4, 1000, len(x), -1).astype(float), mean, covariance)

    assert score() < 1
    kind = engine.face.Autoregressive
    evidence = kind.evidence
    jax.clear_caches()
    with mock.patch.object(kind, "evidence", lambda *args: 0 * evidence(*args)):
        assert score() > 1
    jax.clear_caches()


@BOTH
def test_a_mask_of_another_shape_is_refused(engine: Any) -> None:
    x = np.zeros((2, 4), np.float32)
    laws = [oracle_program(oracle, engine) for oracle in (MIXED, MINE[0])]
    laws.append(engine.call(engine.face.OrderAgnostic.mlp, (4,), hidden=(3,)))
    for program in laws:
        with pytest.raises(ValueError, match=r"x and observed: got shapes \(2, 4\) and \(2, 2\)"):
            engine.call(program.sample_given, engine.array(x), engine.array(np.ones((2, 2), bool)))


@BOTH
def test_what_is_to_be_clamped_and_is_no_number_is_refused(engine: Any) -> None:
    """By the verb, by a program and by its law; a masked array's mask says what is missing, whatever stands there."""
    nan, mask = np.full((2, 4), np.nan, np.float32), np.array([[True, True, False, False]] * 2)
    ones, booleans = np.ones((2, 4), np.float32), np.ones((2, 4), bool)
    infinite = np.where(mask, np.inf, nan).astype(np.float32)
    laws = [oracle_program(oracle, engine) for oracle in (MIXED, MINE[0])]
    laws.append(engine.call(engine.face.OrderAgnostic.mlp, (4,), "gaussian", hidden=(3,)))
    for program in laws:
        for x, match in ((infinite, "got 4 infinite values, the first at"), (nan, "got 2 rows of which nothing")):
            with pytest.raises(ValueError, match=f"given: {match}"):
                engine.call("sample", program, 2, given=x)
        with pytest.raises(ValueError, match=r"given: got shape \(2, 3\)"):
            engine.call("sample", program, 2, given=ones[:, :3])
        with pytest.raises(ValueError, match=r"x: got 4 NaN, infinite or negative values that are said to be observed"):
            engine.call(program.sample_given, engine.array(infinite))
        with pytest.raises(ValueError, match=r"x: got 8 NaN, .*expected a number wherever an entry is observed"):
            engine.call(program.sample_given, engine.array(nan), engine.array(booleans))
        with pytest.raises(ValueError, match=r"observed: got dtype .*; expected booleans"):
            engine.call(program.sample_given, engine.array(ones), engine.array(ones))
        with pytest.raises(ValueError, match=r"value: got shape \(2, 3\)"):
            engine.call(program.sample_given, engine.array(ones[:, :3]))
        shown = np.where(mask, ones, np.nan)
        for given, same in (
            (np.ma.masked_array(ones, ~mask), shown),
            (np.ma.masked_array(ones[0], ~mask[0]), shown[0]),
        ):
            drawn, other = (np.asarray(engine.call("sample", program, 2, given=x, seed=3)) for x in (given, same))
            np.testing.assert_array_equal(drawn, other)
            assert (drawn[~mask] != 1).any(), "a mask that is not heeded would pass"
