# %% [markdown]
# # Langevin kernels: from the bias of ULA to a test that no wrong kernel passes
#
# Langevin dynamics follow the gradient of a log density, with noise:
#
# $$x' = x + \frac{\epsilon}{2} \nabla \log p(x) + \sqrt{\epsilon}\, z, \qquad z \sim N(0, I), \qquad \epsilon = h^2 .$$
#
# Taken as it stands (ULA) this samples something near $p$; with a Metropolis test (MALA) it samples $p$. This page
# measures the difference, runs both on a model of one's own, and shows the check to put any kernel through.

# %%
import os
import warnings

# DEEPGEN_QUICK=1 means few rows and steps, to test that the page runs. Its numbers then mean nothing.
QUICK = bool(os.environ.get("DEEPGEN_QUICK"))

# Two messages that say nothing of this page: ArviZ 0.23 announces its next version, tqdm misses a notebook's widgets.
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")

import arviz as az  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from scipy import stats  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen.inference.langevin import numpyro as langevin  # noqa: E402
from deepgen.inference.langevin.dynamics import Overdamped  # noqa: E402

CHAINS = 200 if QUICK else 20_000
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The bias of ULA
#
# On a standard normal ULA is a linear recursion, and its stationary variance is $1 / (1 - \epsilon / 4)$. `step_size`
# is $h$, what a leapfrog step is in Hamiltonian Monte Carlo; the Langevin step is its square.


# %%
def potential(x):
    return 0.5 * (x**2).sum(-1)


for h in (0.2, 0.5, 1.0):
    for name, dynamics in (("ULA", Overdamped(adjusted=False)), ("MALA", Overdamped())):
        start = jax.random.normal(jax.random.key(0), (CHAINS, 1))
        draws, _ = langevin.run(
            jax.random.key(1), dynamics, start, potential_fn=potential, num_samples=1, thinning=60, step_size=h
        )
        print(
            f"h = {h}: {name:4} variance {float(draws.var()):.3f}, theory {1 / (1 - h**2 / 4):.3f} for ULA, 1 for MALA"
        )

# %% [markdown]
# With 20,000 chains a variance has a standard error of 0.01. All rows begin at the same draws and take the same noise.
#
# ## A model of one's own
#
# Any NumPyro model will do; constrained latents are moved through their transforms. `dg.run_chains` runs all chains as
# one batch and returns `arviz.InferenceData`, whose attributes say what law the draws have.


# %%
def schools(y, sigma):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(y)):
        eta = numpyro.sample("eta", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * eta)
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


y = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
sigma = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
settings = dict(num_warmup=50, num_samples=50) if QUICK else dict(num_warmup=1000, num_samples=2000)
for kernel in (
    dg.MALA(schools),
    dg.MetropolisedUnderdampedLangevin(schools, num_steps=4),
    dg.ULA(schools, step_size=0.3),
):
    post = dg.run_chains(jax.random.key(2), kernel, y, sigma, num_chains=8, progress=False, **settings)
    print(f"\n{post.attrs['kernel']} ({post.attrs['law']})")
    print(az.summary(post, var_names=["mu", "tau"])[["mean", "sd", "ess_bulk", "ess_tail", "r_hat"]])

# %% [markdown]
# ULA has no acceptance to tune its step by. At the step given it takes far more draws than these to go through the
# posterior, and R-hat says so.
#
# The same kernels go into NumPyro's own `MCMC`, with any `chain_method`:
#
# ```python
# mcmc = numpyro.infer.MCMC(dg.MALA(schools), num_warmup=1000, num_samples=1000)
# mcmc.run(jax.random.key(0), y, sigma)
# az.from_numpyro(mcmc)
# ```
#
# ## Writing a kernel, and checking it
#
# Suppose we write MALA ourselves and forget that the proposal is not symmetric: the acceptance ratio lacks
# $q(x \mid x') / q(x' \mid x)$. The chain moves, R-hat is 1, and nothing looks wrong. The check that cannot be fooled
# begins with *exact draws of the target* and asks after $k$ steps whether they still are: slow mixing cannot hide a
# fault there, nor fake one.


# %%
def log_p(x):
    return x - jnp.exp(x)


def step(key, x, h, *, forgetful):
    key_noise, key_accept = jax.random.split(key)
    score = jax.vmap(jax.grad(log_p))
    z = jax.random.normal(key_noise, x.shape)
    proposal = x + h**2 / 2 * score(x) + h * z
    back = (x - proposal - h**2 / 2 * score(proposal)) / h
    ratio = log_p(proposal) - log_p(x)
    ratio = ratio if forgetful else ratio + (z**2 - back**2) / 2
    return jnp.where(jnp.log(jax.random.uniform(key_accept, x.shape)) < ratio, proposal, x)


figure, axis = plt.subplots(figsize=(6, 3))
for forgetful in (False, True):
    x = jnp.log(jax.random.exponential(jax.random.key(3), (CHAINS,)))
    p_values = []
    for k in range(8):
        x = step(jax.random.key(10 + k), x, 0.9, forgetful=forgetful)
        p_values.append(stats.kstest(np.exp(np.asarray(x, dtype=float)), stats.expon.cdf).pvalue)
    axis.semilogy(range(1, 9), np.maximum(p_values, 1e-300), "o-", label="ratio missing" if forgetful else "right")
axis.set(xlabel="steps from exact draws", ylabel="p-value")
axis.legend()
plt.show()

# %% [markdown]
# The right kernel's p-values are uniform; the forgetful one is found out at the first step.
