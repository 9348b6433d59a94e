"""What ``missing`` refuses, and what it says then."""

import jax
import numpy as np
import numpyro
import numpyro.distributions
import pyro
import pyro.distributions
import pytest
import torch
from handling import COV, MEAN, NAN, ROWS, NumPyro, Pyro, U, mixture_of_rows, normal_rows, two_sites
from numpyro.contrib.control_flow import scan

import deepgen.handlers.numpyro as in_numpyro
import deepgen.handlers.pyro as in_pyro


@pytest.fixture(params=[NumPyro, Pyro], ids=lambda engine: engine.name)
def engine(request):
    return request.param


@pytest.mark.parametrize(
    ("data", "observed", "match"),
    [
        (None, None, "data: got NoneType; expected a dict from names of sample sites"),
        ({}, None, "data: got dict .*expected a dict from names"),
        ({"x": np.array(["a"])}, None, r"data\['x'\]: got dtype <U1; expected a numeric array"),
        ({"x": [1.0, None]}, None, "got dtype object"),
        ({"x": [1.0, np.inf]}, None, r"got 1 infinite values, the first at \(1,\)"),
        ({"x": [1.0, NAN]}, {"x": np.array([True, True])}, r"got NaN at \(1,\), which observed says is observed"),
        ({"x": [1.0, 2.0]}, {"x": np.array([1, 0])}, r"observed of data\['x'\]: got dtype int64, shape \(2,\)"),
        ({"x": [1.0, 2.0]}, {"x": np.array([True])}, r"got dtype bool, shape \(1,\); expected booleans .*\(2,\)"),
        ({"x": [1.0, 2.0]}, {"y": np.array([True])}, r"observed: got \['y'\]; expected .*\['x'\]"),
    ],
)
def test_data_is_refused_at_once(engine, data, observed, match):
    with pytest.raises(ValueError, match=match):
        engine.missing(lambda: None, data=data, observed=observed)


@pytest.mark.parametrize(
    ("law", "data", "latent", "match"),
    [
        ("normal", np.zeros((2, 3)), True, r"data\['x'\]: got shape \(2, 3\); expected the site's shape \(3,\)"),
        ("normal", np.zeros(2), True, r"got shape \(2,\); expected the site's shape \(3,\)"),
        ("normal", np.zeros((1, 3)), True, r"got shape \(1, 3\)"),
        ("lognormal", [1.0, -2.0, NAN], True, r"data\['x'\]: got -2.0 at \(1,\); expected values in the support"),
        ("lognormal", [1.0, -2.0, NAN], False, r"got -2.0 at \(1,\); expected values in the support"),
        ("dirichlet", [0.2, NAN, NAN], True, "expected a support that constrains each entry by itself"),
        ("dirichlet", [0.2, NAN, NAN], False, "whose event is joint, with latent=False"),
        ("multivariate", [0.2, NAN, NAN], False, "got MultivariateNormal, whose event is joint.*Use latent=True"),
    ],
)
def test_sites_are_refused(engine, law, data, latent, match):
    e = engine
    laws = {
        "normal": lambda: e.dist.Normal(e.array(np.zeros(3)), 1.0),
        "lognormal": lambda: e.dist.LogNormal(e.array(np.zeros(3)), 1.0).to_event(1),
        "dirichlet": lambda: e.dist.Dirichlet(e.array(np.ones(3))),
        "multivariate": lambda: e.dist.MultivariateNormal(e.array(MEAN), e.array(COV)),
    }
    handled = e.missing(lambda: e.sample("x", laws[law]()), data={"x": np.array(data)}, latent=latent)
    with pytest.raises(ValueError, match=match):
        e.sites(handled)


def test_an_observed_site_is_refused(engine):
    def model():
        engine.sample("x", engine.dist.Normal(engine.array(0.0), engine.array(1.0)), obs=engine.array(1.0))

    with pytest.raises(ValueError, match=r"site 'x': got a site that already has a value.*Leave obs away"):
        engine.sites(engine.missing(model, data={"x": np.array(NAN)}))


def test_an_unknown_site_is_refused_with_the_sites_seen(engine):
    with pytest.raises(
        ValueError, match=r"data: got site names \['z'\] that the model never met; expected .*'mu', 'u'"
    ):
        engine.sites(engine.missing(two_sites(engine), data={"u": U, "z": U}))


def test_a_plate_outside_that_the_data_runs_over_is_refused(engine):
    def model():
        with engine.plate("rows", 3), engine.missing(data={"x": ROWS}):
            engine.sample("x", engine.dist.MultivariateNormal(engine.array([MEAN] * 3), engine.array(COV)))

    with pytest.raises(ValueError, match=r"a plate outside of missing that is axis -1.*Wrap the whole model"):
        engine.sites(model)


def test_draws_of_another_number_are_refused(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    handled = engine.handlers.condition(handled, {"x_missing": engine.array([0.1, 0.2])})
    with pytest.raises(ValueError, match=r"x_missing: got shape \(2,\)"):
        engine.sites(handled)


def test_numpyro_refuses_traced_data_and_missing_keys():
    with pytest.raises(ValueError, match=r"data or observed of 'x': got a traced array.*outside of jit"):
        jax.jit(lambda x: in_numpyro.missing(lambda: None, data={"x": x}))(ROWS)
    with pytest.raises(ValueError, match="data: got a traced array"):
        jax.jit(in_numpyro.complete)(ROWS, np.zeros(3))
    with pytest.raises(ValueError, match="rng_key: got None; expected a random key for the missing entries"):
        in_numpyro.missing(normal_rows(NumPyro), data={"x": ROWS})()


def test_numpyro_refuses_sites_in_control_flow():
    def model():
        def body(carry, _):
            return carry, numpyro.sample("x", numpyro.distributions.Normal(carry, 1.0))

        scan(body, 0.0, None, length=3)

    with pytest.raises(ValueError, match="got a site inside of scan or cond"):
        NumPyro.sites(in_numpyro.missing(model, data={"x": np.array([0.1, NAN, 0.2])}))


def test_pyro_refuses_too_few_axes_under_enumeration():
    model = in_pyro.missing(mixture_of_rows(), data={"x": np.array([0.5, NAN])})
    with pytest.raises(ValueError, match=r"got shape \(2,\); expected the site's shape"):
        pyro.infer.TraceEnum_ELBO(max_plate_nesting=1).loss(model, lambda: None)


def test_pyro_refuses_bounds_that_depend_on_an_enumerated_variable():
    model = in_pyro.missing(mixture_of_rows(uniform=True), data={"x": np.array([0.5, NAN])})
    with pytest.raises(ValueError, match="bounds differ between the values of an enumerated variable"):
        pyro.infer.TraceEnum_ELBO(max_plate_nesting=1).loss(model, lambda: None)


def test_pyro_mixture_with_bounds_of_its_components_is_refused():
    def model():
        component = pyro.distributions.Uniform(torch.zeros(2, 2), torch.tensor([1.0, 2.0]))
        weights = pyro.distributions.Categorical(torch.ones(2, 2))
        pyro.sample("x", pyro.distributions.MixtureSameFamily(weights, component).to_event(1))

    with pytest.raises(ValueError, match="expected a support that constrains each entry by itself"):
        Pyro.sites(in_pyro.missing(model, data={"x": np.array([0.5, NAN])}))
