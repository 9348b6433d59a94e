# %% [markdown]
# # Flows: a density, a prior, a guide, a preconditioner
#
# A normalizing flow is a `TransformedDistribution` whose transforms are learned:
#
# $$z \sim N(0, I), \quad x = f(z), \qquad
#   \log p(x) = \log p(z) - \log \left| \det \frac{\partial f}{\partial z} \right| .$$
#
# The transforms are built so that the determinant and the inverse are cheap. That makes one object with four uses for
# a Bayesian, and this page shows each: a density of data, the prior of a latent, the guide of a model, and a change of
# coordinates in which NUTS moves well.

# %%
import os
import warnings

# DEEPGEN_QUICK=1 means few rows and steps, to test that the page runs. Its numbers then mean nothing.
QUICK = bool(os.environ.get("DEEPGEN_QUICK"))

# Two messages that say nothing of this page: ArviZ 0.23 announces its next version, tqdm misses a notebook's widgets.
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402
from numpyro.contrib.module import eqx_module  # noqa: E402
from numpyro.diagnostics import summary  # noqa: E402
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO  # noqa: E402
from numpyro.infer.util import log_density  # noqa: E402
from numpyro.optim import Adam  # noqa: E402
from sklearn.datasets import make_moons  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen import evaluation  # noqa: E402

STEPS = 30 if QUICK else 2000
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## A density
#
# Two moons, and a neural spline flow (Durkan et al. 2019): couplings move one coordinate by a monotone spline whose
# knots depend on the other. Beside it RealNVP, whose couplings are affine.

# %%
x, _ = make_moons(400 if QUICK else 2000, noise=0.08, random_state=0)
x = np.float32(x)
train, test = x[: len(x) // 2], x[len(x) // 2 :]
flows = {}
for name, build in (("realnvp", dg.Flow.realnvp), ("nsf", dg.Flow.nsf)):
    flow = build((2,), hidden=(32, 32), data=train, key=jax.random.key(0))
    flows[name] = dg.fit(jax.random.key(1), flow, train, steps=STEPS, learning_rate=3e-3).program
    score = dg.log_prob(jax.random.key(2), flows[name], test)
    print(f"{name:8} {evaluation.mean_log_prob(score.value)} nats a row ({score.kind})")

side = np.linspace(-2, 3, 60 if QUICK else 120)
grid = np.float32(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
fig, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharex=True, sharey=True)
axes[0].scatter(*test.T, s=2)
axes[0].set(title="held-out rows")
for ax, (name, flow) in zip(axes[1:], flows.items(), strict=True):
    density = np.exp(dg.log_prob(jax.random.key(3), flow, grid).value)
    total = density.sum() * (side[1] - side[0]) ** 2
    ax.pcolormesh(side, side, density.reshape(len(side), -1), cmap="magma")
    ax.set(title=f"{name}: mass on the grid {total:.2f}")
plt.show()

# %% [markdown]
# The density is exact, so it sums to one on a grid, and numbers of two flows may be compared. Carried back to the base,
# rows that the flow has not seen should look like draws of a standard normal.

# %%
law = flows["nsf"].distribution()
z = jnp.asarray(test)
for transform in reversed(law.transforms):
    z = transform.inv(z)
print("held-out rows in the base: mean", np.round(z.mean(0), 2), "sd", np.round(z.std(0), 2))

# %% [markdown]
# ## A prior
#
# `flow.distribution()` is a distribution: a fitted flow is the prior of a latent in any model of yours. Here the sum of
# the two coordinates was measured with noise. The posterior has several modes along the line, which no normal prior
# would have told.

# %%
seen = 1.0


def measured(y=None):
    """A latent on the moons, of which a noisy sum is seen."""
    latent = numpyro.sample("latent", law)
    numpyro.sample("y", dist.Normal(latent.sum(-1), 0.1), obs=y)


log_post = jax.jit(jax.vmap(lambda u: log_density(measured, (seen,), {}, {"latent": u})[0]))(jnp.asarray(grid))
weights = np.asarray(jax.nn.softmax(log_post))
print("posterior mean of the latent, by the grid:", (weights @ grid).round(2))
fig, ax = plt.subplots(figsize=(3.4, 2.8))
ax.pcolormesh(side, side, weights.reshape(len(side), -1), cmap="magma")
ax.set(title=f"p(latent | sum = {seen} ± 0.1)")
plt.show()

# %% [markdown]
# ## A guide
#
# Neal's funnel, $v \sim N(0, 3)$, $u_i \sim N(0, e^{v/2})$, is where mean-field guides fail: the spread of $u$ hangs on
# $v$. A flow as a guide is a plain NumPyro site, its parameters declared as those of any module. The gap of the ELBO to
# $\log 1 = 0$ is the KL divergence from the guide to the target.


# %%
def target(theta):
    """The funnel's log density of (v, u)."""
    v, u = theta[..., 0], theta[..., 1:]
    return dist.Normal(0, 3).log_prob(v) + dist.Normal(0, jnp.exp(v / 2)[..., None]).log_prob(u).sum(-1)


def model():
    """The funnel as one site: a flat law and a factor."""
    theta = numpyro.sample("theta", dist.ImproperUniform(dist.constraints.real_vector, (), (3,)))
    numpyro.factor("funnel", target(theta))


start = dg.Flow.realnvp((3,), num_transforms=4, hidden=(32, 32), key=jax.random.key(4))


def flow_guide():
    """The flow as the law of theta."""
    flow = eqx_module("flow", start)
    numpyro.sample("theta", flow.distribution())


def mean_field():
    """Independent normals."""
    loc, scale = numpyro.param("loc", jnp.zeros(3)), numpyro.param("scale", jnp.ones(3), constraint=POSITIVE)
    numpyro.sample("theta", dist.Normal(loc, scale).to_event(1))


POSITIVE = dist.constraints.positive
results = {}
for name, guide in (("mean field", mean_field), ("flow", flow_guide)):
    svi = SVI(model, guide, Adam(3e-3), Trace_ELBO(num_particles=16))
    results[name] = svi.run(jax.random.key(5), STEPS, progress_bar=False)
    print(f"{name:11} KL to the funnel about {float(results[name].losses[-STEPS // 10 :].mean()):.2f} nats")

# %%
with numpyro.handlers.substitute(data=results["flow"].params), numpyro.handlers.seed(rng_seed=0):
    guided = eqx_module("flow", start)
draws = guided.distribution().sample(jax.random.key(6), (2000,))
fig, ax = plt.subplots(figsize=(4, 3))
ax.scatter(draws[:, 1], draws[:, 0], s=2, label="flow guide")
v = np.linspace(-8, 8, 100)
ax.plot(2 * np.exp(v / 2), v, "k--", lw=1, label="two sd of the funnel")
ax.plot(-2 * np.exp(v / 2), v, "k--", lw=1)
ax.set(xlim=(-20, 20), ylim=(-9, 9), xlabel="u", ylabel="v")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A preconditioner
#
# A guide is an approximation, and NUTS on the funnel gets stuck in its neck. NeuTra (Hoffman et al. 2019) puts both
# together: sample the *base* $z$ with NUTS, under the target's density carried back through the flow,
#
# $$\log p(f(z)) + \log \left| \det \frac{\partial f}{\partial z} \right| .$$
#
# Where the flow is right this is nearly a standard normal, and where it is wrong NUTS corrects it: the draws $f(z)$
# have the target's law whatever the flow.


# %%
def carried():
    """The funnel in the coordinates of the base."""
    base = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (3,)))
    theta, log_det = base, 0.0
    for transform in guided.distribution().transforms:
        after = transform(theta)
        theta, log_det = after, log_det + transform.log_abs_det_jacobian(theta, after)
    numpyro.deterministic("theta", theta)
    numpyro.factor("carried", target(theta) + log_det)


for name, way in (("NUTS", model), ("NUTS in the base", carried)):
    length = 30 if QUICK else 1000
    mcmc = MCMC(NUTS(way), num_warmup=length, num_samples=length, num_chains=2, chain_method="vectorized",
                progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(7), extra_fields=("diverging",))
    found = np.asarray(mcmc.get_samples(group_by_chain=True)["theta"])
    said = summary({"v": found[..., 0]})["v"]
    print(
        f"{name:17} sd of v {found[..., 0].std():.2f} (truth 3), ESS {said['n_eff']:.0f} of {2 * length}, "
        f"{int(mcmc.get_extra_fields()['diverging'].sum())} divergences"
    )

# %% [markdown]
# ## What to take away
#
# - A flow is a distribution. `dg.fit` makes one of data, `flow.distribution()` puts it into any model.
# - As a guide it bends where a normal cannot; the KL divergence tells how far it still is.
# - As a preconditioner it need not be right: NUTS in its base is exact, and mixes as well as the flow fits.
#
# On the command line: `deepgen run nsf breast_cancer`, or `realnvp`, `maf`, `nice`, `cnf`.
