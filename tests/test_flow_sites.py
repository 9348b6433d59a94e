"""Flows as sites of a user's own model, trained by the engine's plain SVI."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.handlers
import pyro
import pytest
import torch
from engines import ENGINES, NUMPYRO, PYRO
from numpyro.contrib.module import eqx_module
from scipy import stats
from siting import language, nothing, numbers, train

BOTH = pytest.mark.parametrize("engine", ENGINES, ids=str)


def rows(seed: int = 0) -> np.ndarray:
    """Correlated normal rows off the origin."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((400, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]) + [0.5, -1.0]).astype(np.float32)


def best(x: np.ndarray) -> float:
    """The mean log density of rows under the normal that fits them best, which an affine flow can be."""
    return float(stats.multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x).mean())


def affine(engine: Any) -> Any:
    return engine.face.Flow(2, [engine.face.LULinear(2)])


def two_flows(engine: Any, first: Any, second: Any) -> Any:
    """A model of two data, each of which has a flow for its law."""
    lang = language(engine)

    def model(x: Any, y: Any) -> None:
        with lang.plate("data", len(x)):
            lang.sample("x", first.distribution(name="x_flow"), obs=x)
            lang.sample("y", second.distribution(name="y_flow"), obs=y)

    return model


@BOTH
def test_two_flows_of_one_model_are_trained_by_plain_svi(engine: Any) -> None:
    x, y = rows(), 2 * rows(1) + 3
    flows = affine(engine), affine(engine)
    losses, params = train(engine, two_flows(engine, *flows), nothing, x, y, steps=1000, learning_rate=1e-1)
    assert losses[-1] < losses[0]
    for name, flow, data, other in (("x_flow", flows[0], x, y), ("y_flow", flows[1], y, x)):
        trained = engine.face.with_params(flow, params, name=name)
        found = numbers(trained.distribution().log_prob(engine.array(data))).mean()
        assert abs(found - best(data)) < 1e-2
        assert numbers(trained.distribution().log_prob(engine.array(other))).mean() < best(other) - 0.5


@BOTH
def test_a_flow_without_a_name_stays_as_it_is(engine: Any) -> None:
    x, flow, lang = rows(), affine(engine), language(engine)

    def model(x: Any) -> None:
        with lang.plate("data", len(x)):
            lang.sample("x", flow.distribution(), obs=x)

    if engine is NUMPYRO:
        sites = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(jnp.asarray(x))
    else:
        sites = pyro.poutine.trace(model, param_only=True).get_trace(torch.as_tensor(x)).nodes
    assert [name for name, site in sites.items() if site["type"] == "param"] == []


@BOTH
def test_a_conditional_flow_of_a_name_sees_its_context(engine: Any) -> None:
    x, lang = rows(), language(engine)
    flow = engine.call(engine.face.Flow.maf, (1,), num_transforms=1, hidden=(8,), context_dim=1)

    def model(x: Any) -> None:
        with lang.plate("data", len(x)):
            lang.sample("x", flow.distribution(x[:, :1], name="second_given_first"), obs=x[:, 1:])

    _, params = train(engine, model, nothing, x, steps=300, learning_rate=2e-2)
    trained = engine.face.with_params(flow, params, name="second_given_first")
    found = numbers(trained.distribution(engine.array(x[:, :1])).log_prob(engine.array(x[:, 1:]))).mean()
    slope = np.polyfit(x[:, 0], x[:, 1], 1)
    regression = stats.norm(0, np.std(x[:, 1] - np.polyval(slope, x[:, 0]))).logpdf
    assert found > regression(x[:, 1] - np.polyval(slope, x[:, 0])).mean() - 0.02
    assert found > stats.norm(x[:, 1].mean(), x[:, 1].std()).logpdf(x[:, 1]).mean() + 0.05


@BOTH
def test_transforms_stand_as_modules_in_a_users_model(engine: Any) -> None:
    """A plain ``TransformedDistribution`` of the engine with couplings that the model declares itself."""
    x, lang, face = rows(), language(engine), engine.face
    couplings = [
        engine.call(face.SplineCoupling.mlp, [False, True], hidden=(8,), num_bins=4),
        engine.call(face.AffineCoupling.mlp, [True, False], hidden=(8,)),
        face.ActNorm(2),
    ]

    def law(chosen: Any) -> Any:
        base = lang.distributions.Normal(engine.array(np.zeros(2, np.float32)), 1.0).to_event(1)
        return lang.distributions.TransformedDistribution(base, list(chosen))

    def model(x: Any) -> None:
        if engine is NUMPYRO:
            chosen = [eqx_module(f"coupling{i}", each) for i, each in enumerate(couplings)]
        else:
            chosen = [pyro.module(f"coupling{i}", each) for i, each in enumerate(couplings)]
        with lang.plate("data", len(x)):
            lang.sample("x", law(chosen), obs=x)

    before = numbers(law(couplings).log_prob(engine.array(x))).mean()
    losses, params = train(engine, model, nothing, x, steps=400, learning_rate=2e-2)
    assert len({name.partition("$")[0] for name in params}) == 3
    trained = couplings
    if engine is NUMPYRO:
        trained = [eqx.combine(params[f"coupling{i}$params"], each) for i, each in enumerate(couplings)]
    after = numbers(law(trained).log_prob(engine.array(x))).mean()
    assert abs(after - best(x)) < 0.06 < best(x) - before
    assert abs(losses[-1] / len(x) + after) < 1e-2


@BOTH
def test_what_a_name_refuses(engine: Any) -> None:
    flow = affine(engine)
    with pytest.raises(ValueError, match=r"name: got 'z'; expected one of \['x'\]"):
        engine.face.with_params(flow, {"x$params": flow} if engine is NUMPYRO else {"x$$$a": torch.zeros(1)}, name="z")


def test_pyro_refuses_a_second_flow_under_one_name() -> None:
    """The param store would hand the second flow's gradient to nobody."""
    first, second = affine(PYRO), affine(PYRO)
    with pyro.get_param_store().scope():
        first.distribution(name="flow")
        first.distribution(name="flow")
        with pytest.raises(ValueError, match=r"name: got 'flow', under which the param store holds"):
            second.distribution(name="flow")


def test_numpyro_params_are_one_site_a_flow() -> None:
    model = two_flows(NUMPYRO, affine(NUMPYRO), affine(NUMPYRO))
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(*map(jnp.asarray, (rows(), rows())))
    assert [name for name, site in trace.items() if site["type"] == "param"] == ["x_flow$params", "y_flow$params"]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(trace["x_flow$params"]["value"]))
