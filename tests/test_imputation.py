"""`impute`: what it refuses and warns of, importance weights, and plain models. Its law: see test_oracle."""

from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pandas as pd
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import RATE, worst_moment
from registry import ORACLES, oracle_program
from scipy import stats

from deepgen.inference.imputation import importance, result

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
ORACLE = next(oracle for oracle in ORACLES if oracle.tight)
QUICK = {"method": "sir", "num_samples": 10, "num_particles": 400}


def rows(n: int = 4) -> np.ndarray:
    rng = np.random.default_rng(1)
    return ORACLE.hide(ORACLE.draw(rng, n), rng, rate=0.4)


def test_smoothed_weights_are_arviz_s() -> None:
    rng = np.random.default_rng(0)
    log_weights = rng.standard_normal((6, 500)) * np.linspace(0.1, 3.0, 6)[:, None] + 1000
    found = importance.smooth(log_weights)
    expected, k = az.psislw(log_weights)
    np.testing.assert_allclose(found.weights, np.exp(expected), rtol=1e-10)
    np.testing.assert_allclose(found.weights.sum(1), 1)
    np.testing.assert_allclose(found.pareto_k, k)
    raw = np.exp(log_weights - 1000)
    np.testing.assert_allclose(found.ess, raw.sum(1) ** 2 / (raw**2).sum(1))
    assert found.ess[0] > 480
    assert found.ess[-1] < 100


def test_equal_weights_have_no_tail() -> None:
    """Also where they differ by float32 rounding, whose tail would be fitted to nonsense."""
    rounding = np.random.default_rng(0).integers(-3, 4, (1, 200)) * 4.8e-7
    found = importance.smooth(np.concatenate([np.full((1, 200), -7.0), -7 + rounding]))
    assert (found.pareto_k == -np.inf).all()
    np.testing.assert_allclose(found.ess, 200, rtol=1e-5)
    np.testing.assert_allclose(found.weights, 1 / 200)


def test_resampling_has_the_weights_frequencies() -> None:
    weights = np.array([[0.5, 0.0, 0.3, 0.2], [0.0, 0.0, 0.0, 1.0]])
    index = importance.resample(weights, np.random.default_rng(0).random((2, 20_000)))
    counts = np.stack([np.bincount(row, minlength=4) for row in index])
    assert counts[0, 1] == 0
    assert (counts[1] == [0, 0, 0, 20_000]).all()

    def pvalue(expected: list[float]) -> float:
        return float(stats.chisquare(counts[0][[0, 2, 3]], np.array(expected) * 20_000).pvalue)

    assert pvalue([0.5, 0.3, 0.2]) > RATE
    assert pvalue([0.47, 0.31, 0.22]) < RATE
    edge = importance.resample(weights, np.array([[0.0, 1 - 1e-17, 0.5], [0.0, 0.3, 1.0]]))
    assert (weights[np.arange(2)[:, None], edge] > 0).all()


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"method": "knn"},
        r"method: got 'knn'; expected one of \['mcmc', 'sir', 'gibbs', 'pseudo-gibbs', 'adaptive-gibbs'",
    ),
    ({"method": "nuts"}, r"method: got 'nuts'; expected one of \['mcmc', 'sir'"),
    ({"method": "sir", "num_warmup": 5}, r"num_warmup: got 5; expected no such option for method='sir'. It takes"),
    ({"method": "mcmc", "num_particles": 5}, r"num_particles: got 5; expected no such option for method='mcmc'"),
    ({"method": "gibbs", "num_steps": 5}, r"num_steps: got 5; expected no such option for method='gibbs'. It takes"),
    ({"method": "lair", "num_warmup": 5}, r"num_warmup: got 5; expected no such option for method='lair'"),
    ({"method": "adaptive-gibbs", "num_chains": 0}, r"num_chains: got 0; expected a number >= 1"),
    ({"num_samples": 0}, r"num_samples: got 0; expected a number >= 1"),
    ({"num_warmup": -1}, r"num_warmup: got -1; expected a number >= 0"),
    ({"columns": ["a", "b"]}, r"columns: got 2 names \(2 different\) for an event of shape \(5,\)"),
    ({"columns": list("aabcd")}, r"columns: got 5 names \(4 different\)"),
    ({"model_args": (3,)}, r"model_args, model_kwargs: got \(3,\), None; expected none with a program"),
    ({"model_kwargs": {"n": 3}}, "They belong to a plain model: pass program.model"),
    ({"observed": np.ones((4, 5))}, r"observed: got dtype float64, shape \(4, 5\); expected booleans"),
]


@BOTH
@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_bad_arguments_are_refused(engine: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine.call("impute", oracle_program(ORACLE, engine), rows(), **options)


@BOTH
def test_bad_data_are_refused(engine: Any) -> None:
    program = oracle_program(ORACLE, engine)
    x = rows()
    with pytest.raises(ValueError, match=r"x: got shape \(4, 3\)"):
        engine.call("impute", program, x[:, :3])
    with pytest.raises(ValueError, match=r"x: got shape \(5,\).*Add the batch axis"):
        engine.call("impute", program, x[0])
    with pytest.raises(ValueError, match="x: got no rows"):
        engine.call("impute", program, x[:0])
    x[2] = np.nan
    with pytest.raises(ValueError, match="1 rows of which nothing is observed, the first at 2"):
        engine.call("impute", program, x)
    x[2] = np.inf
    with pytest.raises(ValueError, match="5 infinite values"):
        engine.call("impute", program, x)


@BOTH
def test_columns_become_coordinates(engine: Any) -> None:
    names = ["age", "height", "weight", "income", "tax"]
    post = engine.call("impute", oracle_program(ORACLE, engine), rows(), columns=names, **QUICK)
    for group, variable in {"posterior": "x", "observed_data": "x", "constant_data": "observed"}.items():
        assert post[group][variable].dims[-1] == "column"
        assert list(post[group]["column"].values) == names
    assert post.posterior["x"].sel(column="income", row=2).shape == (1, 10)


@BOTH
def test_a_data_frame_brings_its_columns(engine: Any) -> None:
    program, names = oracle_program(ORACLE, engine), list("abcde")
    frame = pd.DataFrame(rows(), columns=names)
    post = engine.call("impute", program, frame, **QUICK)
    assert list(post.posterior["column"].values) == names
    post = engine.call("impute", program, frame, columns=list("vwxyz"), **QUICK)
    assert list(post.posterior["column"].values) == list("vwxyz")
    nullable = frame.astype("Float64").convert_dtypes()
    with pytest.raises(ValueError, match=r"got dtype object.*x\.to_numpy\(dtype=np\.float32, na_value=np\.nan\)"):
        engine.call("impute", program, nullable, **QUICK)
    converted = nullable.to_numpy(dtype=np.float32, na_value=np.nan)
    np.testing.assert_array_equal(converted, rows())


@BOTH
def test_masked_arrays_and_masks_say_what_is_missing(engine: Any) -> None:
    holes = rows()
    filled = np.nan_to_num(holes, nan=77.0)
    program = oracle_program(ORACLE, engine)
    by_nan, by_mask, by_array = (
        engine.call("impute", program, x, **QUICK, **options)
        for x, options in [
            (holes, {}),
            (filled, {"observed": ~np.isnan(holes)}),
            (np.ma.masked_array(filled, np.isnan(holes)), {}),
        ]
    )
    for other in (by_mask, by_array):
        np.testing.assert_array_equal(other.posterior["x"].values, by_nan.posterior["x"].values)
        np.testing.assert_array_equal(other.observed_data["x"].values, by_nan.observed_data["x"].values)
        np.testing.assert_array_equal(other.constant_data["observed"].values, ~np.isnan(holes))


@BOTH
def test_complete_data_come_back(engine: Any) -> None:
    x = ORACLE.draw(np.random.default_rng(0), 3)
    post = engine.call("impute", oracle_program(ORACLE, engine), x, **QUICK)
    assert (post.posterior["x"].values == x).all()
    assert (post.observed_data["x"].values == x).all()
    assert post.sample_stats["pareto_k"].max() < 0.5


@BOTH
def test_untrustworthy_weights_are_announced(engine: Any) -> None:
    """A guide far from the posterior, of the wrong place and much too sure."""
    tensors = dict(ORACLE.tensors)
    bias = np.array(tensors["encoder.layers.0.bias"])
    bias[:2], bias[2:] = 2.0, -4.0
    program = engine.with_tensors(engine.build(ORACLE.family, ORACLE.config), tensors | {"encoder.layers.0.bias": bias})
    with pytest.warns(UserWarning, match=r"the importance weights of \d of 4 rows are not to be trusted \(Pareto k"):
        post = engine.call("impute", program, rows(), **QUICK)
    assert (post.sample_stats["pareto_k"].values > 0.7).sum() == post.attrs["rows_with_high_pareto_k"] > 0


def test_chains_that_disagree_are_announced() -> None:
    rng = np.random.default_rng(0)
    lp = rng.standard_normal((4, 100, 3))
    per_chain = {name: np.zeros((4, 3)) for name in ("acceptance_rate", "step_size", "diverging")}
    stats_, said = result.chain_stats(lp, **per_chain)
    assert said == {"rows_with_high_r_hat": 0}
    lp[0, :, 1] += 5
    with pytest.warns(UserWarning, match=r"the chains of 1 of 3 rows disagree \(R-hat of the log joint above 1\.1"):
        stats_, said = result.chain_stats(lp, **per_chain)
    assert said == {"rows_with_high_r_hat": 1}
    assert int(np.argmax(stats_["r_hat"][1])) == 1
    assert np.isnan(result.r_hat(lp[:, :3])).all()


@pytest.mark.parametrize("lp", [np.zeros((1, 100, 3)), np.zeros((4, 3, 3))], ids=["one chain", "three draws"])
def test_what_was_not_judged_is_said(lp: np.ndarray) -> None:
    """No row counts as one whose chains agree."""
    stats_, said = result.chain_stats(lp)
    assert np.isnan(stats_["r_hat"][1]).all()
    assert np.isnan(said["rows_with_high_r_hat"])
    assert said["not_judged"].startswith("R-hat, which takes two chains or more")


def test_chains_that_never_move_do_not_pass_for_converged() -> None:
    lp = np.zeros((4, 100, 3)) + np.arange(4.0)[:, None, None]
    lp[:, :, 1] = np.random.default_rng(0).standard_normal((4, 100))
    lp[:, :, 2] = -7.0
    with pytest.warns(UserWarning, match=r"the chains of 1 of 3 rows disagree .* largest inf"):
        stats_, _ = result.chain_stats(lp)
    assert set(stats_) == {"lp", "r_hat"}
    assert stats_["r_hat"][1][0] == np.inf
    assert not stats_["r_hat"][1][2] > 1.1


class Discrete:
    """A program with a latent class, which has no gradient."""

    family, likelihood, imputers, event_shape = "mixture", "bound", ("mcmc", "sir"), (1,)

    def check_data(self, x: Any, **_: Any) -> np.ndarray:
        return np.asarray(x, dtype=np.float32)

    def spec(self) -> dict[str, Any]:
        return {}

    def diagnose(self, x: Any) -> list[Warning]:
        return []


class NumPyroDiscrete(Discrete):
    def model(self, x: Any = None, *, size: int = 1) -> Any:
        with numpyro.plate("data", size if x is None else len(x)):
            c = numpyro.sample("c", numpyro.distributions.Bernoulli(0.5))
            return numpyro.sample("x", numpyro.distributions.Normal(3.0 * c[..., None], 1.0).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with numpyro.plate("data", size if x is None else len(x)):
            return numpyro.sample("c", numpyro.distributions.Bernoulli(0.5))


class PyroDiscrete(Discrete):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def model(self, x: Any = None, *, size: int = 1) -> Any:
        with pyro.plate("data", size if x is None else len(x)):
            c = pyro.sample("c", pyro.distributions.Bernoulli(0.5))
            return pyro.sample("x", pyro.distributions.Normal(3.0 * c[..., None], 1.0).to_event(1), obs=x)

    def guide(self, x: Any = None, *, size: int = 1) -> Any:
        with pyro.plate("data", size if x is None else len(x)):
            return pyro.sample("c", pyro.distributions.Bernoulli(0.5).expand([size if x is None else len(x)]))


@pytest.mark.parametrize(
    ("engine", "program"), [(NUMPYRO, NumPyroDiscrete()), (PYRO, PyroDiscrete())], ids=["numpyro", "pyro"]
)
def test_discrete_latents_are_refused_by_mcmc(engine: Any, program: Any) -> None:
    with pytest.raises(ValueError, match=r"latent 'c': got a discrete law; .*Use method='sir'"):
        engine.call("impute", program, np.ones((2, 1)), method="mcmc")


# plain models, which have never heard of deepgen: a common mean, rows correlated within

PRIOR_SD = 2.0
COVARIANCE = np.array([[1.0, 0.7], [0.7, 1.5]])
TABLE = np.array([[0.3, np.nan], [np.nan, -1.0], [1.2, 0.4], [-0.5, np.nan]])


def numpyro_model(n: int = 4, *, sd: float = PRIOR_SD) -> Any:
    theta = numpyro.sample("theta", numpyro.distributions.Normal(0.0, sd))
    with numpyro.plate("rows", n):
        law = numpyro.distributions.MultivariateNormal(theta * jnp.ones(2), jnp.asarray(COVARIANCE, jnp.float32))
        return numpyro.sample("x", law)


def numpyro_guide(n: int = 4, *, sd: float = PRIOR_SD) -> Any:
    loc = numpyro.param("loc", jnp.array(0.5))
    return numpyro.sample("theta", numpyro.distributions.Normal(loc, 0.5))


def pyro_model(n: int = 4, *, sd: float = PRIOR_SD) -> Any:
    theta = pyro.sample("theta", pyro.distributions.Normal(0.0, sd))
    with pyro.plate("rows", n):
        law = pyro.distributions.MultivariateNormal(theta * torch.ones(2), torch.tensor(COVARIANCE).float())
        return pyro.sample("x", law)


def pyro_guide(n: int = 4, *, sd: float = PRIOR_SD) -> Any:
    loc = pyro.param("loc", torch.tensor(0.5))
    return pyro.sample("theta", pyro.distributions.Normal(loc, 0.5))


PLAIN = pytest.mark.parametrize(
    ("engine", "model", "guide"),
    [(NUMPYRO, numpyro_model, numpyro_guide), (PYRO, pyro_model, pyro_guide)],
    ids=["numpyro", "pyro"],
)


def table_law(table: np.ndarray, sd: float = PRIOR_SD) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of (theta, missing entries in row-major order) given the observed ones."""
    size = 1 + table.size
    covariance = np.full((size, size), sd**2)
    covariance[1:, 1:] += np.kron(np.eye(len(table)), COVARIANCE)
    flat = np.concatenate([[np.nan], table.reshape(-1)])
    seen, hidden = np.flatnonzero(~np.isnan(flat)), np.flatnonzero(np.isnan(flat))
    regression = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[np.ix_(seen, hidden)]).T
    left = covariance[np.ix_(hidden, hidden)] - regression @ covariance[np.ix_(seen, hidden)]
    return regression @ flat[seen], left


def sites_of(post: az.InferenceData, table: np.ndarray) -> np.ndarray:
    """(chain, draw, 1, sites): theta and the missing entries."""
    x = post.posterior["x"].values[:, :, np.isnan(table)]
    return np.concatenate([post.posterior["theta"].values[..., None], x], axis=-1)[:, :, None]


@PLAIN
def test_a_plain_model_is_imputed(engine: Any, model: Any, guide: Any) -> None:
    """NUTS through the handler `missing`, missing entries inside of a joint event."""
    options = {"num_samples": 200, "num_warmup": 100, "num_chains": 2}
    post = engine.call("impute", model, TABLE, model_kwargs={"sd": 1.0}, seed=3, **options)
    assert post.posterior["theta"].dims == ("chain", "draw")
    assert post.posterior["x"].dims == ("chain", "draw", "row", "x_dim_0")
    seen = ~np.isnan(TABLE)
    assert (post.posterior["x"].values[:, :, seen] == TABLE[seen]).all()
    assert post.attrs["method"] == "nuts"
    assert post.attrs["law"] == "asymptotically exact"
    assert {"lp", "diverging"} <= set(post.sample_stats)
    mean, covariance = table_law(TABLE, sd=1.0)
    draws = sites_of(post, TABLE)
    assert worst_moment(draws, mean[None], covariance[None]) < 1
    # the rows' correlation left out of p(x_missing | x_observed)
    planted = draws.copy()
    planted[..., 1:] = planted[..., :1] + np.random.default_rng(0).standard_normal(planted[..., 1:].shape)
    assert worst_moment(planted, mean[None], covariance[None]) > 1


@PLAIN
def test_a_plain_model_refuses_what_belongs_to_programs(engine: Any, model: Any, guide: Any) -> None:
    with pytest.raises(ValueError, match=r"method: got 'sir'; expected one of \['nuts'\]"):
        engine.call("impute", model, TABLE, method="sir")
    with pytest.raises(ValueError, match=r"num_particles: got 7; expected no such option for method='nuts'"):
        engine.call("impute", model, TABLE, num_particles=7)
    with pytest.raises(ValueError, match="infinite values"):
        engine.call("impute", model, np.where(np.isnan(TABLE), np.inf, TABLE))
    with pytest.raises(ValueError, match=r"columns: got 3 names"):
        engine.call("impute", model, TABLE, columns=["a", "b", "c"])


@PLAIN
def test_a_plain_model_s_integers_are_all_observed(engine: Any, model: Any, guide: Any) -> None:
    """Negative numbers are numbers where no categorical law says otherwise; masked ones are missing."""
    x = np.array([[-3, 2], [1, -4], [0, 5], [2, 2]])
    few = {"num_samples": 4, "num_warmup": 4, "num_chains": 1}
    post = engine.call("impute", model, x, **few)
    assert (post.posterior["x"].values == x).all()
    assert post.constant_data["observed"].values.all()
    hidden = np.array([[True, False]] + [[False, False]] * 3)
    for given, options in [(x, {"observed": ~hidden}), (np.ma.masked_array(x, hidden), {})]:
        post = engine.call("impute", model, given, **options, **few)
        assert (post.posterior["x"].values[:, :, ~hidden] == x[~hidden]).all()
        assert (post.constant_data["observed"].values == ~hidden).all()
        assert len(np.unique(post.posterior["x"].values[:, :, hidden])) > 1


@PLAIN
def test_a_plain_pair_is_fitted_to_data_with_holes(engine: Any, model: Any, guide: Any) -> None:
    """`fit` of (missing(model), guide with the missing entries), whose best mean is the exact posterior's."""
    complete = np.array([[0.3, 0.8], [2.0, 1.0], [1.2, 0.4], [0.5, 1.9]], dtype=np.float32)
    given = engine.face.missing(model, data={"x": complete})
    fit = engine.call("fit", (given, guide), (), steps=600, learning_rate=0.02, progress=False)
    mean, _ = table_law(np.where(False, np.nan, complete))
    assert float(fit.params["loc"]) == pytest.approx(float(mean[0]), abs=0.1)
    assert abs(0.5 - mean[0]) > 0.3, "the start is the solution"
    assert jax.numpy.isfinite(np.asarray(fit.losses)).all()
