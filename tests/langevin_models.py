"""Models of Langevin tests, the same in both engines, with their laws by quadrature or enumeration."""

import itertools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions
import pyro
import pyro.distributions
import torch
from engines import NUMPYRO
from scipy import stats

Y = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0], dtype=np.float32)
S = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0], dtype=np.float32)
N = 40
DATA = (np.random.default_rng(0).normal(size=N) + 1).astype(np.float32)


def ppl(engine):
    return (
        (numpyro, numpyro.distributions, jnp.asarray) if engine is NUMPYRO else (pyro, pyro.distributions, torch.tensor)
    )


def eight_schools(engine):
    pp, dist, array = ppl(engine)

    def model():
        mu = pp.sample("mu", dist.Normal(0.0, 5.0))
        tau = pp.sample("tau", dist.HalfCauchy(5.0))
        with pp.plate("schools", 8):
            eta = pp.sample("eta", dist.Normal(0.0, 1.0))
            pp.sample("y", dist.Normal(mu + tau * eta, array(S)), obs=array(Y))

    return model


def eight_schools_moments():
    """E mu and E log tau by quadrature: given both, the schools are independent normals."""
    mu, log_tau = np.linspace(-25, 30, 800)[:, None], np.linspace(-9, 6, 1200)[None]
    tau = np.exp(log_tau)
    log_p = stats.norm.logpdf(mu, 0, 5) + stats.halfcauchy.logpdf(tau, scale=5) + log_tau
    log_p = log_p + sum(stats.norm.logpdf(y, mu, np.hypot(s, tau)) for y, s in zip(Y, S, strict=True))
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    return {"mu": float((p * mu).sum()), "log_tau": float((p * log_tau).sum())}


def tails(engine):
    """Five observations of unknown mean and scale: where the scale is small, the score is a hundred times steeper."""
    pp, dist, array = ppl(engine)
    y = array(np.array([0.3, -1.2, 2.0, 0.8, 1.5], dtype=np.float32))

    def model():
        a, s = pp.sample("a", dist.Normal(0.0, 1.0)), pp.sample("s", dist.HalfNormal(1.0))
        with pp.plate("rows", 5):
            pp.sample("y", dist.Normal(a, s), obs=y)

    return model


def tails_mean():
    """E s by quadrature of the model ``tails``."""
    a, s = np.linspace(-6, 6, 600)[:, None], np.linspace(1e-3, 8, 2000)[None]
    log_p = stats.norm.logpdf(a) + stats.halfnorm.logpdf(s)
    log_p = log_p + sum(stats.norm.logpdf(y, a, s) for y in (0.3, -1.2, 2.0, 0.8, 1.5))
    p = np.exp(log_p - log_p.max())
    return float((p * s).sum() / p.sum())


def bits(engine):
    pp, dist, array = ppl(engine)

    def model():
        x = pp.sample("x", dist.Bernoulli(array([0.3, 0.7])).to_event(1))
        pp.sample("y", dist.Normal(x.sum(-1), 1.0), obs=array(2.0))

    return model


def letter(engine):
    pp, dist, array = ppl(engine)

    def model():
        x = pp.sample("x", dist.Multinomial(1, array([0.2, 0.3, 0.5])))
        pp.sample("y", dist.Normal((x * array([0.0, 1.0, 2.0])).sum(-1), 1.0), obs=array(0.0))

    return model


def enumerated():
    """P(x) of the states of ``bits`` and of ``letter``."""
    pairs = np.array(list(itertools.product([0, 1], repeat=2)))
    two = np.prod(np.where(pairs, [0.3, 0.7], [0.7, 0.3]), axis=1) * stats.norm.pdf(2 - pairs.sum(1))
    three = np.array([0.2, 0.3, 0.5]) * stats.norm.pdf(np.arange(3))
    return {"bits": (pairs, two / two.sum()), "letter": (np.eye(3), three / three.sum())}


def minibatches(engine, size=10):
    pp, dist, array = ppl(engine)

    def model():
        mu = pp.sample("mu", dist.Normal(0.0, 10.0))
        with pp.plate("data", N, subsample_size=size) as rows:
            pp.sample("y", dist.Normal(mu, 1.0), obs=array(DATA)[rows])

    return model


def mixed(engine, *, first):
    """A continuous latent and a discrete one, or bits beside a letter, or a count, or nothing at all."""
    pp, dist, array = ppl(engine)

    def model():
        if first == "normal":
            pp.sample("x", dist.Normal(0.0, 1.0))
        if first in ("normal", "bit"):
            pp.sample("b", dist.Bernoulli(array(0.5)))
        if first == "bit":
            pp.sample("c", dist.Multinomial(1, array([0.2, 0.3, 0.5])))
        if first == "count":
            pp.sample("k", dist.Poisson(array(2.0)))
        pp.sample("y", dist.Normal(0.0, 1.0), obs=array(0.5))

    return model
