"""``missing`` in both engines against closed forms and quadrature: densities, NUTS, variational inference."""

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions
import numpyro.infer.autoguide
import pyro
import pyro.distributions
import pyro.infer.autoguide
import pytest
import scipy.stats as st
import torch
from handling import (
    CHOLESKY,
    COV,
    DIAGONAL,
    ELEMENTWISE,
    MEAN,
    NAN,
    ROWS,
    NumPyro,
    Pyro,
    check_moments,
    conditional,
    elementwise_model,
    exact_guide,
    normal_rows,
    values,
)

import deepgen.handlers.numpyro as in_numpyro


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only cost time at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# the Pyro half of these takes longer than the rest of the file
SLOW_IN_PYRO = pytest.mark.parametrize(
    "engine", [NumPyro, pytest.param(Pyro, marks=pytest.mark.slow)], indirect=True, ids=lambda engine: engine.name
)


@pytest.fixture(params=[NumPyro, Pyro], ids=lambda engine: engine.name)
def engine(request):
    return request.param


def test_nuts_draws_from_the_conditional_normal(engine):
    mean, cov, _ = conditional(ROWS, MEAN, COV)
    model = engine.missing(normal_rows(engine), data={"x": ROWS})
    options = (300, 1000) if engine is NumPyro else (60, 200)
    right, planted = engine.nuts(model, *options, CHOLESKY, DIAGONAL)
    check_moments(right["x_missing"], mean, cov)
    with pytest.raises(AssertionError):
        check_moments(planted["x_missing"], mean, cov)


def test_joint_density_of_a_normal_event(engine):
    mean, cov, evidence = conditional(ROWS, MEAN, COV)
    model = engine.missing(normal_rows(engine), data={"x": ROWS})
    for point in np.random.default_rng(0).normal(size=(3, 3)):
        expected = evidence + st.multivariate_normal(mean, cov).logpdf(point)
        assert float(engine.log_density(model, {"x_missing": point})) == pytest.approx(expected, abs=1e-4)
        gradient = -np.linalg.solve(cov, point - mean)
        np.testing.assert_allclose(engine.gradient(model, "x_missing", point), gradient, rtol=1e-4, atol=1e-4)


def test_flow_against_quadrature(engine):
    e, mean, cov = engine, np.array([0.3, -0.2]), np.array([[1.0, 0.8], [0.8, 1.3]])
    scale = np.array([0.7, 1.4])

    def model():
        t = e.dist.transforms
        base = e.dist.MultivariateNormal(e.array(mean), e.array(cov))
        transforms = [t.AffineTransform(e.array([0.1, 0.0]), e.array(scale)), e.exp_sigmoid()]
        return e.sample("x", e.dist.TransformedDistribution(base, transforms))

    observed = 0.4
    handled = e.missing(model, data={"x": np.array([observed, NAN])})
    nodes, weights = np.polynomial.legendre.leggauss(60)
    nodes, weights = (nodes + 1) / 2, weights / 2
    density = e.density(handled, {}, "x_missing", nodes)

    logit = np.log(observed / (1 - observed))
    loc = np.array([0.1, 0.0]) + scale * mean
    marginal = st.norm(loc[0], scale[0] * np.sqrt(cov[0, 0])).pdf(logit) / (observed * (1 - observed))
    assert density @ weights == pytest.approx(marginal, rel=1e-4)

    slope = scale[1] * cov[0, 1] / cov[0, 0]
    law = st.norm(
        loc[1] + slope * ((logit - 0.1) / scale[0] - mean[0]),
        scale[1] * np.sqrt(cov[1, 1] - cov[0, 1] ** 2 / cov[0, 0]),
    )
    conditional_density = law.pdf(np.log(nodes / (1 - nodes))) / (nodes * (1 - nodes))
    np.testing.assert_allclose(density / marginal, conditional_density, rtol=2e-4, atol=1e-5)
    site = e.sites(handled)["x_missing"]
    assert 0 < float(site.value[0]) < 1
    assert site.fn.support.event_dim == 1


@pytest.mark.parametrize(("case", "event"), [*((case, True) for case in ELEMENTWISE), ("uniform", False)])
def test_elementwise_sites(engine, case, event):
    law, reference, x = ELEMENTWISE[case]
    model, x = elementwise_model(engine, law, event), np.array(x)
    summed = engine.missing(model, data={"x": x}, latent=False)
    kept = engine.missing(model, data={"x": x})

    with np.errstate(divide="ignore"):
        each = reference.logpdf(np.where(np.isnan(x), 0.5, x))
    prior = st.lognorm(1.0).logpdf(1.3)
    assert float(engine.log_density(summed, {"s": 1.3})) == pytest.approx(prior + each[[0, 2]].sum(), abs=1e-5)
    joint = float(engine.log_density(kept, {"s": 1.3, "x_missing": [0.5]}))
    assert joint == pytest.approx(prior + each.sum(), abs=1e-5)

    keep = ~np.isnan(x)

    def only_observed():
        s = engine.sample("s", engine.dist.LogNormal(engine.array(0.0), engine.array(1.0)))
        fn = law(engine, s + engine.array(np.zeros(3)))
        where = engine.array(np.where(keep, x, 0.5))
        if engine is NumPyro:
            numpyro.factor("x", fn.log_prob(where)[keep].sum())
        else:
            pyro.factor("x", fn.log_prob(where)[torch.tensor(keep)].sum())

    gradient = engine.gradient(summed, "s", 1.3)
    assert np.isfinite(gradient)
    assert gradient == pytest.approx(engine.gradient(only_observed, "s", 1.3), rel=1e-5)

    sites = engine.sites(engine.missing(model, data={"x": x}, latent=False))
    assert "x_missing" not in sites
    assert np.isfinite(values(sites["x"].value)).all()
    np.testing.assert_array_equal(values(sites["x"].value)[keep], x[keep].astype(np.float32))

    site = engine.sites(kept)["x_missing"]
    assert tuple(site.fn.batch_shape) == ()
    assert tuple(site.fn.event_shape) == (1,)
    points = values(engine.bijection(site.fn.support)(engine.array(np.linspace(-4, 4, 9)[:, None])))
    completed = engine.complete(x, points)
    s = float(values(engine.sites(kept)["s"].value))
    inside = law(engine, engine.array(np.full(3, s)))
    assert np.isfinite(values(inside.log_prob(engine.array(completed)))[:, 1]).all()


def test_summing_out_is_marginalising(engine):
    law, _, x = ELEMENTWISE["beta"]
    model, x = elementwise_model(engine, law, True), np.array(x)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    kept = engine.missing(model, data={"x": x})
    density = engine.density(kept, {"s": 1.3}, "x_missing", (nodes + 1) / 2)
    summed = float(engine.log_density(engine.missing(model, data={"x": x}, latent=False), {"s": 1.3}))
    assert np.log(density @ weights / 2) == pytest.approx(summed, abs=1e-4)


def test_masks_inside_of_the_model_still_count(engine):
    x = np.array([[0.1, NAN], [0.3, 0.4]])
    mask = np.array([True, False])
    mask = jnp.asarray(mask) if engine is NumPyro else torch.tensor(mask)

    def model():
        with engine.plate("rows", 2):
            engine.sample("x", engine.dist.Normal(engine.array(np.zeros(2)), 1.0).expand([2, 2]).to_event(1).mask(mask))

    handled = engine.missing(model, data={"x": x}, latent=False)
    assert float(engine.log_density(handled, {})) == pytest.approx(st.norm.logpdf(0.1), abs=1e-6)


def test_gradient_is_finite_where_a_draw_rounds_to_the_edge_of_the_support(engine):
    def model():
        a = engine.sample("a", engine.dist.Normal(engine.array(0.0), engine.array(1.0)))
        engine.sample("x", engine.dist.LogNormal(a - 200.0, engine.array([1.0, 1.0])).to_event(1))

    handled = engine.missing(model, data={"x": np.array([1e-30, NAN])}, latent=False)
    assert float(engine.sites(handled)["x"].value[1]) == 0.0
    assert engine.gradient(handled, "a", 0.5) == pytest.approx(-0.5 + np.log(1e-30) + 199.5, rel=1e-4)


DISCRETE = {
    "bernoulli": (lambda e: e.dist.Bernoulli(e.array([0.2, 0.5, 0.9])), st.bernoulli([0.2, 0.5, 0.9]), [1.0, NAN, 0.0]),
    "poisson": (lambda e: e.dist.Poisson(e.array([1.0, 2.0, 3.0])), st.poisson([1.0, 2.0, 3.0]), [4.0, NAN, 0.0]),
    "categorical": (
        lambda e: e.dist.Categorical(e.array([[0.2, 0.3, 0.5]] * 3)),
        st.randint(0, 3),
        [2, 0, 1],
    ),
}


@pytest.mark.parametrize("case", DISCRETE)
def test_discrete_sites_are_summed_out(engine, case):
    law, reference, x = DISCRETE[case]
    x, observed = np.array(x), {"x": np.array([True, False, True])}

    def model():
        with engine.plate("columns", 3):
            engine.sample("x", law(engine))

    with pytest.raises(ValueError, match="discrete distribution with latent=True"):
        engine.sites(engine.missing(model, data={"x": x}, observed=observed))
    handled = engine.missing(model, data={"x": x}, observed=observed, latent=False)
    each = np.log([0.5, 0.2, 0.3]) if case == "categorical" else reference.logpmf(x)
    assert float(engine.log_density(handled, {})) == pytest.approx(each[[0, 2]].sum(), abs=1e-5)
    completed = engine.predictive(handled, n=200, sites=["x"])["x"]
    assert (completed[:, [0, 2]] == x[[0, 2]]).all()
    assert len(np.unique(completed[:, 1])) > 1


def test_elbo_of_the_exact_guide_is_the_evidence_in_every_draw(engine):
    evidence = conditional(ROWS, MEAN, COV)[2]

    def error(cholesky):
        model = engine.missing(normal_rows(engine, cholesky), data={"x": ROWS})
        return max(abs(engine.elbo(model, exact_guide(engine), 1, seed=s) - evidence) for s in range(5))

    assert error(CHOLESKY) < 1e-3
    assert error(DIAGONAL) > 0.1


@SLOW_IN_PYRO
def test_auto_multivariate_normal_reaches_the_evidence(engine):
    evidence = conditional(ROWS, MEAN, COV)[2]
    model = engine.missing(normal_rows(engine), data={"x": ROWS})
    reached = engine.fit_auto(model, 1000 if engine is NumPyro else 700)
    assert evidence - 0.05 < reached < evidence + 0.01


def test_auto_normal_sets_up_one_location_for_each_missing_entry(engine):
    model = engine.missing(normal_rows(engine), data={"x": ROWS})
    if engine is NumPyro:
        guide = numpyro.infer.autoguide.AutoNormal(model)
        svi = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.01), numpyro.infer.Trace_ELBO())
        params = svi.run(jax.random.key(0), 3, progress_bar=False).params
        assert params["x_missing_auto_loc"].shape == (3,)
    else:
        pyro.clear_param_store()
        guide = pyro.infer.autoguide.AutoNormal(model)
        svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), pyro.infer.Trace_ELBO())
        svi.step()
        assert guide.locs.x_missing.shape == (3,)


S = np.array([[1.0, 0.6], [0.6, 1.0]])
X = np.array([[0.9, NAN], [NAN, -0.8], [1.5, 0.4], [-0.7, NAN], [NAN, 1.1], [0.2, -0.3]])
Y = np.array([1.6, -0.2, 1.9, -0.6, 0.9, 0.1])
NOISE = 0.5


def regression(e):
    def model(scale_tril):
        b = e.sample("b", e.dist.Normal(e.array([0.0, 0.0]), e.array(1.0)).to_event(1))
        with e.plate("rows", 6):
            x = e.sample("x", e.dist.MultivariateNormal(e.array(np.zeros(2)), scale_tril=scale_tril))
            e.sample("y", e.dist.Normal((x * b).sum(-1), NOISE), obs=e.array(Y))

    return model


def regression_reference():
    """Posterior mean and standard deviation of b and of the missing covariates: normal given b, b on a grid."""
    axis = np.linspace(-3.5, 4, 301)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log_weight = st.norm.logpdf(grid).sum(-1)
    means, variances = [], []
    for x, y in zip(X, Y, strict=True):
        missing = np.isnan(x)
        if not missing.any():
            log_weight += st.norm.logpdf(y, grid @ x, NOISE)
            continue
        m, o = int(np.flatnonzero(missing)[0]), int(np.flatnonzero(~missing)[0])
        loc, variance = S[m, o] * x[o], 1 - S[m, o] ** 2
        residual = y - grid[:, o] * x[o] - grid[:, m] * loc
        total = NOISE**2 + grid[:, m] ** 2 * variance
        log_weight += st.norm.logpdf(residual, 0, np.sqrt(total))
        gain = variance * grid[:, m] / total
        means.append(loc + gain * residual)
        variances.append(variance * (1 - gain * grid[:, m]))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    columns = np.stack([*grid.T, *means], -1)
    within = np.stack([np.zeros(len(grid))] * 2 + variances, -1)
    mean = weight @ columns
    return mean, np.sqrt(weight @ (within + (columns - mean) ** 2))


def check_means(draws, mean, failure_rate=1e-4):
    z = st.norm.isf(failure_rate / 2 / len(mean))
    for i, truth in enumerate(mean):
        series = draws[..., i]
        assert abs(series.mean() - truth) < z * series.std() / np.sqrt(float(az.ess(series)))


@SLOW_IN_PYRO
def test_parameters_and_missing_covariates_under_nuts(engine):
    mean, deviation = regression_reference()
    options = (300, 700) if engine is NumPyro else (60, 150)
    (draws,) = engine.nuts(engine.missing(regression(engine), data={"x": X}), *options, np.linalg.cholesky(S))
    draws = np.concatenate([draws["b"], draws["x_missing"]], -1)
    check_means(draws, mean)
    check_means((draws - mean) ** 2, deviation**2)


@pytest.mark.slow
def test_summing_out_covariates_that_the_model_reads_is_found():
    def independent(scale):
        b = numpyro.sample("b", numpyro.distributions.Normal(jnp.zeros(2), 1.0).to_event(1))
        with numpyro.plate("rows", 6):
            x = numpyro.sample("x", numpyro.distributions.Normal(jnp.zeros(2), scale).to_event(1))
            numpyro.sample("y", numpyro.distributions.Normal((x * b).sum(-1), NOISE), obs=jnp.asarray(Y))

    (draws,) = NumPyro.nuts(in_numpyro.missing(independent, data={"x": X}, latent=False), 300, 1000, 1.0)
    with pytest.raises(AssertionError):
        check_means(draws["b"], regression_reference()[0][:2])
