"""The likelihood of tables in both engines against SciPy: densities, draws, gradients, plates, refusals."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pyro
import pytest
import table_laws
import torch
from engines import ENGINES, NUMPYRO, PYRO
from montecarlo import worst
from numpyro import handlers
from pyro import poutine
from scipy import stats
from table_laws import columns_laws
from tabling import COLUMNS, KINDS, ROWS, complete, elements, law_of, moved, moved_numbers, numpy, outputs, run

import deepgen.handlers.sites.numpyro
import deepgen.handlers.sites.pyro
from deepgen.likelihoods import laws
from deepgen.likelihoods.table import ordinal

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


@BOTH
def test_density_of_each_kind_is_scipy_s(engine: Any) -> None:
    law, x, out = moved(engine), complete(), outputs(3, ROWS)
    fn = law(engine.array(out))
    assert (tuple(fn.batch_shape), tuple(fn.event_shape)) == ((3, ROWS), (10,))
    found = elements(engine, law, out, x)
    expected = table_laws.log_prob(COLUMNS, moved_numbers(), out, x)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    total = run(engine, lambda law, out, x: law(out).log_prob(x), law, engine.array(out), engine.array(x))
    np.testing.assert_allclose(total, expected.sum(-1), rtol=2e-4, atol=2e-3)
    assert set(np.unique(x[:, 1])) == {0, 1, 2, 3}
    # without the Jacobian of the logarithm, and with a cutpoint left out, it would show
    wrong = expected + np.where(np.array(KINDS) == "positive", np.log(x[:, 2:3]), 0.0)
    assert not np.allclose(found, wrong, rtol=2e-3, atol=2e-3)
    own = moved_numbers()
    own["raw_cutpoints"] = np.roll(own["raw_cutpoints"], 1)
    assert not np.allclose(found, table_laws.log_prob(COLUMNS, own, out, x), rtol=2e-3, atol=2e-3)


@BOTH
def test_middles_are_means_modes_and_medians(engine: Any) -> None:
    out = outputs(3, ROWS)
    found = run(engine, lambda law, out: law.mean(out), moved(engine), engine.array(out))
    np.testing.assert_allclose(found, table_laws.middle(COLUMNS, moved_numbers(), out), rtol=1e-4)


@BOTH
def test_probabilities_add_up_to_one(engine: Any) -> None:
    x = np.repeat(np.arange(4000, dtype=np.float32)[:, None, None], 10, axis=2)
    p = np.exp(elements(engine, moved(engine), outputs(5), x).astype(float))
    discrete = [kind not in ("real", "positive") for kind in KINDS]
    # float32 rounds in a negative binomial's log gamma functions
    np.testing.assert_allclose(p.sum(0)[:, discrete], 1.0, atol=2e-4)
    assert (np.abs(p[1:].sum(0)[:, discrete] - 1) > 1e-2).any(0).all()


@BOTH
def test_what_a_column_cannot_hold_has_no_probability(engine: Any) -> None:
    x = np.repeat(complete(1), 8, axis=0)
    for row, (column, value) in enumerate([(2, 0), (2, -3), (3, 3), (3, -1), (4, -1), (4, 0.5), (7, 2), (1, 1.5)]):
        x[row, column] = value
    found = elements(engine, moved(engine), outputs(8), x)
    np.testing.assert_array_equal(np.isneginf(found).sum(1), 1)
    assert np.isfinite(np.delete(found, [1, 2, 3, 4, 7], axis=1)).all()
    support = moved(engine)(engine.array(outputs(8))).base_dist.support
    fine = numpy(support.check(engine.array(x)))
    np.testing.assert_array_equal(fine, ~np.isneginf(found))
    assert support.is_discrete


def statistics(x: np.ndarray) -> np.ndarray:
    """(S, ...) draws to numbers whose means say whether each column's law is right."""
    found = []
    for i, (kind, levels) in enumerate(COLUMNS):
        if levels:
            found += [x[:, i] == level for level in range(levels)]
        else:
            value = np.log(x[:, i]) if kind == "positive" else x[:, i]
            found += [value, (value - np.median(value)) ** 2]
    return np.stack(found, axis=1).astype(float)


def expected_statistics(own: dict[str, np.ndarray], out: np.ndarray, x: np.ndarray) -> np.ndarray:
    found: list[float] = []
    for i, ((kind, levels), law) in enumerate(zip(COLUMNS, columns_laws(COLUMNS, own, out), strict=True)):
        if levels:
            found += law.p.tolist()
            continue
        value = np.log(x[:, i]) if kind == "positive" else x[:, i]
        if kind == "positive":
            law = stats.norm(np.log(law.kwds["scale"]), law.kwds["s"])
        found += [law.mean(), law.var() + (law.mean() - np.median(value)) ** 2]
    return np.array(found)


@BOTH
def test_draws_have_the_law_s_moments(engine: Any) -> None:
    """z scores of means over 40,000 draws, checked by ``montecarlo.worst``, which is wrong once in a million."""
    law, out, own = moved(engine), outputs(), moved_numbers()

    def score(own: dict[str, np.ndarray], out: np.ndarray) -> float:
        found = statistics(x)
        scores = (found.mean(0) - expected_statistics(own, out, x)) / (found.std(0) / np.sqrt(len(found)))
        return worst(scores[None])

    fn = law(engine.array(out))
    if engine is NUMPYRO:
        x = np.asarray(jax.jit(lambda key: fn.sample(key, (40_000,)))(jax.random.key(0)))
    else:
        pyro.set_rng_seed(0)
        x = fn.sample((40_000,)).numpy()
    assert np.isfinite(elements(engine, law, out, x[:100])).all()
    assert score(own, out) < 1
    for name, step in {"raw_scale": 0.1, "raw_concentration": -1.0, "raw_cutpoints": 0.1, "spread": 0.1}.items():
        assert score({**own, name: own[name] + step}, out) > 1, name
    assert score(own, out + 0.1) > 1


@eqx.filter_jit
@eqx.filter_value_and_grad
def _observed_density(parts: Any, x: jax.Array, observed: jax.Array) -> jax.Array:
    law, out = parts
    return deepgen.handlers.sites.numpyro.ObservedEntries(law(out), observed, x).log_prob(x).sum()


def jax_gradient(x: np.ndarray, observed: np.ndarray, out: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    found, (law, by_outputs) = _observed_density(
        (moved(NUMPYRO), jnp.asarray(out)), jnp.asarray(x), jnp.asarray(observed)
    )
    return float(found), {**NUMPYRO.tensors(law), "outputs": np.asarray(by_outputs)}


def torch_gradient(x: np.ndarray, observed: np.ndarray, out: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
    law, given = moved(PYRO), torch.as_tensor(out).requires_grad_()
    seen = deepgen.handlers.sites.pyro.ObservedEntries(law(given), torch.as_tensor(observed), torch.as_tensor(x))
    found = seen.log_prob(torch.as_tensor(x)).sum()
    found.backward()
    found = found.detach()
    by_name = {name: parameter.grad.numpy() for name, parameter in law.named_parameters()}
    return float(found), {**by_name, "outputs": given.grad.numpy()}


GRADIENT: dict[str, Callable[..., Any]] = {"numpyro": jax_gradient, "pyro": torch_gradient}


@BOTH
@pytest.mark.parametrize("fill", [0.0, -3.7, 1e6])
def test_gradients_stay_finite_whatever_stands_where_x_is_missing(engine: Any, fill: float) -> None:
    """And they are those of the observed entries' density, by central differences of SciPy's in float64."""
    out, observed = outputs(6), np.random.default_rng(1).random((6, 10)) < 0.6
    x = np.where(observed, complete(6), np.float32(fill)).astype(np.float32)
    own = moved_numbers()

    def density(own: dict[str, np.ndarray], out: np.ndarray) -> float:
        found = table_laws.log_prob(COLUMNS, own, out, complete(6).astype(float))
        return float(np.where(observed, found, 0.0).sum())

    value, gradient = GRADIENT[engine.name](x, observed, out)
    assert value == pytest.approx(density(own, out), rel=1e-4)
    assert all(np.isfinite(part).all() for part in gradient.values())
    hidden = np.repeat(~observed, [3 if c == ("categorical", 3) else 1 + (c[0] == "categorical") for c in COLUMNS], 1)
    np.testing.assert_array_equal(gradient["outputs"][hidden], 0.0)
    rng = np.random.default_rng(4)
    for name in ("raw_scale", "raw_concentration", "raw_cutpoints", "outputs"):
        start = out if name == "outputs" else own[name]
        way = rng.standard_normal(start.shape)
        ends = [
            density(own, start + step * way) if name == "outputs" else density({**own, name: start + step * way}, out)
            for step in (-1e-4, 1e-4)
        ]
        slope = (ends[1] - ends[0]) / 2e-4
        assert float((gradient[name] * way).sum()) == pytest.approx(slope, rel=2e-3, abs=2e-3), name
    for name in set(gradient) & {"centre", "spread", "log_rate"}:
        np.testing.assert_array_equal(gradient[name], 0.0)


@pytest.mark.parametrize("columns", [["real", "real"], ["positive"], ["count"], [("categorical", 3)], [("ordinal", 2)]])
def test_the_engines_agree_on_every_kind_alone(columns: list[Any]) -> None:
    rng = np.random.default_rng(8)
    own = {
        k: v + 0.3 * rng.random(v.shape).astype(np.float32)
        for k, v in NUMPYRO.tensors(law_of(NUMPYRO, columns)).items()
    }
    found = []
    for engine in ENGINES:
        law = engine.with_tensors(law_of(engine, columns), own)
        out = np.random.default_rng(9).standard_normal((2, 4, law.num_outputs)).astype(np.float32)
        x = np.ones((4, len(columns)), dtype=np.float32)
        arrays = engine.array(out), engine.array(x)
        found.append(
            run(engine, lambda law, out, x: (law(out).log_prob(x), law.mean(out), law.features(x)), law, *arrays)
        )
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@BOTH
def test_laws_go_from_one_engine_to_the_other(engine: Any) -> None:
    other = NUMPYRO if engine is PYRO else PYRO
    law, out, x = moved(engine), outputs(4), complete(4)
    again = other.face.likelihoods.build(law.spec())
    assert again.spec() == law.spec()
    assert law.spec()["columns"][:2] == [["real", 0], ["ordinal", 4]]
    tensors = engine.tensors(law)
    assert {k: v.shape for k, v in tensors.items()} == {k: v.shape for k, v in other.tensors(again).items()}
    again = other.with_tensors(again, tensors)
    np.testing.assert_allclose(elements(engine, law, out, x), elements(other, again, out, x), rtol=1e-4, atol=1e-3)


REFUSED: list[tuple[int, float, str]] = [
    (2, 0.0, r"x, column 2: got 1 values that are no 'positive' ones, the first 0; expected finite numbers > 0"),
    (2, -1.0, r"column 2: .*the first -1.*Take the kind 'real'"),
    (4, -2.0, r"column 4: got 1 values that are no 'count' ones, the first -2; expected whole numbers >= 0"),
    (4, 1.5, r"column 4: .*the first 1\.5.*'positive' or 'real' for measurements"),
    (3, 3.0, r"column 3: got 1 values that are no 'categorical' ones, the first 3; expected level codes 0 to 2"),
    (1, 0.5, r"column 1: .*no 'ordinal' ones, the first 0\.5; expected level codes 0 to 3\. .*in their order"),
]


@BOTH
@pytest.mark.parametrize(("column", "value", "message"), REFUSED)
def test_values_that_a_column_cannot_hold_are_refused(engine: Any, column: int, value: float, message: str) -> None:
    x = complete(5)
    x[3, column] = value
    with pytest.raises(ValueError, match=message):
        laws.check_data(moved(engine), x)
    observed = np.ones(x.shape, dtype=bool)
    observed[3, column] = False
    assert np.isnan(laws.check_data(moved(engine), x, missing=True, observed=observed)[3, column])


@BOTH
def test_columns_are_checked(engine: Any) -> None:
    table = engine.face.likelihoods.Table
    for columns, message in [
        (["real", "text"], r"columns\[1\]: kind: got 'text'; expected one of \['real', 'positive', 'count'"),
        (["categorical"], r"columns\[0\]: got 'categorical' with num_levels=0; expected 2 levels or more"),
        ([("ordinal", 1)], r"num_levels=1; expected 2 levels or more. Write \('ordinal', 3\)"),
        ([("real", 2)], r"'real' with num_levels=2; expected no number of levels. Write 'real'"),
        ([("real", 0, 1)], r"columns\[0\]: got \('real', 0, 1\); expected a kind, or \(kind, num_levels\)"),
        ([], r"columns: got none; expected one or more"),
    ]:
        with pytest.raises(ValueError, match=message):
            table(columns)
    empty = np.array([[1.0, np.nan], [2.0, np.nan]])
    with pytest.raises(ValueError, match=r"data: got no observed entry in column 1; expected at least one in each"):
        table.from_data(["real", "count"], empty)
    with pytest.raises(ValueError, match=r"likelihood: got 'table'; expected a Table.*Table\.from_data\(columns, x\)"):
        engine.face.likelihoods.observation("table", (3,))
    with pytest.raises(
        ValueError, match=r"decoder: got outputs .*expected 13 numbers a datum: one for each column, one"
    ):
        laws.output_shape(moved(engine), (5, 10), (5,))


def test_numpyro_plates_vmap_and_missing() -> None:
    law, out, x = moved(NUMPYRO), jnp.asarray(outputs(4)), complete(4)
    holed = np.where(np.random.default_rng(0).random(x.shape) < 0.4, np.nan, x)
    expected = table_laws.log_prob(COLUMNS, moved_numbers(), np.asarray(out), x)

    def plated() -> None:
        with numpyro.plate("draws", 3, dim=-2), numpyro.plate("data", 4):
            numpyro.sample("x", law(out))

    drawn = jax.eval_shape(lambda: handlers.trace(handlers.seed(plated, 0)).get_trace()["x"]["value"])
    assert drawn.shape == (3, 4, 10)

    def rowwise() -> None:
        with numpyro.plate("data", 4):
            numpyro.sample("x", law(out))

    filled = NUMPYRO.face.missing(rowwise, data={"x": holed}, latent=False)

    @jax.jit
    def densities(out: jax.Array) -> tuple[jax.Array, ...]:
        again = jax.tree.unflatten(*reversed(jax.tree.flatten(law(out))))
        rows = jax.vmap(lambda out, x: law(out).log_prob(x))(out, jnp.asarray(x))
        site = handlers.trace(handlers.seed(filled, 0)).get_trace()["x"]
        wide = law(out).expand((3, 4)).log_prob(jnp.asarray(x))
        return again.log_prob(x), rows, site["fn"].log_prob(site["value"]), site["value"], wide

    again, rows, observed, value, wide = densities(out)
    np.testing.assert_allclose(again, expected.sum(-1), rtol=1e-3)
    np.testing.assert_allclose(rows, expected.sum(-1), rtol=1e-3)
    np.testing.assert_allclose(wide, np.broadcast_to(expected.sum(-1), (3, 4)), rtol=1e-3)
    np.testing.assert_allclose(observed, np.where(np.isnan(holed), 0, expected).sum(-1), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(value)[~np.isnan(holed)], x[~np.isnan(holed)])
    assert not np.isnan(value).any()
    latent = handlers.seed(NUMPYRO.face.missing(rowwise, data={"x": holed}), 0)
    with pytest.raises(ValueError, match="a discrete distribution with latent=True"):
        jax.eval_shape(lambda: handlers.trace(latent).get_trace()["x"]["value"])


def test_pyro_plates_masks_scale_and_missing() -> None:
    law, out, x = moved(PYRO), torch.as_tensor(outputs(4)), complete(4)
    holed = np.where(np.random.default_rng(0).random(x.shape) < 0.4, np.nan, x)
    expected = table_laws.log_prob(COLUMNS, moved_numbers(), out.numpy(), x).sum(-1)
    kept = torch.tensor([True, False, True, True])

    def model(x: Any = None) -> Any:
        with pyro.plate("draws", 3, dim=-2), pyro.plate("data", 4):
            return pyro.sample("x", law(out), obs=x)

    assert model().shape == (3, 4, 10)
    masked = poutine.scale(poutine.mask(model, mask=kept), scale=0.5)
    trace = poutine.trace(masked).get_trace(torch.as_tensor(x).expand(3, 4, 10))
    found = 3 * 0.5 * expected[[0, 2, 3]].sum()
    assert float(trace.log_prob_sum().detach()) == pytest.approx(found, rel=1e-4)
    assert law(out).expand((3, 4)).log_prob(torch.as_tensor(x)).shape == (3, 4)

    def rowwise() -> Any:
        with pyro.plate("data", 4):
            return pyro.sample("x", law(out))

    filled = PYRO.face.missing(rowwise, data={"x": holed}, latent=False)
    site = poutine.trace(filled).get_trace().nodes["x"]
    elements = table_laws.log_prob(COLUMNS, moved_numbers(), out.numpy(), x)
    found = np.where(np.isnan(holed), 0, elements).sum(-1)
    np.testing.assert_allclose(site["fn"].log_prob(site["value"]).detach(), found, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="a discrete distribution with latent=True"):
        poutine.trace(PYRO.face.missing(rowwise, data={"x": holed})).get_trace()


def test_ordinal_probabilities_do_not_cancel_far_out() -> None:
    """Where sigmoids round to one, their difference in float64 is still right, by the logistic's own tail."""
    ordinals = ordinal.Ordinals(np.array([[0, 1]]), np.array([[True, True]]), np.array([0]), np.array([3.0]))
    raw = np.array([0.5, -0.7])
    cuts, gaps = ordinal.cutpoints(raw, ordinals)
    location = np.array([[-60.0]])
    found = ordinal.log_prob(np.array([[1.0]]), location, cuts, gaps, ordinals)
    tails = stats.logistic.logsf(cuts[0] + 60.0)
    assert found[0, 0] == pytest.approx(tails[0] + np.log1p(-np.exp(tails[1] - tails[0])), rel=1e-9)
    top = ordinal.log_prob(np.array([[2.0]]), location, cuts, gaps, ordinals)
    assert top[0, 0] == pytest.approx(tails[1], rel=1e-9)
