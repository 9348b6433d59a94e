# %% [markdown]
# # The variational autoencoder, seen by a Bayesian
#
# You know NumPyro: a model, a guide, an ELBO. A variational autoencoder is these three with neural networks in them,
# and with latents $z$ of each row. This page fits some, watches one fail (posterior collapse) and mends it, tightens
# the bound (IWAE), walks between two data, and asks whether single latents mean anything (disentanglement).
#
# The notation: $p(z)\, p(x \mid z)$ is the model, $q(z \mid x)$ the guide, and
#
# $$-\mathrm{ELBO}(x) = \underbrace{-E_q \log p(x \mid z)}_{\text{distortion } D}
#   + \underbrace{KL(q(z \mid x) \,\|\, p(z))}_{\text{rate } R} \;\ge\; -\log p(x) .$$
#
# The rate says how many nats the latents tell of a row, the distortion what they leave out (Alemi et al. 2018). The
# sum is the bound; the two parts are what this page keeps looking at.

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
import pandas as pd  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen import data, evaluation  # noqa: E402

# fit warns of a collapsed posterior; here it is shown where it is the topic.
warnings.filterwarnings("ignore", category=dg.PosteriorCollapseWarning)
pd.set_option("display.width", 120, "display.max_columns", 20, "display.precision", 2)
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "gray"})

# %% [markdown]
# ## A program
#
# The data are scikit-learn's handwritten digits, 8 x 8 pixels, black or white. `dg.VAE.mlp` makes the two networks,
# the encoder (in the guide) and the decoder (in the model). What it returns has a `model` and a `guide`, which are
# NumPyro functions and nothing else: here is the trace of the model, for two rows.

# %%
STEPS, DEEP = (30, 2) if QUICK else (1500, 7)
digits = data.digits(seed=0, binarize="threshold")
train, test = (rows[: 60 if QUICK else None] for rows in (digits.train, digits.test))


def vae(layers, seed=0):
    """Two perceptrons with as many hidden layers, and eight latents."""
    return dg.VAE.mlp((64,), 8, "bernoulli", hidden=(64,) * layers, data=train, key=jax.random.key(seed))


trace = numpyro.handlers.trace(numpyro.handlers.seed(vae(2).model, 0)).get_trace(train[:2])
for name, site in trace.items():
    if site["type"] == "sample":
        print(name, type(site["fn"]).__name__, "batch", site["fn"].batch_shape, "event", site["fn"].event_shape)

# %% [markdown]
# ## Collapse
#
# We make the networks deep, seven hidden layers each, and the steps large. The objective is the ELBO.

# %%
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always", dg.PosteriorCollapseWarning)
    fits = {"ELBO": dg.fit(jax.random.key(1), vae(DEEP), train, steps=STEPS, learning_rate=3e-3)}
print(*(warning.message for warning in told), sep="\n")

# %%
units = dg.active_units(fits["ELBO"].program, test)
print("KL of each latent, nats:", units.kl.round(3))
fig, axes = plt.subplots(2, 10, figsize=(9, 2))
for line, images in zip(axes, (test, dg.reconstruct(jax.random.key(2), fits["ELBO"].program, test[:10])), strict=True):
    for ax, image in zip(line, images, strict=False):
        ax.imshow(np.reshape(image, (8, 8)), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("x")
axes[1, 0].set_ylabel("E[x | z]")
plt.show()

# %% [markdown]
# The KL is zero in every latent and the reconstructions are all the same picture: the guide is the prior, the decoder
# ignores $z$, and what is left is a model of independent pixels. It is a bad local optimum. At the start $z$ is noise
# to the decoder, the rate buys nothing, and the shortest way down is to pay none. Two cures keep the rate from being
# driven out before the decoder has learned to read $z$:
#
# - **KL warm-up** (annealing): $D + \beta_t R$, with $\beta_t$ rising from 0 to 1. At the end it is the ELBO.
# - **Free bits** (Kingma et al. 2016): the rate counts only from some nats on, $D + \max(R, \lambda)$, so that there
#   is nothing to gain from giving up the first $\lambda$ nats.

# %%
objectives = {
    "ELBO, warm-up": dg.ELBO(beta=dg.Linear(2 * STEPS // 3)),
    "ELBO, free bits": dg.ELBO(free_bits=5.0),
}
for name, objective in objectives.items():
    fits[name] = dg.fit(jax.random.key(1), vae(DEEP), train, steps=STEPS, learning_rate=3e-3, objective=objective)
fits["ELBO, two layers"] = dg.fit(jax.random.key(1), vae(2), train, steps=STEPS, learning_rate=3e-3)

programs = {name: fit.program for name, fit in fits.items()}
table = dg.rate_distortion_curve(jax.random.key(2), programs, test)
table.insert(0, "active", [dg.active_units(program, test).num_active for program in programs.values()])
print(table)

# %% [markdown]
# All numbers are nats per held-out digit, with standard errors. Both cures bring the rate back, into one latent, and
# with it a lower $-$ELBO. The last line is the humbler cure: shallow networks do not collapse here in the first place,
# and have the best bound of all. Annealing mends the way to an optimum, not the architecture.
#
# `dg.Sigmoid` and `dg.Cyclical` are other schedules; a schedule is any function of the step.

# %%
fig, ax = plt.subplots(figsize=(6, 2.8))
for name, fit in fits.items():
    smooth = np.convolve(fit.losses, np.ones(20) / 20, mode="valid")
    ax.plot(np.arange(len(smooth)) + 20, smooth, label=name, lw=1)
ax.set(xlabel="step", ylabel="objective, nats a row", ylim=(0, 40))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The collapsed fit is flat from the start. The curves are of the objectives, each its own: in the first 1000 steps
# that of the warm-up has $\beta < 1$ and is not yet a bound.
#
# ## IWAE: a tighter bound
#
# With $K$ draws from the guide the mean of the importance weights is still unbiased for $p(x)$, so its logarithm is
# again a bound (Burda, Grosse & Salakhutdinov 2016),
#
# $$L_K = E \log \frac1K \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad L_1 = \mathrm{ELBO} \le L_K \le \log p(x) .$$
#
# It is a way to *evaluate* any program, and `dg.log_prob` does that; it says `kind="bound"`, never likelihood. Here is
# one program at several $K$.

# %%
best = programs["ELBO, two layers"]
for particles in (1, 10) if QUICK else (1, 10, 100, 1000):
    found = dg.log_prob(jax.random.key(3), best, test, num_particles=particles)
    print(f"K = {particles:4}: {evaluation.mean_log_prob(found.value)} nats a row ({found.kind})")

# %% [markdown]
# The standard errors are those of a mean over digits; the differences between the lines are far better known than
# that, since the digits are the same. Nearly all of the gain has come by $K = 100$.
#
# It is also an objective to *fit* with, `dg.IWAE`. Whether that makes a better model is a question for held-out rows.
# `dg.compare` puts it to ArviZ's `az.compare`: the difference of the log predictive densities, and the standard error
# `dse` of that difference over rows. A `UserWarning` counts the rows whose importance weights have a bad Pareto $k$.

# %%
programs["IWAE, two layers"] = dg.fit(
    jax.random.key(1), vae(2), train, steps=STEPS, learning_rate=3e-3, objective=dg.IWAE(num_particles=10)
).program
compared = dg.compare(jax.random.key(4), programs, test, num_particles=50 if QUICK else 1000)
print(compared[["elpd_loo", "elpd_diff", "dse", "weight", "untrusted_rows", "kind"]])

# %% [markdown]
# The IWAE fit is ahead of the ELBO fit by several `dse`, and the collapsed program is last. Its weights are perfect:
# where guide and decoder both ignore the data, there is nothing to weigh. Of the others many rows are not to be
# trusted. Their values are bounds, too low by an unknown amount that may differ between programs, so read small
# differences with care; `dg.ais` gives a bound that leans less on the guide, at many times the cost.
#
# ## Between two data
#
# `dg.interpolate` decodes a path between the posterior means of two data. A straight line between two draws of a
# normal in many dimensions passes nearer to the origin than such draws lie; the spherical path (White 2016) keeps
# their norm.

# %%
points = 9
rng = np.random.default_rng(0)
first, second = (test[rng.permutation(len(test))] for _ in range(2))
different = (first != second).any(1)
first, second = first[different], second[different]
kinds = ("linear", "spherical")
paths = {kind: dg.interpolate(best, first, second, points, kind=kind) for kind in kinds}
paths["pixels"] = np.linspace(0, 1, points)[:, None, None] * (second - first) + first

fig, axes = plt.subplots(6, points, figsize=(7, 5))
for line, (kind, i) in zip(axes, [(kind, i) for i in range(2) for kind in paths], strict=True):
    for ax, image in zip(line, paths[kind][:, i], strict=True):
        ax.imshow(np.reshape(image, (8, 8)), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(kind)
plt.show()

# %% [markdown]
# How smooth is the decoder on the way? `evaluation.path_smoothness` gives three numbers, in units of the distance
# between the ends: the length of the decoded path, its energy, and its mean squared acceleration. A straight line at
# constant speed has 1, 1 and 0.

# %%
for kind, path in paths.items():
    found = evaluation.path_smoothness(path)
    parts = {"length": found.length, "energy": found.energy, "curvature": found.curvature}
    print(f"{kind:10}" + ", ".join(f"{name} {one.value:6.2f} ± {one.stderr:.2f}" for name, one in parts.items()))

# %% [markdown]
# Here the spherical path is the rougher one: longer, and with twice the acceleration. Fading one digit into the other
# pixel by pixel is perfectly smooth, and shows two digits at once. So smoothness is no virtue by itself: it compares
# paths that stay among digits.
#
# ## Does a latent mean anything?
#
# Take images made from known factors, every combination once: where a figure stands (x, y), its radius, its shape.

# %%
made = data.factor_images(seed=0, positions=3 if QUICK else 6)
values = dict(zip(made.names, made.values, strict=True))
print(len(made.x), "images;", values)
fig, axes = plt.subplots(1, 10, figsize=(9, 1))
for ax, image in zip(axes, made.x, strict=False):
    ax.imshow(image.reshape(16, 16))
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# A fit is **disentangled** where each latent stands for one factor. There is no reason in the ELBO why it should be:
# the prior is isotropic, and any rotation of the latents has the same bound. Higgins et al. (2017) hoped for it from
# $D + \beta R$ with $\beta > 1$. Here are fits for several $\beta$, each warmed up to its $\beta$, and the plane of
# rate and distortion.

# %%
betas = (1.0,) if QUICK else (1.0, 2.0, 4.0, 8.0, 16.0)
start = dg.VAE.mlp((256,), 6, "bernoulli", hidden=(64, 64), data=made.x, key=jax.random.key(0))
by_beta = {
    beta: dg.fit(
        jax.random.key(1),
        start,
        made.x,
        steps=30 if QUICK else 3000,
        batch_size=64,
        learning_rate=3e-3,
        objective=dg.ELBO(beta=dg.Linear(15 if QUICK else 1000, end=beta)),
    ).program
    for beta in betas
}
curve = dg.rate_distortion_curve(jax.random.key(2), by_beta, made.x)
curve.insert(0, "active", [dg.active_units(program, made.x).num_active for program in by_beta.values()])
print(curve)

fig, ax = plt.subplots(figsize=(4.5, 3.2))
ax.errorbar(
    curve["rate"], curve["distortion"], 2 * curve["distortion_stderr"], 2 * curve["rate_stderr"], fmt="o-", ms=4
)
for beta, line in curve.iterrows():
    ax.annotate(f"β = {beta:g}", (line["rate"], line["distortion"]), xytext=(6, 4), textcoords="offset points")
ax.set(xlabel="rate, nats a row", ylabel="distortion, nats a row")
plt.show()

# %% [markdown]
# From one end of the curve to the other the latents tell less and less, and more and more is left out. $R + D$ is a
# bound for every one of these programs, and lowest where the fit asked for it, at $\beta = 1$. (The rows are those of
# the fit, since they are all the images there are.)
#
# Two ways to measure disentanglement, both with the known factors $v_k$:
#
# - **MIG** (Chen et al. 2018): the mutual information $I(z_j; v_k)$ of the factor's best latent minus that of the
#   second best, as a share of the factor's entropy, averaged over factors.
# - **DCI** (Eastwood & Williams 2018): forests predict each factor from the latents' means. Disentanglement says how
#   far each latent matters to one factor only, completeness how far each factor comes from one latent only, and the
#   error is that of the prediction on rows the forests have not seen.

# %%
measured = {}
scores = {}
for beta, program in by_beta.items():
    loc, scale = program.encode(jnp.asarray(made.x))
    measured[beta] = evaluation.mig(loc, scale, made.factors, seed=0)
    found = evaluation.dci(loc, made.factors, seed=0, num_bootstrap=2 if QUICK else 5)
    scores[beta] = {
        "MIG": str(measured[beta].value),
        "disentanglement": str(found.disentanglement),
        "completeness": str(found.completeness),
        "error": str(found.error),
    }
print(pd.DataFrame.from_dict(scores, orient="index"))

# %% [markdown]
# The standard errors are over rows, for one fit: they do not hold what another start would give. Within these fits
# MIG, disentanglement and completeness are all largest at the same $\beta$ in the middle, where the forests' error is
# smallest too. With little pressure the factors are mixed, with too much of it they are lost. Which latent knows which
# factor:

# %%
chosen = max(by_beta, key=lambda beta: measured[beta].value.value)
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
for ax, beta in zip(axes, (1.0, chosen), strict=True):
    known = measured[beta].mutual_information / measured[beta].entropy
    picture = ax.imshow(known, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    ax.set(title=f"β = {beta:g}", xticks=range(4), xticklabels=made.names, xlabel="factor")
axes[0].set_ylabel("latent")
fig.colorbar(picture, ax=axes, label="I(z; v) / H(v)")
plt.show()

# %%
program = by_beta[chosen]
order = np.argsort(-dg.active_units(program, made.x).kl)
fig, axes = plt.subplots(len(order), 9, figsize=(7, 4.7))
for line, j in zip(axes, order, strict=True):
    z = jnp.zeros((9, 6)).at[:, j].set(jnp.linspace(-2, 2, 9))
    for ax, image in zip(line, program.decode(z), strict=True):
        ax.imshow(image.reshape(16, 16), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(f"z{j}")
fig.suptitle(f"β = {chosen:g}: one latent from −2 to 2, the others 0")
plt.show()

# %% [markdown]
# At the best $\beta$ each of the two positions has a latent of its own, and the radius is mostly in a third. The shape
# is hardly known to any single latent, in either fit; in the lower picture it changes along with the others. With
# $\beta = 1$ the vertical position and the radius are spread over several latents. The last two rows of the lower
# picture are latents that are not in use.
#
# ## What to take away
#
# - Look at rate and distortion, not only at their sum: a rate of zero is a collapsed posterior, however good the fit
#   looks.
# - Warm $\beta$ up, or grant free bits, where it collapses; and try the shallower network.
# - `dg.log_prob` says that it is a bound. `dg.compare` compares programs on held-out rows, and says which rows not to
#   trust.
# - Disentanglement is not what the bound asks for. It cost several nats here, and it was measured with factors that
#   were known. Locatello et al. (2019) show that without them neither $\beta$ nor the start can be chosen.
#
# `missing_data.py` goes on to what the latents are good for when values are missing.
