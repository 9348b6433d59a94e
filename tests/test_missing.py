"""``missing`` in both engines against closed forms, quadrature and the engines' own handlers.

Models are written once, against the few names that both engines share; ``Engine`` hands over the rest.
"""

from types import SimpleNamespace

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

import deepgen.handlers.numpyro as in_numpyro
import deepgen.handlers.pyro as in_pyro

NAN = np.nan


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads only cost time at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class NumPyro:
    name = "numpyro"
    dist, sample, plate = numpyro.distributions, staticmethod(numpyro.sample), numpyro.plate
    handlers = numpyro.handlers
    missing, complete = in_numpyro.missing, staticmethod(in_numpyro.complete)
    array = staticmethod(lambda x: jnp.asarray(x, jnp.float32))
    bijection = staticmethod(numpyro.distributions.biject_to)
    exp_sigmoid = staticmethod(numpyro.distributions.transforms.SigmoidTransform)

    @staticmethod
    def seeded(model, seed=0):
        return numpyro.handlers.seed(model, seed)

    @staticmethod
    def sites(model, seed=0):
        trace = numpyro.handlers.trace(numpyro.handlers.seed(model, seed)).get_trace()
        return {k: SimpleNamespace(**site) for k, site in trace.items() if site["type"] == "sample"}

    @staticmethod
    def log_density(model, values):
        values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
        return numpyro.infer.util.log_density(numpyro.handlers.seed(model, 0), (), {}, values)[0]

    @classmethod
    def density(cls, model, values, name, points):
        each = jax.vmap(lambda point: cls.log_density(model, {**values, name: point}))
        return np.exp(jax.jit(each)(jnp.asarray(points, jnp.float32)[:, None]))

    @classmethod
    def gradient(cls, model, name, value):
        return np.asarray(jax.grad(lambda v: cls.log_density(model, {name: v}))(jnp.asarray(value, jnp.float32)))

    @staticmethod
    def nuts(model, warmup, samples, *args):
        kernel = numpyro.infer.NUTS(model)
        options = {"num_chains": 4, "chain_method": "vectorized", "progress_bar": False, "jit_model_args": True}
        mcmc = numpyro.infer.MCMC(kernel, num_warmup=warmup, num_samples=samples, **options)
        for arg in args:
            mcmc.run(jax.random.key(0), NumPyro.array(arg))
            yield {k: np.asarray(v) for k, v in mcmc.get_samples(group_by_chain=True).items()}

    @staticmethod
    def elbo(model, guide, particles, params=None, seed=0):
        loss = numpyro.infer.Trace_ELBO(num_particles=particles).loss
        return -float(loss(jax.random.key(seed), {} if params is None else params, model, guide))

    @classmethod
    def fit_auto(cls, model, steps):
        guide = numpyro.infer.autoguide.AutoMultivariateNormal(model)
        adam = numpyro.optim.Adam(lambda i: 0.05 * 0.998**i)
        svi = numpyro.infer.SVI(model, guide, adam, numpyro.infer.Trace_ELBO(num_particles=8))
        params = svi.run(jax.random.key(0), steps, progress_bar=False).params
        return cls.elbo(model, guide, 500, params)

    @staticmethod
    def predictive(model, draws=None, n=None, sites=None):
        draws = None if draws is None else {k: jnp.asarray(v, jnp.float32) for k, v in draws.items()}
        out = numpyro.infer.Predictive(model, draws, num_samples=n, return_sites=sites)(jax.random.key(0))
        return {k: np.asarray(v) for k, v in out.items()}


class Pyro:
    name = "pyro"
    dist, sample, plate = pyro.distributions, staticmethod(pyro.sample), pyro.plate
    handlers = pyro.poutine
    missing, complete = staticmethod(in_pyro.missing), staticmethod(in_pyro.complete)
    array = staticmethod(lambda x: torch.as_tensor(np.asarray(x), dtype=torch.float32))
    bijection = staticmethod(torch.distributions.biject_to)
    exp_sigmoid = staticmethod(torch.distributions.transforms.SigmoidTransform)

    @staticmethod
    def seeded(model, seed=0):
        def run(*args):
            pyro.set_rng_seed(seed)
            return model(*args)

        return run

    @classmethod
    def sites(cls, model, seed=0):
        nodes = pyro.poutine.trace(cls.seeded(model, seed)).get_trace().nodes
        return {
            k: SimpleNamespace(**site)
            for k, site in nodes.items()
            if site["type"] == "sample" and not isinstance(site["fn"], pyro.poutine.subsample_messenger._Subsample)
        }

    @staticmethod
    def log_density(model, values):
        values = {k: torch.as_tensor(v, dtype=torch.float32) for k, v in values.items()}
        return pyro.poutine.trace(pyro.poutine.condition(model, values)).get_trace().log_prob_sum()

    @classmethod
    def density(cls, model, values, name, points):
        return np.exp([float(cls.log_density(model, {**values, name: [point]})) for point in points])

    @classmethod
    def gradient(cls, model, name, value):
        value = torch.tensor(value, dtype=torch.float32, requires_grad=True)
        return torch.autograd.grad(cls.log_density(model, {name: value}), value)[0].numpy()

    @staticmethod
    def nuts(model, warmup, samples, *args):
        for arg in args:
            pyro.set_rng_seed(0)
            kernel = pyro.infer.NUTS(model, max_tree_depth=3)
            mcmc = pyro.infer.MCMC(kernel, num_samples=samples, warmup_steps=warmup, disable_progbar=True)
            mcmc.run(Pyro.array(arg))
            yield {k: v.numpy() for k, v in mcmc.get_samples(group_by_chain=True).items()}

    @staticmethod
    def elbo(model, guide, particles, seed=0):
        pyro.set_rng_seed(seed)
        return -pyro.infer.Trace_ELBO(num_particles=particles).loss(model, guide)

    @classmethod
    def fit_auto(cls, model, steps):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        guide = pyro.infer.autoguide.AutoMultivariateNormal(model)
        optimiser = pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.995})
        elbo = pyro.infer.Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
        svi = pyro.infer.SVI(model, guide, optimiser, elbo)
        for _ in range(steps):
            svi.step()
        with torch.no_grad():
            many = pyro.infer.Trace_ELBO(num_particles=500, vectorize_particles=True, max_plate_nesting=1)
            return -many.loss(model, guide)

    @staticmethod
    def predictive(model, draws=None, n=None, sites=None, parallel=False):
        pyro.set_rng_seed(0)
        draws = None if draws is None else {k: torch.as_tensor(v, dtype=torch.float32) for k, v in draws.items()}
        out = pyro.infer.Predictive(model, draws, num_samples=n, return_sites=sites, parallel=parallel)()
        return {k: v.detach().numpy() for k, v in out.items()}


@pytest.fixture(params=[NumPyro, Pyro], ids=lambda engine: engine.name)
def engine(request):
    return request.param


def values(x):
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


MEAN = np.array([0.5, -1.0, 2.0])
COV = np.array([[1.0, 0.8, 0.3], [0.8, 1.5, -0.4], [0.3, -0.4, 0.7]])
ROWS = np.array([[NAN, 0.3, 1.0], [1.2, NAN, NAN], [0.0, -1.0, 2.5]])


CHOLESKY = np.linalg.cholesky(COV)
# the planted bug: the same marginals without the correlation, as masking elements of the event would have it
DIAGONAL = np.diag(np.sqrt(np.diag(COV)))


def normal_rows(e, cholesky=CHOLESKY):
    """Three rows of a correlated normal, each a joint event inside of a plate."""

    def model(scale_tril=e.array(cholesky)):  # noqa: B008
        with e.plate("rows", 3):
            return e.sample("x", e.dist.MultivariateNormal(e.array(MEAN), scale_tril=scale_tril))

    return model


def conditional(rows, mean, cov):
    """Mean and covariance of all missing entries given the observed ones, and log p(observed)."""
    n = len(rows)
    big_mean, big_cov = np.tile(mean, n), np.kron(np.eye(n), cov)
    flat = rows.ravel()
    m, o = np.isnan(flat), ~np.isnan(flat)
    gain = np.linalg.solve(big_cov[np.ix_(o, o)], big_cov[np.ix_(o, m)]).T
    posterior_mean = big_mean[m] + gain @ (flat[o] - big_mean[o])
    posterior_cov = big_cov[np.ix_(m, m)] - gain @ big_cov[np.ix_(o, m)]
    evidence = st.multivariate_normal(big_mean[o], big_cov[np.ix_(o, o)]).logpdf(flat[o])
    return posterior_mean, posterior_cov, evidence


def check_moments(draws, mean, cov, failure_rate=1e-4):
    """First and second moments of (chain, draw, m) draws against a normal law, to the Monte Carlo standard error."""
    m = len(mean)
    centred = draws - mean
    pairs = [(i, j) for i in range(m) for j in range(i + 1)]
    statistics = [(centred[..., i], 0.0) for i in range(m)]
    statistics += [(centred[..., i] * centred[..., j], cov[i, j]) for i, j in pairs]
    z = st.norm.isf(failure_rate / 2 / len(statistics))
    for series, truth in statistics:
        error = series.std() / np.sqrt(float(az.ess(series)))
        assert abs(series.mean() - truth) < z * error


# --- the joint event -----------------------------------------------------------------------------------------------


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


# --- elementwise independent sites ---------------------------------------------------------------------------------

ELEMENTWISE = {
    "normal": (
        lambda e, s: e.dist.Normal(s, e.array([1.0, 2.0, 0.5])),
        st.norm(1.3, [1.0, 2.0, 0.5]),
        [0.4, NAN, -1.0],
    ),
    "lognormal": (lambda e, s: e.dist.LogNormal(s, e.array(0.5)), st.lognorm(0.5, scale=np.exp(1.3)), [2.0, NAN, 0.7]),
    "uniform": (
        lambda e, s: e.dist.Uniform(e.array([0.0, -3.0, 1.0]), s + e.array([1.0, 0.0, 2.0])),
        st.uniform([0.0, -3.0, 1.0], 1.3 + np.array([1.0, 3.0, 1.0])),
        [0.5, NAN, 2.0],
    ),
    "beta": (lambda e, s: e.dist.Beta(s, e.array([0.5, 2.0, 3.0])), st.beta(1.3, [0.5, 2.0, 3.0]), [0.2, NAN, 0.9]),
    "exponential": (
        lambda e, s: e.dist.Exponential(s * e.array([1.0, 2.0, 3.0])),
        st.expon(scale=1 / (1.3 * np.arange(1, 4))),
        [0.2, NAN, 0.9],
    ),
}


def elementwise_model(e, law, event):
    def model():
        s = e.sample("s", e.dist.LogNormal(e.array(0.0), e.array(1.0)))
        fn = law(e, s + e.array(np.zeros(3)))
        if event:
            return e.sample("x", fn.to_event(1))
        with e.plate("columns", 3):
            return e.sample("x", fn)

    return model


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


# --- variational inference -----------------------------------------------------------------------------------------


def exact_guide(e):
    mean, cov, _ = conditional(ROWS, MEAN, COV)

    def guide():
        e.sample("x_missing", e.dist.MultivariateNormal(e.array(mean), e.array(cov)))

    return guide


def test_elbo_of_the_exact_guide_is_the_evidence_in_every_draw(engine):
    evidence = conditional(ROWS, MEAN, COV)[2]

    def error(cholesky):
        model = engine.missing(normal_rows(engine, cholesky), data={"x": ROWS})
        return max(abs(engine.elbo(model, exact_guide(engine), 1, seed=s) - evidence) for s in range(5))

    assert error(CHOLESKY) < 1e-3
    assert error(DIAGONAL) > 0.1


def test_auto_multivariate_normal_reaches_the_evidence(engine):
    evidence = conditional(ROWS, MEAN, COV)[2]
    model = engine.missing(normal_rows(engine), data={"x": ROWS})
    reached = engine.fit_auto(model, 1500 if engine is NumPyro else 700)
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


# --- parameters and missing covariates together ---------------------------------------------------------------------

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


def test_parameters_and_missing_covariates_under_nuts(engine):
    mean, deviation = regression_reference()
    options = (400, 1000) if engine is NumPyro else (60, 150)
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


# --- composition with the engines' own handlers ---------------------------------------------------------------------


def two_sites(e):
    def model():
        mu = e.sample("mu", e.dist.Normal(e.array(0.0), e.array(1.0)))
        with e.plate("rows", 2):
            e.sample("u", e.dist.Normal(mu + e.array(np.zeros(2)), e.array(1.0)))
            with e.plate("columns", 3):
                return e.sample("v", e.dist.Normal(mu + e.array(np.zeros((3, 2))), e.array(2.0)))

    return model


U, V = np.array([NAN, 1.0]), np.array([[1.0, NAN], [2.0, 3.0], [NAN, NAN]])


def test_nested_handlers_and_one_handler_for_two_sites(engine):
    m = engine.missing
    at = {"mu": 0.3, "u_missing": [0.7], "v_missing": [0.1, -0.2, 0.4]}
    v = np.array([[1.0, 0.1], [2.0, 3.0], [-0.2, 0.4]])
    expected = st.norm.logpdf(0.3) + st.norm(0.3, 1).logpdf([0.7, 1.0]).sum() + st.norm(0.3, 2).logpdf(v).sum()
    nested = m(m(two_sites(engine), data={"v": V}), data={"u": U})
    together = m(two_sites(engine), data={"u": U, "v": V})
    summed = m(m(two_sites(engine), data={"u": U}), data={"v": V}, latent=False)
    for handled in (nested, together):
        assert float(engine.log_density(handled, at)) == pytest.approx(expected, abs=1e-4)
        sites = engine.sites(handled)
        assert tuple(sites["u_missing"].value.shape) == (1,)
        assert len(sites["v_missing"].cond_indep_stack) == 0
    expected -= st.norm(0.3, 2).logpdf([0.1, -0.2, 0.4]).sum()
    del at["v_missing"]
    assert float(engine.log_density(summed, at)) == pytest.approx(expected, abs=1e-4)


def test_as_context_manager_and_as_decorator(engine):
    def program():
        with engine.missing(data={"x": ROWS}):
            return normal_rows(engine)()

    wrapped = engine.missing(normal_rows(engine), data={"x": ROWS})
    decorated = engine.missing(data={"x": ROWS})(normal_rows(engine))
    at = {"x_missing": [0.1, 0.2, 0.3]}
    for handled in (program, decorated):
        assert float(engine.log_density(handled, at)) == float(engine.log_density(wrapped, at))


def test_value_is_the_data_bit_for_bit_with_the_draws_scattered_in(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS.astype(np.float32)})
    sites = engine.sites(handled)
    x, draws = values(sites["x"].value), values(sites["x_missing"].value)
    assert sites["x"].is_observed
    assert not sites["x_missing"].is_observed
    seen = ~np.isnan(ROWS)
    np.testing.assert_array_equal(x[seen], ROWS.astype(np.float32)[seen])
    np.testing.assert_array_equal(x[~seen], draws)
    np.testing.assert_array_equal(values(engine.complete(ROWS.astype(np.float32), draws)), x)


def test_condition_scale_and_block_outside_see_the_new_site(engine):
    at = np.array([0.1, 0.2, 0.3])
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    fixed = engine.handlers.condition(handled, {"x_missing": engine.array(at)})
    sites = engine.sites(fixed)
    assert sites["x_missing"].is_observed
    np.testing.assert_allclose(values(sites["x"].value)[np.isnan(ROWS)], at, rtol=1e-6)
    plain = float(engine.log_density(handled, {"x_missing": at}))
    scaled = engine.handlers.scale(handled, scale=3.0)
    assert float(engine.log_density(scaled, {"x_missing": at})) == pytest.approx(3 * plain, rel=1e-5)
    assert list(engine.sites(engine.handlers.block(handled, hide=["x_missing"]))) in (["x"], ["rows", "x"])


def test_substitute_and_replay_outside_set_the_missing_entries(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    at = engine.array([0.1, 0.2, 0.3])
    if engine is NumPyro:
        set_to = numpyro.handlers.substitute(handled, {"x_missing": at})
        trace = numpyro.handlers.trace(numpyro.handlers.seed(set_to, 0)).get_trace()
    else:
        set_to = pyro.poutine.substitute(handled, {"x_missing": at})
        trace = pyro.poutine.trace(pyro.poutine.condition(handled, {"x_missing": at})).get_trace()
        trace.nodes["x_missing"]["is_observed"] = False
    again = engine.sites(engine.handlers.replay(handled, trace=trace), seed=5)
    np.testing.assert_array_equal(values(again["x_missing"].value), values(at))
    np.testing.assert_array_equal(values(again["x"].value)[np.isnan(ROWS)], values(at))


def test_scale_inside_of_the_model_scales_the_completed_site(engine):
    def model():
        with engine.handlers.scale(scale=2.0):
            engine.sample("x", engine.dist.Normal(engine.array([0.0, 0.0]), 1.0).to_event(1))

    handled = engine.missing(model, data={"x": np.array([0.5, NAN])})
    expected = 2 * st.norm.logpdf([0.5, 1.5]).sum()
    assert float(engine.log_density(handled, {"x_missing": [1.5]})) == pytest.approx(expected, abs=1e-5)


def test_predictive_draws_and_completes(engine):
    handled = engine.missing(normal_rows(engine), data={"x": ROWS})
    prior = engine.predictive(handled, n=7, sites=["x", "x_missing"])
    assert prior["x"].shape == (7, 3, 3)
    draws = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    completed = engine.predictive(handled, {"x_missing": draws}, sites=["x"])["x"]
    np.testing.assert_array_equal(completed, engine.complete(ROWS.astype(np.float32), draws))
    np.testing.assert_array_equal(
        prior["x"], engine.complete(ROWS.astype(np.float32), prior["x_missing"].reshape(7, 3))
    )


@pytest.mark.parametrize("latent", [True, False])
def test_a_plate_outside_copies_the_missing_entries_and_shares_the_data(engine, latent):
    def model():
        with engine.plate("particles", 4, dim=-2):
            mu = engine.sample("mu", engine.dist.Normal(engine.array(0.0), engine.array(1.0)))
            handler = engine.missing(data={"x": np.array([[0.5, NAN], [NAN, 1.0]])}, latent=latent)
            with handler, engine.plate("rows", 2, dim=-1):
                return engine.sample("x", engine.dist.Normal(mu[..., None], engine.array([1.0, 2.0])).to_event(1))

    sites = engine.sites(model)
    x = values(sites["x"].value)
    assert x.shape == (4, 2, 2)
    assert len(np.unique(x[:, 0, 1])) == 4
    np.testing.assert_array_equal(x[:, 0, 0], 0.5)
    assert tuple(sites["x"].fn.log_prob(sites["x"].value).shape) == (4, 2)
    if latent:
        assert tuple(sites["x_missing"].value.shape) == (4, 1, 2)
        assert tuple(sites["x_missing"].fn.log_prob(sites["x_missing"].value).shape) == (4, 1)


def test_bounds_that_differ_in_a_plate_outside(engine):
    def model():
        with engine.plate("particles", 3, dim=-2):
            top = engine.sample("top", engine.dist.Uniform(engine.array(5.0), engine.array(9.0)))
            with engine.missing(data={"x": np.array([0.5, NAN, NAN, 1.0])}), engine.plate("rows", 4, dim=-1):
                engine.sample("x", engine.dist.Uniform(engine.array([0.0, 1.0, 2.0, 0.0]), top))

    sites = engine.sites(model)
    top, site = values(sites["top"].value), sites["x_missing"]
    highest = values(engine.bijection(site.fn.support)(engine.array(np.full((3, 1, 2), 30.0))))
    lowest = values(engine.bijection(site.fn.support)(engine.array(np.full((3, 1, 2), -30.0))))
    np.testing.assert_allclose(highest, np.broadcast_to(top[..., None], (3, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(lowest, np.broadcast_to([1.0, 2.0], (3, 1, 2)), rtol=1e-5)


def test_an_exception_restores_the_effect_stack(engine):
    stack = numpyro.primitives._PYRO_STACK if engine is NumPyro else pyro.poutine.runtime._PYRO_STACK

    class Refuse(numpyro.primitives.Messenger if engine is NumPyro else pyro.poutine.messenger.Messenger):
        def process_message(self, msg):
            if msg["name"] == "x_missing":
                raise RuntimeError("refused")

        _pyro_sample = process_message

    with pytest.raises(RuntimeError, match="refused"), Refuse():
        engine.missing(normal_rows(engine), data={"x": ROWS})()
    assert stack == []


def test_nothing_missing_is_a_plain_observation(engine):
    x = np.nan_to_num(ROWS)
    sites = engine.sites(engine.missing(normal_rows(engine), data={"x": x}))
    assert [name for name in sites if name != "rows"] == ["x"]
    np.testing.assert_array_equal(values(sites["x"].value), x.astype(np.float32))
    counts = engine.missing(
        lambda: engine.sample("k", engine.dist.Poisson(engine.array([1.0, 2.0]))), data={"k": [3, 0]}
    )
    assert float(engine.log_density(counts, {})) == pytest.approx(st.poisson([1, 2]).logpmf([3, 0]).sum(), abs=1e-5)


def test_masked_arrays_and_observed_say_what_nan_says(engine):
    hidden = np.isnan(ROWS)
    garbage = np.where(hidden, np.inf, ROWS)
    at = {"x_missing": [0.1, 0.2, 0.3]}
    by_nan = engine.missing(normal_rows(engine), data={"x": ROWS})
    by_mask = engine.missing(normal_rows(engine), data={"x": np.ma.array(garbage, mask=hidden)})
    by_observed = engine.missing(normal_rows(engine), data={"x": garbage}, observed={"x": ~hidden})
    for handled in (by_mask, by_observed):
        assert float(engine.log_density(handled, at)) == float(engine.log_density(by_nan, at))


def test_an_all_missing_site_is_the_prior(engine):
    handled = engine.missing(normal_rows(engine), data={"x": np.full((3, 3), NAN)})
    point = np.random.default_rng(1).normal(size=9)
    expected = st.multivariate_normal(MEAN, COV).logpdf(point.reshape(3, 3)).sum()
    assert float(engine.log_density(handled, {"x_missing": point})) == pytest.approx(expected, abs=1e-4)


def test_mixtures_have_the_support_of_their_components(engine):
    def model(component):
        weights = engine.dist.Categorical(engine.array([0.4, 0.6]))
        with engine.plate("rows", 2):
            engine.sample("x", engine.dist.MixtureSameFamily(weights, component))

    component = engine.dist.Normal(engine.array([-1.0, 2.0]), engine.array([0.5, 1.0]))
    handled = engine.missing(lambda: model(component), data={"x": np.array([NAN, 0.3])})
    density = 0.4 * st.norm(-1, 0.5).pdf([1.2, 0.3]) + 0.6 * st.norm(2, 1).pdf([1.2, 0.3])
    assert float(engine.log_density(handled, {"x_missing": [1.2]})) == pytest.approx(np.log(density).sum(), abs=1e-5)


# --- complete -------------------------------------------------------------------------------------------------------


def test_complete_scatters_any_leading_axes(engine):
    draws = np.random.default_rng(0).normal(size=(4, 5, 3))
    out = engine.complete(ROWS, draws)
    assert isinstance(out, np.ndarray)
    assert out.shape == (4, 5, 3, 3)
    assert out.dtype == ROWS.dtype
    seen = ~np.isnan(ROWS)
    np.testing.assert_array_equal(out[..., seen], np.broadcast_to(ROWS[seen], (4, 5, 6)))
    np.testing.assert_array_equal(out[..., ~seen], draws)
    own = engine.complete(engine.array(ROWS), engine.array(draws))
    assert type(own) is type(engine.array(ROWS))
    np.testing.assert_array_equal(values(own), out.astype(np.float32))
    integers = engine.complete(np.array([3, 4]), np.array([[7], [8]]), observed=np.array([True, False]))
    assert integers.tolist() == [[3, 7], [3, 8]]
    with pytest.raises(ValueError, match=r"x_missing: got shape \(4, 2\); expected \(\.\.\., 3\)"):
        engine.complete(ROWS, draws[0, :4, :2])


# --- refusals -------------------------------------------------------------------------------------------------------


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


# --- one engine alone -----------------------------------------------------------------------------------------------


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

        numpyro.contrib.control_flow.scan(body, 0.0, None, length=3)

    with pytest.raises(ValueError, match="got a site inside of scan or cond"):
        NumPyro.sites(in_numpyro.missing(model, data={"x": np.array([0.1, NAN, 0.2])}))


def test_numpyro_seed_inside_serves_the_missing_entries():
    inside = in_numpyro.missing(numpyro.handlers.seed(normal_rows(NumPyro), 0), data={"x": ROWS})
    trace = numpyro.handlers.trace(inside).get_trace()
    assert trace["x_missing"]["value"].shape == (3,)
    typed, legacy = jax.random.key(3), jax.random.PRNGKey(3)
    model = in_numpyro.missing(normal_rows(NumPyro), data={"x": ROWS})
    first, second = (
        numpyro.handlers.trace(numpyro.handlers.seed(model, k)).get_trace()["x_missing"]["value"]
        for k in (typed, legacy)
    )
    np.testing.assert_array_equal(first, second)


def test_numpyro_sample_shape_belongs_to_the_site():
    def model():
        numpyro.sample("x", numpyro.distributions.Normal(0.0, 1.0), sample_shape=(3,))

    handled = in_numpyro.missing(model, data={"x": np.array([0.1, NAN, 0.2])})
    expected = st.norm.logpdf([0.1, 0.5, 0.2]).sum()
    assert float(NumPyro.log_density(handled, {"x_missing": [0.5]})) == pytest.approx(expected, abs=1e-5)


def test_numpyro_distributions_are_pytrees():
    for latent, site in ((True, "x_missing"), (False, "x")):
        law, _, x = ELEMENTWISE["uniform"]
        handled = in_numpyro.missing(elementwise_model(NumPyro, law, True), data={"x": np.array(x)}, latent=latent)
        msg = NumPyro.sites(handled)[site]
        leaves, tree = jax.tree.flatten(msg.fn)
        again = jax.tree.unflatten(tree, leaves)
        assert float(again.log_prob(msg.value)) == float(msg.fn.log_prob(msg.value))
        assert again.sample(jax.random.key(0)).shape == msg.value.shape
        through = jax.jit(lambda d, v: d.log_prob(v))(msg.fn, msg.value)
        assert float(through) == pytest.approx(float(msg.fn.log_prob(msg.value)), rel=1e-6)


def test_pyro_parallel_predictive_completes():
    handled = in_pyro.missing(normal_rows(Pyro), data={"x": ROWS})
    draws = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    completed = Pyro.predictive(handled, {"x_missing": draws}, sites=["x"], parallel=True)["x"]
    np.testing.assert_array_equal(completed, in_pyro.complete(ROWS.astype(np.float32), draws))
    summed = in_pyro.missing(
        elementwise_model(Pyro, ELEMENTWISE["normal"][0], False), {"x": ELEMENTWISE["normal"][2]}, latent=False
    )
    drawn = Pyro.predictive(summed, n=6, sites=["x"], parallel=True)["x"]
    assert len(np.unique(drawn[:, 1])) == 6


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_pyro_jit_and_vectorised_particles_give_the_evidence():
    evidence = conditional(ROWS, MEAN, COV)[2]
    model = in_pyro.missing(normal_rows(Pyro), data={"x": ROWS})
    options = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
    for elbo in (pyro.infer.Trace_ELBO(**options), pyro.infer.JitTrace_ELBO(**options)):
        assert -elbo.loss(model, exact_guide(Pyro)) == pytest.approx(evidence, abs=1e-3)


def mixture_of_rows(enumerate_with="parallel", uniform=False):
    def model():
        with pyro.plate("rows", 2):
            k = pyro.sample("k", pyro.distributions.Bernoulli(0.3), infer={"enumerate": enumerate_with})
            if uniform:
                pyro.sample("x", pyro.distributions.Uniform(0.0, 1.0 + k))
            else:
                loc = torch.stack([2 * k, -k], -1)
                tril = torch.tensor([[1.0, 0.0], [0.5, 0.8]])
                pyro.sample("x", pyro.distributions.MultivariateNormal(loc, scale_tril=tril))

    return model


@pytest.mark.parametrize("latent", [True, False])
def test_pyro_enumerated_variables_share_the_missing_entries(latent):
    x = np.array([[0.5, NAN], [NAN, -1.0]])
    tril = np.array([[1.0, 0.0], [0.5, 0.8]])
    if latent:
        model, guide_at = in_pyro.missing(mixture_of_rows(), data={"x": x}), torch.tensor([0.2, 1.1])

        def guide():
            pyro.sample("x_missing", pyro.distributions.Delta(guide_at).to_event(1))

        completed = np.array([[0.5, 0.2], [1.1, -1.0]])
        laws = [st.multivariate_normal([2.0 * k, -k], tril @ tril.T) for k in (0, 1)]
        each = 0.7 * laws[0].pdf(completed) + 0.3 * laws[1].pdf(completed)
    else:

        def independent():
            with pyro.plate("rows", 2):
                k = pyro.sample("k", pyro.distributions.Bernoulli(0.3), infer={"enumerate": "parallel"})
                pyro.sample("x", pyro.distributions.Normal(torch.stack([2 * k, -k], -1), 1.0).to_event(1))

        model = in_pyro.missing(independent, data={"x": x}, latent=False)

        def guide():
            pass

        each = 0.7 * st.norm.pdf([0.5, -1.0]) + 0.3 * st.norm.pdf([-1.5, 0.0])
    elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
    assert -elbo.loss(model, guide) == pytest.approx(np.log(each).sum(), abs=1e-4)


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


def test_pyro_data_keeps_its_dtype_and_its_observed_bits():
    x = torch.tensor([0.1, torch.nan], dtype=torch.float64)
    value = Pyro.sites(
        in_pyro.missing(lambda: pyro.sample("x", pyro.distributions.Normal(torch.zeros(2), 1.0)), {"x": x})
    )["x"].value
    assert value.dtype == torch.float64
    assert value[0] == x[0]
