"""Programs whose law is known: every family, engine and method against closed forms, and faults that must show."""

from functools import cache
from typing import Any

import arviz as az
import numpy as np
import pytest
from montecarlo import limit, worst, worst_moment, worst_stated_error
from registry import ORACLES, cases, oracle_program, twin

from deepgen.inference.imputation import importance
from deepgen.inference.imputation.methods import METHODS, described
from deepgen.program.unnormalised import HasUnnormalisedLaw

OPTIONS: dict[str, dict[str, int]] = {
    "mcmc": {"num_warmup": 80, "num_samples": 80, "num_chains": 10, "num_steps": 4},
    "sir": {"num_samples": 1000, "num_particles": 2000},
    "gibbs": {"num_warmup": 60, "num_samples": 160, "num_chains": 10},
    "adaptive-gibbs": {"num_warmup": 120, "num_samples": 160, "num_chains": 10},
    "clamped": {"num_warmup": 160, "num_samples": 120, "num_chains": 10, "num_steps": 6},
    "annealed-mala": {"num_warmup": 160, "num_samples": 240, "num_chains": 10, "num_steps": 20},
    "lair": {"num_samples": 1000, "num_particles": 2000, "num_chains": 9},
    "smc": {"num_particles": 4000},
    "hmc": {"num_warmup": 160, "num_samples": 80, "num_chains": 10, "num_steps": 8},
    "pl-mcmc": {"num_warmup": 20, "num_samples": 80, "num_chains": 10, "num_steps": 6},
    "importance": {"num_samples": 1000, "num_particles": 2000},
    "auto": {"num_warmup": 80, "num_samples": 80, "num_chains": 10, "num_steps": 4, "num_particles": 2000},
}
"""What makes a method quick; one that is not here runs with its defaults."""
ROWS, PARTICLES = 48, 1000
CLAIMING = {"exact", "asymptotically exact"}


def methods(oracles: Any, *, having: frozenset[str] = frozenset()) -> list[Any]:
    """(oracle, engine, method) for each method that has these options and whose law is claimed to be right."""
    return [
        pytest.param(oracle, engine, method, id=f"{case.id}-{method}", marks=case.marks)
        for case in cases(oracles, all_quick=False)
        for oracle, engine in [case.values]
        for method in getattr(oracle_program(oracle, engine), "imputers", ())
        if METHODS[method].law in CLAIMING and having <= set(METHODS[method].options) and oracle.offers(method)
    ]


def data(oracle: Any, rows: int = ROWS, seed: int = 1, method: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Complete rows, and the same with holes that the method takes; the first rows have none."""
    rng = np.random.default_rng(seed)
    x = oracle.draw(rng, rows)
    holes = oracle.hide_last(x, rng) if method == "exact" else oracle.hide(x, rng)
    holes[: rows // 8] = x[: rows // 8]
    return x, holes


def options(program: Any, method: str, chosen: dict[str, int]) -> dict[str, int]:
    """Of what is chosen the options that the method has for this program."""
    return {name: value for name, value in chosen.items() if name in described(method, program.imputers).options}


@cache
def imputed(oracle: Any, engine: Any, method: str) -> az.InferenceData:
    _, holes = data(oracle, method=method)
    program = oracle_program(oracle, engine)
    few = options(program, method, OPTIONS.get(method, {}))
    return engine.call("impute", program, holes, method=method, seed=3, **few)


@cache
def valued(oracle: Any, engine: Any, num_particles: int) -> Any:
    return engine.call("log_prob", oracle_program(oracle, engine), incomplete(oracle, 300), num_particles=num_particles)


def incomplete(oracle: Any, rows: int) -> np.ndarray:
    """Rows with holes, for which no guide is the posterior."""
    x, holes = data(oracle, rows=800)
    if not oracle.latent:
        return x[:rows]
    return holes[oracle.is_missing(holes).reshape(800, -1).any(1)][:rows]


def worst_of_imputation(oracle: Any, post: az.InferenceData, holes: np.ndarray) -> float:
    """Of the missing entries and of the latents: means, variances and correlations given what is observed."""
    particles = post.sample_stats["ess"].values if "ess" in post.sample_stats else np.inf
    laws = {"x": oracle.conditional(holes), **oracle.posterior(holes)}
    found = []
    for site, law in laws.items():
        draws = post.posterior[site].values
        flat = draws.reshape(*draws.shape[:3], -1).astype(float)
        found.append(worst_moment(flat, *law, particles))
    return max(found)


@pytest.mark.parametrize(("oracle", "engine"), cases(ORACLES))
def test_the_program_is_rebuilt_from_its_configuration(oracle: Any, engine: Any) -> None:
    program = oracle_program(oracle, engine)
    assert program.family == oracle.family
    assert tuple(program.event_shape) == oracle.event_shape
    assert {name: value.shape for name, value in engine.tensors(program).items()} == {
        name: value.shape for name, value in oracle.tensors.items()
    }


@pytest.mark.parametrize(("oracle", "engine"), cases(ORACLES))
def test_samples_have_the_right_moments(oracle: Any, engine: Any) -> None:
    # of an energy every draw is the end of a chain
    size = 1000 if isinstance(oracle_program(oracle, engine), HasUnnormalisedLaw) else 4000

    def score(program: Any) -> float:
        draws = np.asarray(engine.call("sample", program, size, seed=5))
        assert draws.shape == (size, *oracle.event_shape)
        nothing = np.full((1, *oracle.event_shape), -1 if oracle.integer else np.nan)
        return worst_moment(draws.reshape(1, size, 1, -1).astype(float), *oracle.conditional(nothing))

    assert score(oracle_program(oracle, engine)) < 1
    assert score(twin(oracle, engine, **{oracle.generator: 0.4})) > 1


@pytest.mark.parametrize(("oracle", "engine"), cases(ORACLES))
def test_log_prob_is_right_within_its_stated_error(oracle: Any, engine: Any) -> None:
    """That of the observed entries, where some are missing."""
    holes = incomplete(oracle, 300)
    truth = oracle.log_prob(holes)
    found = valued(oracle, engine, PARTICLES)
    assert found.kind == oracle_program(oracle, engine).likelihood
    if isinstance(oracle_program(oracle, engine), HasUnnormalisedLaw):
        # one constant is estimated for all rows: they are all off by the same, and by as much as is stated
        off = found.value - truth
        assert np.ptp(off) < 2e-5
        assert 0 < found.stderr.max() == found.stderr.min() < 0.1
        assert abs(off.mean()) < limit(1) * found.stderr[0]
        wrong = engine.call("log_prob", twin(oracle, engine, **{oracle.generator: 0.9}), holes, num_particles=50)
        assert np.ptp(wrong.value - truth) > 2e-2, "another density"
        assert abs(off.mean() + 0.3) > limit(1) * found.stderr[0], "a constant that is off by three tenths"
        return
    if not oracle.latent:
        # nothing random: right but for rounding or the steps of a solver
        assert found.stderr.max() == 0
        assert np.abs(found.value - truth).max() < oracle.solver_error
        wrong = engine.call("log_prob", twin(oracle, engine, **{oracle.generator: 0.999}), holes)
        assert np.abs(wrong.value - truth).max() > oracle.solver_error
        return
    assert worst_stated_error(found.value, found.stderr, truth) < 1
    filled = np.where(oracle.is_missing(holes), 1, holes).astype(holes.dtype)
    counted = engine.call("log_prob", oracle_program(oracle, engine), filled, num_particles=PARTICLES)
    planted = {
        "missing entries counted as ones": (counted.value, counted.stderr),
        "the wrong sign of the error": (2 * truth - found.value + 0.05, found.stderr),
    }
    # where the guide is exact, all weights are the same and there is no error to state
    planted |= (
        {}
        if oracle.exact
        else {
            "half the standard error": (found.value, found.stderr / 2),
            "twice the standard error": (found.value, found.stderr * 2),
            "one weight instead of their mean": (valued(oracle, engine, 1).value, found.stderr),
        }
    )
    for fault, (value, stderr) in planted.items():
        assert worst_stated_error(value, stderr, truth) > 1, fault


@pytest.mark.parametrize(("oracle", "engine"), cases([o for o in ORACLES if o.latent], all_quick=False))
def test_a_bound_lies_below_the_truth_and_rises_with_particles(oracle: Any, engine: Any) -> None:
    assert oracle_program(oracle, engine).likelihood == "bound"
    holes = incomplete(oracle, 640)
    truth, poor = oracle.log_prob(holes), twin(oracle, engine, encoder=0.1, posterior=0.1)
    values = [engine.call("log_prob", poor, holes, num_particles=k, seed=2).value for k in (1, 10, 100)]

    def score(gains: np.ndarray) -> float:
        return float(gains.mean() / (gains.std(ddof=1) / np.sqrt(len(gains))))

    for low, high in zip(values, [*values[1:], truth], strict=True):
        assert score(high - low) > -limit(1)
    assert score(values[1] - values[0]) > limit(1)
    assert score(truth - values[0]) > limit(1)
    assert score(values[0] - values[1]) < -limit(1), "a bound that falls would not be seen"


@pytest.mark.parametrize(("oracle", "engine"), cases([oracle for oracle in ORACLES if oracle.tight and oracle.latent]))
def test_where_the_guide_is_the_posterior_the_bound_is_tight(oracle: Any, engine: Any) -> None:
    x, _ = data(oracle)
    found = engine.call("log_prob", oracle_program(oracle, engine), x, num_particles=4)
    np.testing.assert_allclose(found.value, oracle.log_prob(x), atol=1e-4, rtol=0)
    assert found.stderr.max() < 1e-3
    loose = engine.call("log_prob", twin(oracle, engine, encoder=0.9, posterior=0.9), x, num_particles=4)
    assert loose.stderr.max() > 1e-2


@pytest.mark.parametrize(("oracle", "engine", "method"), methods(ORACLES))
def test_imputation_has_the_law_that_it_claims(oracle: Any, engine: Any, method: str) -> None:
    x, holes = data(oracle, method=method)
    post = imputed(oracle, engine, method)
    assert worst_of_imputation(oracle, post, holes) < 1

    if oracle.latent:
        # the noise of the missing entries left out
        latents = {site: post.posterior[site].values for site in oracle.posterior(holes)}
        mean = np.where(oracle.is_missing(holes), oracle.decode(latents), holes)
        assert worst_of_imputation(oracle, altered(post, x=mean), holes) > 1
        # as if the truth of what is missing had been seen
        assert worst_of_imputation(oracle, post, np.where(np.arange(len(x))[:, None] % 2, flat(holes), flat(x))) > 1
    # latents, or where there are none the data, a little too sure of themselves
    site, (centre, _) = next(iter((oracle.posterior(holes) or {"x": oracle.conditional(holes)}).items()))
    draws = post.posterior[site].values
    narrow = centre.reshape(draws.shape[2:]) + 0.85 * (draws - centre.reshape(draws.shape[2:]))
    assert worst_of_imputation(oracle, altered(post, **{site: narrow}), holes) > 1


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def altered(post: az.InferenceData, **values: np.ndarray) -> az.InferenceData:
    """The draws with some variables replaced."""
    changed = post.copy()
    changed.posterior = post.posterior.assign(
        {name: (post.posterior[name].dims, value) for name, value in values.items()}
    )
    return changed


@pytest.mark.parametrize(
    ("oracle", "engine", "method"), methods([o for o in ORACLES if not o.tight], having=frozenset({"num_particles"}))
)
def test_a_guide_without_weights_shows(oracle: Any, engine: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide alone is not the posterior: weights that are all equal must be noticed."""
    _, holes = data(oracle)

    def equal(log_weights: np.ndarray) -> importance.Weights:
        n, k = log_weights.shape
        return importance.Weights(np.full((n, k), 1 / k), np.full(n, float(k)), np.full(n, -np.inf))

    monkeypatch.setattr(importance, "smooth", equal)
    program = oracle_program(oracle, engine)
    post = engine.call("impute", program, holes, method=method, seed=3, **OPTIONS.get(method, {}))
    assert worst_of_imputation(oracle, post, holes) > 1


@pytest.mark.parametrize(("oracle", "engine", "method"), methods(ORACLES))
def test_a_wrong_program_shows(oracle: Any, engine: Any, method: str) -> None:
    """Draws of one program are not taken for those of another whose decoder differs a little."""
    _, holes = data(oracle, method=method)
    post = imputed(oracle, engine, method)
    missing = oracle.is_missing(holes)
    spread = max(1.0, float(np.std(np.asarray(holes)[~missing])))
    shifted = post.posterior["x"].values + 0.1 * spread * missing
    assert worst_of_imputation(oracle, altered(post, x=shifted), holes) > 1


@pytest.mark.parametrize(("oracle", "engine", "method"), methods(ORACLES))
def test_imputation_is_labelled(oracle: Any, engine: Any, method: str) -> None:
    _, holes = data(oracle, method=method)
    post = imputed(oracle, engine, method)
    missing = oracle.is_missing(holes)
    assert {"posterior", "sample_stats", "observed_data", "constant_data"} <= set(post.groups())
    for group in post.groups():
        attrs = post[group].attrs
        assert attrs["method"] == method
        assert attrs["law"] == METHODS[method].law
        assert attrs["engine"] == engine.name
        assert attrs["inference_library"] == "deepgen"
    names = {1: ("x_dim_0",), 2: ("x_dim_0", "x_dim_1"), 3: ("channel", "height", "width")}[len(oracle.event_shape)]
    completed = post.posterior["x"]
    assert completed.dims == ("chain", "draw", "row", *names)
    for site in oracle.posterior(holes):
        assert post.posterior[site].dims[:3] == ("chain", "draw", "row")
        assert all(dim.startswith(f"{site}_dim_") for dim in post.posterior[site].dims[3:])
    assert (post.constant_data["observed"].values == ~missing).all()
    np.testing.assert_array_equal(post.observed_data["x"].values, np.where(missing, np.nan, holes))
    assert np.isfinite(completed.values).all()
    assert post.sample_stats.sizes["row"] == len(holes)


@pytest.mark.parametrize(("oracle", "engine", "method"), methods([o for o in ORACLES if o.quick]))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_observed_entries_come_back_bit_for_bit(oracle: Any, engine: Any, method: str, dtype: Any) -> None:
    """Also float64, which the program computes with in float32, and integers, whose holes `observed` has to show."""
    x, holes = data(oracle, rows=4, seed=8, method=method)
    seen = ~oracle.is_missing(holes)
    given = np.rint(x).astype(dtype) if np.dtype(dtype).kind == "i" or oracle.integer else x.astype(dtype)
    if given.dtype == np.float64 and not oracle.integer:
        given = given + np.pi * 1e-9
        assert (given != given.astype(np.float32)).all()
    few = {"num_samples": 3, "num_warmup": 10, "num_chains": 2, "num_particles": 500}
    program = oracle_program(oracle, engine)
    few = options(program, method, few)
    post = engine.call("impute", program, given, observed=seen, method=method, **few)
    completed = post.posterior["x"].values
    assert (completed[:, :, seen] == given[seen]).all()
    if np.dtype(dtype).kind == "f":
        assert completed.dtype == dtype
    draws = completed[:, :, ~seen]
    assert (draws.std((0, 1)) > 0).mean() > 0.5, "missing entries are not drawn"


def test_the_scores_are_calibrated() -> None:
    """On exact draws the worst score stays below its limit, and not far below: half a limit is often passed."""
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    factor = np.linalg.cholesky(covariance)
    found = []
    for _ in range(40):
        draws = rng.standard_normal((8, 100, 30, 2)) @ factor.T
        found.append(worst_moment(draws, np.zeros((30, 2)), np.broadcast_to(covariance, (30, 2, 2))))
    assert max(found) < 1
    assert np.mean(np.array(found) > 0.35) > 0.5
    assert worst(rng.standard_normal((100, 5))) < 1
    assert worst(rng.standard_normal((100, 5)) + 0.5) > 1
