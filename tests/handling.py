"""Models with missing data, written once against the few names that both engines share."""

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
import scipy.stats as st
import torch

import deepgen.handlers.numpyro as in_numpyro
import deepgen.handlers.pyro as in_pyro

NAN = np.nan


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
        gradient = jax.jit(jax.grad(lambda v: cls.log_density(model, {name: v})))
        return np.asarray(gradient(jnp.asarray(value, jnp.float32)))

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


def two_sites(e):
    def model():
        mu = e.sample("mu", e.dist.Normal(e.array(0.0), e.array(1.0)))
        with e.plate("rows", 2):
            e.sample("u", e.dist.Normal(mu + e.array(np.zeros(2)), e.array(1.0)))
            with e.plate("columns", 3):
                return e.sample("v", e.dist.Normal(mu + e.array(np.zeros((3, 2))), e.array(2.0)))

    return model


U, V = np.array([NAN, 1.0]), np.array([[1.0, NAN], [2.0, 3.0], [NAN, NAN]])


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


def exact_guide(e):
    mean, cov, _ = conditional(ROWS, MEAN, COV)

    def guide():
        e.sample("x_missing", e.dist.MultivariateNormal(e.array(mean), e.array(cov)))

    return guide
