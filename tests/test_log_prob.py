"""`log_prob`: streaming sums against all weights at once, chunks, kinds, refusals. Its truth: see test_oracle."""

from typing import Any

import numpy as np
import pytest
from engines import ENGINES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from registry import ORACLES, oracle_program
from scipy.special import logsumexp

from deepgen.inference.likelihood import streaming

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.tight)


def rows(n: int, holes: bool = True) -> np.ndarray:
    rng = np.random.default_rng(1)
    x = ORACLE.draw(rng, n)
    return ORACLE.hide(x, rng) if holes else x


WEIGHTS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=30),
    elements=st.floats(-200, 200, allow_nan=False),
)


@given(log_weights=WEIGHTS, chunk=st.integers(1, 7))
def test_streaming_is_the_mean_of_all_weights_at_once(log_weights: np.ndarray, chunk: int) -> None:
    count = len(log_weights)
    sums = streaming.empty(log_weights[0])
    for start in range(0, count, chunk):
        sums = streaming.add(sums, log_weights[start : start + chunk])
    value, stderr = streaming.log_mean(sums, count)
    np.testing.assert_allclose(value, logsumexp(log_weights, axis=0) - np.log(count), rtol=1e-9, atol=1e-9)
    weights = np.exp(log_weights - log_weights.max(0))
    expected = weights.std(0) / weights.mean(0) / np.sqrt(count)
    np.testing.assert_allclose(stderr, expected, rtol=1e-5, atol=1e-7)


def test_a_weight_that_is_nan_is_not_told_as_zero() -> None:
    weights = np.array([[0.0, np.nan, -np.inf, np.nan], [1.0, 0.0, -np.inf, -np.inf]])
    value, stderr = streaming.log_mean(streaming.add(streaming.empty(weights[0]), weights), 2)
    np.testing.assert_array_equal(np.isnan(value), [False, True, False, True])
    assert value[2] == -np.inf
    assert stderr[2] == 0


def test_weights_of_zero_count() -> None:
    """Half of the weights zero: their mean halves; all of them: minus infinity, and no NaN."""
    log_weights = np.array([[0.0, -np.inf], [-np.inf, -np.inf]])
    sums = streaming.empty(log_weights[0])
    for weights in log_weights:
        sums = streaming.add(sums, weights[None])
    value, stderr = streaming.log_mean(sums, 2)
    np.testing.assert_allclose(value, [np.log(0.5), -np.inf])
    np.testing.assert_allclose(stderr[0], 1 / np.sqrt(2))
    assert np.isfinite(stderr).all()


@given(rows=st.integers(1, 10**6), particles=st.integers(1, 10**5), size=st.integers(1, 10**6))
def test_chunks_hold_no_more_than_the_budget(rows: int, particles: int, size: int) -> None:
    some_rows, some_particles = streaming.chunk_sizes(rows, particles, size, budget=2**22)
    assert 1 <= some_rows <= rows
    assert 1 <= some_particles <= min(particles, 64)
    assert some_rows * some_particles * size <= max(2**22, size)


@BOTH
def test_chunks_of_rows_and_particles_change_nothing_but_the_noise(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that do not fill a chunk, particles that do not: where the bound is tight every chunking gives the truth."""
    x = rows(11, holes=False)
    truth = ORACLE.log_prob(x)
    real = streaming.chunk_sizes
    seen = []

    def small(*args: Any) -> tuple[int, int]:
        seen.append(real(*args, budget=64 * 12))
        return 4, 3

    monkeypatch.setattr(streaming, "chunk_sizes", small)
    found = engine.call("log_prob", oracle_program(ORACLE, engine), x, num_particles=7)
    assert seen
    np.testing.assert_allclose(found.value, truth, atol=1e-4)
    loose = engine.call("log_prob", oracle_program(ORACLE, engine), rows(11), num_particles=700)
    exact = ORACLE.log_prob(rows(11))
    # 700 particles in chunks of 3: the last one counts for one only
    assert (np.abs(loose.value - exact) < 6 * loose.stderr + 1e-3).all()


@BOTH
def test_result_says_what_it_is(engine: Any) -> None:
    x = rows(6)
    found = engine.call("log_prob", oracle_program(ORACLE, engine), x, num_particles=50)
    assert found.kind == "bound"
    assert isinstance(found.value, np.ndarray)
    assert found.value.shape == found.stderr.shape == (6,)
    assert (found.stderr[np.isnan(x).any(1)] > 0).all()
    again = engine.call("log_prob", oracle_program(ORACLE, engine), x, num_particles=50)
    np.testing.assert_array_equal(found.value, again.value)
    other = engine.call("log_prob", oracle_program(ORACLE, engine), x, num_particles=50, seed=1)
    assert (found.value != other.value).any()


@BOTH
def test_float64_and_integer_data_are_taken(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    x = np.rint(rows(5, holes=False)).astype(np.int64) - 1
    assert (x < 0).any()
    whole = engine.call("log_prob", program, x, num_particles=4).value
    np.testing.assert_allclose(whole, ORACLE.log_prob(x.astype(float)), atol=1e-4)
    double = engine.call("log_prob", program, x.astype(np.float64), num_particles=4).value
    np.testing.assert_allclose(double, whole, atol=1e-4)


@BOTH
def test_a_masked_array_s_mask_is_obeyed(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    holes = rows(6)
    masked = np.ma.masked_array(np.nan_to_num(holes, nan=77.0), np.isnan(holes))
    found = engine.call("log_prob", program, masked, num_particles=50)
    np.testing.assert_allclose(found.value, engine.call("log_prob", program, holes, num_particles=50).value, rtol=1e-5)


@BOTH
def test_bad_arguments_are_refused(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    with pytest.raises(ValueError, match=r"num_particles: got 0; expected a number >= 1"):
        engine.call("log_prob", program, rows(2), num_particles=0)
    empty = rows(3)
    empty[1] = np.nan
    with pytest.raises(ValueError, match="1 rows of which nothing is observed, the first at 1"):
        engine.call("log_prob", program, empty)
    with pytest.raises(ValueError, match=r"x: got shape \(2, 4\)"):
        engine.call("log_prob", program, rows(2)[:, :4])
