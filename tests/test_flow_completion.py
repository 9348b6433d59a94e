"""Imputation under flows: charts, contexts, data in an interval, other bases, parity, plain NUTS, choices, refusals."""

import importlib
from functools import cache
from typing import Any

import numpy as np
import numpyro.distributions
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import worst_moment, worst_stated_error
from registry import INSTANCES, ORACLES, oracle_program, randomised
from scipy import stats
from scipy.special import logit
from test_oracle import data, options, worst_of_imputation

from deepgen.inference.imputation import automatic
from deepgen.inference.imputation.methods import METHODS, described
from deepgen.inference.imputation.neighbours import mixture
from deepgen.inference.imputation.projected import latent

# R-hat of chains that are many and short
pytestmark = pytest.mark.filterwarnings("ignore:the chains of:UserWarning")

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)
AFFINE = next(oracle for oracle in ORACLES if oracle.family == "flow")
FLOWS = [instance for instance in INSTANCES if instance.family == "flow"]
METHOD = pytest.mark.parametrize("method", NUMPYRO.face.Flow.imputers)
QUICK = {"num_warmup": 80, "num_samples": 80, "num_chains": 10, "num_steps": 4, "num_particles": 2000}


def room(engine: Any, name: str) -> Any:
    return importlib.import_module(f"deepgen.inference.imputation.{name}.{engine.name}")


def numpy(found: Any) -> np.ndarray:
    return np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)


def quick(program: Any, method: str) -> dict[str, int]:
    own = QUICK if method != "importance" else {**QUICK, "num_samples": 500}
    return options(program, method, own)


def ess(post: Any) -> Any:
    return post.sample_stats["ess"].values if "ess" in post.sample_stats else np.inf


# charts


@BOTH
@pytest.mark.parametrize("instance", FLOWS, ids=str)
def test_a_chart_is_the_flow(engine: Any, instance: Any) -> None:
    program = randomised(engine, "flow", instance.config)
    chart, x = program.chart(), instance.data(np.random.default_rng(0), 8)
    v, slopes = chart.from_data(engine.array(x))
    z, log_det = chart.to_base(v)
    back, log_jacobian = chart.from_base(z)
    np.testing.assert_allclose(numpy(back), numpy(v), atol=2e-3)
    np.testing.assert_allclose(numpy(log_jacobian), -numpy(log_det), atol=2e-3)
    np.testing.assert_allclose(numpy(chart.to_data(v)), x, atol=1e-5)
    found = numpy(chart.log_prob(v)) + numpy(slopes).reshape(len(x), -1).sum(1)
    np.testing.assert_allclose(found, engine.call("log_prob", program, x).value, atol=1e-4)


@cache
def interval(engine: Any) -> Any:
    """Independent entries in the unit interval, images whose logits are standard normal."""
    return engine.face.Flow(4, [engine.face.Logit(0.05), engine.face.Unflatten((1, 2, 2))])


def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    values = 1 / (1 + np.exp(-rng.standard_normal((16, 1, 2, 2))))
    x = ((values - 0.05) / 0.9).astype(np.float32)
    x[:, 0, rng.integers(0, 2), 0] = np.nan
    x[8:, 0, 1, 1] = np.nan
    return x


@BOTH
def test_entries_in_an_interval_have_a_density_of_their_own(engine: Any) -> None:
    """Of independent entries log p(x_observed) is a sum, the slopes of the logit with it."""
    x = images()
    found = engine.call("log_prob", interval(engine), x, num_particles=2000, seed=2)
    v = 0.05 + 0.9 * x.astype(float)
    each = stats.norm.logpdf(logit(v)) + np.log(0.9) - np.log(v) - np.log1p(-v)
    truth = np.nansum(each, axis=(1, 2, 3))
    assert worst_stated_error(found.value, found.stderr, truth) < 1
    without = np.nansum(stats.norm.logpdf(logit(v)), axis=(1, 2, 3))
    assert worst_stated_error(without, found.stderr, truth) > 1, "the slopes left out"


@BOTH
@METHOD
def test_entries_in_an_interval_are_completed_inside(engine: Any, method: str) -> None:
    x, program = images(), interval(engine)
    post = engine.call("impute", program, x, method=method, seed=1, **quick(program, method))
    drawn = post.posterior["x"].values
    assert drawn.shape[2:] == x.shape
    missing = np.isnan(x)
    assert (drawn[:, :, ~missing] == x[~missing]).all()
    assert ((drawn > -0.06) & (drawn < 1.06)).all()
    z = logit(0.05 + 0.9 * drawn.astype(float)).reshape(*drawn.shape[:2], len(x), -1)
    seen = ~missing.reshape(len(x), -1)
    mean = np.where(seen, z[0, 0], 0.0)
    covariance = np.eye(4) * ~seen[:, :, None]
    assert worst_moment(z, mean, covariance, ess(post)) < 1
    assert worst_moment(1.15 * z, np.where(seen, 1.15 * mean, 0.0), covariance, ess(post)) > 1


# contexts


def conditional(engine: Any) -> tuple[Any, np.ndarray]:
    """The affine flow moved by a linear function of a context of two."""
    slope = np.random.default_rng(8).normal(size=(4, 2)).astype(np.float32)
    config = {**AFFINE.config, "transforms": [{**AFFINE.config["transforms"][0], "context_dim": 2}]}
    tensors = {**AFFINE.tensors, "transforms.0.context.weight": slope}
    return engine.with_tensors(engine.build("flow", config), tensors), slope


@BOTH
@METHOD
def test_the_context_counts(engine: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # several chunks of rows, each with its own contexts
    monkeypatch.setattr(mixture, "rows_at_once", lambda rows, *_: min(rows, 5))
    program, slope = conditional(engine)
    rng = np.random.default_rng(0)
    x, context = AFFINE.draw(rng, 12), 2 * rng.standard_normal((12, 2)).astype(np.float32)
    holes = AFFINE.hide(x + context @ slope.T, rng)
    post = engine.call("impute", program, holes, y=context, method=method, seed=1, **quick(program, method))
    drawn = post.posterior["x"].values.astype(float)

    def score(context: np.ndarray) -> float:
        moved = (context @ slope.T).astype(float)
        return worst_moment(drawn - moved, *AFFINE.conditional((holes - moved).astype(np.float32)), ess(post))

    assert score(context) < 1
    assert score(context[::-1]) > 1, "the contexts of other rows"


@BOTH
def test_log_prob_of_rows_with_holes_knows_the_context(engine: Any) -> None:
    program, slope = conditional(engine)
    rng = np.random.default_rng(0)
    x, context = AFFINE.draw(rng, 40), rng.standard_normal((40, 2)).astype(np.float32)
    holes = AFFINE.hide(x + context @ slope.T, rng)
    found = engine.call("log_prob", program, holes, y=context, num_particles=1000)
    truth = AFFINE.log_prob(holes - context @ slope.T)
    assert worst_stated_error(found.value, found.stderr, truth) < 1
    assert worst_stated_error(found.value, found.stderr, AFFINE.log_prob(holes)) > 1


# other bases and transforms


@BOTH
@pytest.mark.parametrize("method", ["pl-mcmc", "hmc", "importance"])
def test_a_logistic_base(engine: Any, method: str) -> None:
    program = engine.face.Flow(2, [], base="logistic")
    x = np.tile(np.float32([[1.0, np.nan]]), (30, 1))
    post = engine.call("impute", program, x, method=method, seed=4, **quick(program, method))
    u = stats.logistic.cdf(post.posterior["x"].values[..., 1].astype(float))[..., None]
    law = np.full((30, 1), 0.5), np.full((30, 1, 1), 1 / 12)
    assert worst_moment(u, *law, ess(post)) < 1
    normal = stats.norm.cdf(post.posterior["x"].values[..., 1].astype(float))[..., None]
    assert worst_moment(normal, *law, ess(post)) > 1


@BOTH
def test_the_engines_own_transforms_are_understood(engine: Any) -> None:
    kind = numpyro.distributions.transforms if engine is NUMPYRO else torch.distributions
    program = engine.face.Flow(2, [kind.AffineTransform(1.0, 0.5), kind.ExpTransform()])
    x = np.float32([[2.0, np.nan], [np.nan, 4.0], [1.0, 1.5]])
    found = engine.call("log_prob", program, x, num_particles=2000)
    truth = np.nansum(stats.lognorm(0.5, scale=np.e).logpdf(x.astype(float)), axis=1)
    assert worst_stated_error(found.value, found.stderr, truth) < 1
    post = engine.call("impute", program, x, method="hmc", num_samples=20, num_warmup=20, num_chains=2)
    assert (post.posterior["x"].values > 0).all()


# parity


def test_the_engines_agree_on_the_same_noise() -> None:
    rng = np.random.default_rng(0)
    instance = next(flow for flow in FLOWS if flow.name == "nsf")
    first = randomised(NUMPYRO, "flow", instance.config)
    programs = first, PYRO.with_tensors(PYRO.build("flow", instance.config), NUMPYRO.tensors(first))
    x, seen = instance.data(rng, 6), rng.random((6, 4)) < 0.5
    draws = rng.standard_normal((mixture.DRAWS, 1, 4))
    law = mixture.Mixture(*(part.astype(np.float32) for part in mixture.fit(draws, x.astype(float), seen)))
    normal, uniform = rng.standard_normal((3, 3, 6, 4)).astype(np.float32), rng.random((3, 3, 6)).astype(np.float32)
    chi = rng.standard_normal((3, 6, mixture.DF)).astype(np.float32)
    spread, step = np.full((6, 4), 0.4, np.float32), np.full((1, 6), 0.3, np.float32)
    start = np.where(seen, x, normal[0]).astype(np.float32)
    found = []
    for engine, program in zip(ENGINES, programs, strict=True):
        arrays = [engine.array(part) for part in (normal[0], chi, uniform[0], uniform[1])]
        own = mixture.Mixture(*map(engine.array, law))
        completed = mixture.complete(mixture.Noise(*arrays), own, engine.array(x), engine.array(seen))
        numbers = [numpy(part) for part in completed]
        projected = room(engine, "projected")
        rows = projected.Rows(program.chart(), *map(engine.array, (x, seen, spread)))
        state = projected.State(engine.array(start), program.chart().log_prob(engine.array(start)))
        for far in (0.0, 1.0):
            noise = latent.Noise(*map(engine.array, (*normal, uniform[2], np.float32(far))))
            moved, accept_prob = projected.step_with_noise(noise, rows, state, engine.array(step))
            numbers += [numpy(moved.v), numpy(moved.log_prob), numpy(accept_prob)]
        found.append(numbers)
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-3)
    in_float64 = mixture.complete(
        mixture.Noise(*(part.astype(float) for part in (normal[0], chi, uniform[0], uniform[1]))),
        mixture.Mixture(*(part.astype(float) for part in law)),
        x.astype(float),
        seen,
    )
    for one, two in zip(in_float64, found[0][:2], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-3)


# plain NUTS


@BOTH
def test_plain_nuts_on_the_flow_s_model(engine: Any) -> None:
    """Through `missing`, on a model that is called without x."""
    _, holes = data(AFFINE, rows=8)
    program = oracle_program(AFFINE, engine)
    post = engine.call(
        "impute",
        program.model,
        holes,
        method="nuts",
        model_kwargs={"size": len(holes)},
        num_warmup=100,
        num_samples=400 if engine is NUMPYRO else 200,
        num_chains=1,
        seed=1,
    )
    assert worst_of_imputation(AFFINE, post, holes) < 1
    assert worst_of_imputation(AFFINE, post, np.where(np.isnan(holes), np.nan, holes + 1).astype(np.float32)) > 1


# what is chosen, compiled and refused


@BOTH
def test_auto_says_what_it_chose_and_why(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, holes = data(AFFINE, rows=12)
    program = oracle_program(AFFINE, engine)
    few = {"num_samples": 10, "num_warmup": 10, "num_chains": 2, "num_particles": 300}
    post = engine.call("impute", program, holes, method="auto", **few)
    assert post.attrs["chosen"] == "importance"
    assert "the completions' importance weights are fit for use in 12 of 12 rows" in post.attrs["why"]
    assert {"ess", "pareto_k"} <= set(post.sample_stats)
    assert post.attrs["method_title"] == described("auto", program.imputers).title != METHODS["auto"].title
    monkeypatch.setattr(automatic, "SHARE", 1.1)
    post = engine.call("impute", program, holes, method="auto", **few)
    assert post.attrs["chosen"] == "hmc"
    assert {"completions_ess", "completions_pareto_k", "r_hat", "acceptance_rate", "lp"} <= set(post.sample_stats)
    truth = engine.call("log_prob", program, post.posterior["x"].values[0, 0]).value
    np.testing.assert_allclose(post.sample_stats["lp"].values[0, 0], truth, atol=1e-3)


@METHOD
def test_jax_compiles_once(method: str) -> None:
    _, holes = data(AFFINE, rows=6)
    program = oracle_program(AFFINE, NUMPYRO)
    few = {"num_samples": 5, "num_warmup": 5, "num_chains": 2, "num_steps": 2, "num_particles": 300}
    few = options(program, method, few)
    NUMPYRO.call("impute", program, holes, method=method, seed=1, **few)
    assert NUMPYRO.compiled(lambda: NUMPYRO.call("impute", program, holes, method=method, seed=2, **few)) == 0


@BOTH
def test_refusals(engine: Any) -> None:
    program, _ = conditional(engine)
    plain = oracle_program(AFFINE, engine)
    _, holes = data(AFFINE, rows=6)
    for method in program.imputers:
        with pytest.raises(ValueError, match=r"context: got none; expected \(\.\.\., 2\)"):
            engine.call("impute", program, holes, method=method)
    with pytest.raises(ValueError, match=r"context: got none; expected \(\.\.\., 2\)"):
        engine.call("log_prob", program, holes)
    with pytest.raises(ValueError, match="context: got shape"):
        plain.chart(engine.array(np.zeros((6, 2), np.float32)))
    with pytest.raises(ValueError, match="Make the flow with context_dim"):
        engine.call("impute", plain, holes, y=np.zeros((6, 2)))
    with pytest.raises(ValueError, match=r"method: got 'mcmc'; expected one of \['auto', 'hmc', 'pl-mcmc', 'importan"):
        engine.call("impute", plain, holes, method="mcmc")
    with pytest.raises(ValueError, match="num_particles: got 5; expected no such option for method='hmc'"):
        engine.call("impute", plain, holes, method="hmc", num_particles=5)
    with pytest.raises(ValueError, match="2 rows of which nothing is observed"):
        engine.call("impute", plain, np.full((2, 4), np.nan, np.float32))
