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
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin  # noqa: E402
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO  # noqa: E402
from numpyro.infer.autoguide import AutoNormal  # noqa: E402
from numpyro.infer.reparam import NeuTraReparam  # noqa: E402
from numpyro.infer.util import log_density  # noqa: E402
from numpyro.optim import Adam  # noqa: E402
from sklearn.datasets import make_moons  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen import evaluation  # noqa: E402

STEPS = 30 if QUICK else 2000
LAYERS = {"num_transforms": 2} if QUICK else {}
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
    flow = build((2,), hidden=(32, 32), data=train, key=jax.random.key(0), **LAYERS)
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
# That flow was fitted beforehand and then held. One that is *learned with the rest* of a model is a site with a name:
# `flow.distribution(name=...)` declares its parameters, and SVI trains them beside yours. Here two groups of rows have
# one law, but the second is shifted by an unknown amount.

# %%
rng = np.random.default_rng(0)
group = np.float32(rng.random(len(train)) < 0.3)
moved = train + group[:, None] * np.float32([1.0, -0.5])
means = moved[group == 1].mean(0) - moved[group == 0].mean(0)
fresh = dg.Flow.nsf((2,), hidden=(32, 32), data=train, key=jax.random.key(8), **LAYERS)


def shifted(x, group):
    """Rows of one unknown law, some of them shifted."""
    shift = numpyro.param("shift", jnp.asarray(means))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("x", fresh.distribution(name="law"), obs=x - group[:, None] * shift)


svi = SVI(shifted, lambda *rows: None, Adam(3e-3), Trace_ELBO())
fitted = svi.run(jax.random.key(9), STEPS, moved, group, progress_bar=False)
print("the shift, (1, -0.5):", fitted.params["shift"].round(2), "by the groups' means:", means.round(2))
learned = dg.with_params(fresh, fitted.params, name="law")

# %% [markdown]
# Only one alignment of the groups leaves two crisp moons, so the flow finds the shift, to a hundredth or so, where the
# difference of the means, at which it starts, is off by a tenth: it knows nothing of the law.
#
# The same holds of latents with a row each: `prior=` and `posterior=` of a VAE take flows. As prior it learns where the
# latents lie; as posterior it bends the encoder's normal, given what else the encoder says of the row
# (Rezende & Mohamed 2015; Kingma et al. 2016). Six columns here are the moons, mapped and measured with noise.

# %%
lift = rng.standard_normal((2, 6))
columns = np.float32(x @ lift + 0.3 * rng.standard_normal((len(x), 6)))
half, key = len(columns) // 2, jax.random.key(10)
parts = {
    "standard normal": {},
    "flow prior": {"prior": dg.Flow.nsf((2,), hidden=(32, 32), key=key, **LAYERS)},
    "and flow posterior": {
        "prior": dg.Flow.nsf((2,), hidden=(32, 32), key=key, **LAYERS),
        "posterior": dg.Flow.iaf((2,), num_transforms=2, hidden=(32,), context_dim=8, key=key),
    },
}
for name, chosen in parts.items():
    program = dg.VAE.mlp((6,), 2, "gaussian", hidden=(32, 32), data=columns[:half], key=key, **chosen)
    program = dg.fit(key, program, columns[:half], steps=STEPS, learning_rate=3e-3).program
    score = dg.log_prob(key, program, columns[half:], num_particles=10 if QUICK else 200)
    print(f"{name:19} {evaluation.mean_log_prob(score.value)} nats a row ({score.kind})")

# %% [markdown]
# The numbers are bounds on the same held-out rows. The network of the standard normal has to bend one blob into two
# moons; with a flow as prior it need not, which is worth some hundredths of a nat a row here, little beside what the
# noise costs anyway.
#
# ## A guide
#
# Neal's funnel, $v \sim N(0, 3)$, $u_i \sim N(0, e^{v/2})$, is where mean-field guides fail: the spread of $u$ hangs on
# $v$. `AutoFlow` makes a guide of a flow for any model with continuous latents. The model has no data, so that its
# evidence is one, and the loss is the KL divergence from the guide to the model.


# %%
def funnel():
    """Neal's funnel with two narrow coordinates."""
    v = numpyro.sample("v", dist.Normal(0, 3))
    numpyro.sample("u", dist.Normal(0, jnp.exp(v / 2)).expand([2]).to_event(1))


guides = {
    "mean field": AutoNormal(funnel),
    "flow": dg.AutoFlow(funnel, "realnvp", key=jax.random.key(4), options=LAYERS),
}
results = {}
for name, guide in guides.items():
    svi = SVI(funnel, guide, Adam(3e-3), Trace_ELBO(num_particles=16))
    results[name] = svi.run(jax.random.key(5), STEPS, progress_bar=False)
    print(f"{name:11} KL to the funnel about {float(results[name].losses[-STEPS // 10 :].mean()):.2f} nats")

# %%
draws = guides["flow"].sample_posterior(jax.random.key(6), results["flow"].params, sample_shape=(2000,))
fig, ax = plt.subplots(figsize=(4, 3))
ax.scatter(draws["u"][:, 0], draws["v"], s=2, label="flow guide")
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
# have the target's law whatever the flow. `AutoFlow` is an `AutoContinuous`, so NumPyro's own `NeuTraReparam` does it.

# %%
neutra = NeuTraReparam(guides["flow"], results["flow"].params)
length, chains = (10, 4) if QUICK else (1000, 16)
for name, way in (("NUTS", funnel), ("NUTS in the base", neutra.reparam(funnel))):
    mcmc = MCMC(NUTS(way), num_warmup=length, num_samples=length, num_chains=chains, chain_method="vectorized",
                progress_bar=False)  # fmt: skip
    mcmc.run(jax.random.key(7), extra_fields=("diverging", "num_steps"))
    found, extra = mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields(group_by_chain=True)
    if "auto_shared_latent" in found:
        found = neutra.transform_sample(found["auto_shared_latent"])
    v, gradients = np.asarray(found["v"]), np.asarray(extra["num_steps"]).sum(1)
    alone = 1000 * np.array([effective_sample_size(chain[None]) for chain in v]) / gradients
    print(
        f"{name:17} sd of v {v.std():.2f} (truth 3), R-hat {split_gelman_rubin(v):.3f}, "
        f"{int(extra['diverging'].sum())} divergences; effective draws in 1000 gradients: "
        f"{alone.mean():.1f} ± {alone.std(ddof=1) / np.sqrt(chains):.1f} (chain by chain), "
        f"{1000 * effective_sample_size(v) / gradients.sum():.1f} (all chains together)"
    )

# %% [markdown]
# Effective draws for each gradient, here after the warm-up, are what a preconditioner is judged by. The error bar is of
# the mean over sixteen chains; the last number counts the chains' disagreement as well, which is where plain NUTS is
# worst. The flow is worth some eight to fourteen times. It is no cure: divergences in the neck remain, if fewer, and
# the spread of $v$ still falls short of its 3, if by less.
#
# ## What to take away
#
# - A flow is a distribution. `dg.fit` makes one of data, `flow.distribution()` puts it into any model as it is, and
#   `flow.distribution(name="law")` as a part that is learned. `prior=` and `posterior=` of a VAE take flows.
# - `AutoFlow` is a guide that bends where a normal cannot; the KL divergence tells how far it still is.
# - As a preconditioner it need not be right: NUTS in its base is exact, and mixes as well as the flow fits.
#
# On the command line: `deepgen run nsf breast_cancer`, or `realnvp`, `maf`, `nice`, `cnf`.
