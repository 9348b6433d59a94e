# %% [markdown]
# # Missing data: a table with holes
#
# You know NumPyro or Pyro. This page shows what deepgen does with missing values: it fits a deep latent variable model
# to what was observed, then draws what was not, and says how far the draws can be trusted.
#
# The notation: $x$ is a row, $r$ its mask, $x_o$ the cells that were observed and $x_m$ those that were not, $z$ the
# latents of the row. Everything below is about draws from
#
# $$p(x_m \mid x_o) = \int p(x_m \mid z)\, p(z \mid x_o)\, dz .$$

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
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.datasets import load_breast_cancer  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen import data, evaluation  # noqa: E402
from deepgen.inference.imputation.methods import METHODS  # noqa: E402

pd.set_option("display.width", 120, "display.max_columns", 20)
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## A table, complete
#
# Ten positive measurements of 569 tumours (scikit-learn's breast cancer table). We take logarithms, because the
# measurements are skewed, and standardise. The table is complete, so we can make holes and know the truth.

# %%
bunch = load_breast_cancer()
chosen = [0, 1, 4, 5, 8, 9, 10, 11, 14, 15]
columns = [str(bunch.feature_names[i]) for i in chosen]
x = np.log(bunch.data[:, chosen])
x = np.float32((x - x.mean(0)) / x.std(0))[: 120 if QUICK else None]
n, d = x.shape
print(n, "rows;", ", ".join(columns))

# %% [markdown]
# ## Three ways to lose data
#
# Rubin's three kinds say what the mask $r$ may depend on:
#
# - **MCAR**, completely at random: $p(r \mid x) = p(r)$. A test tube breaks.
# - **MAR**, at random: $p(r \mid x) = p(r \mid x_o)$. A second test is ordered because the first, which is on record,
#   looked bad.
# - **MNAR**, not at random: $p(r \mid x)$ depends on $x_m$. People with a high income do not state it.
#
# Bayes' rule says why this matters. Knowing the mask as well,
#
# $$p(x_m \mid x_o, r) \propto p(r \mid x_o, x_m)\; p(x_m \mid x_o) .$$
#
# Under MCAR and MAR the first factor does not contain $x_m$ and drops out. Under MNAR it stays, and a method that
# leaves it out answers another question. Whatever deepgen does on this page assumes MAR.
#
# `deepgen.data` makes all three. Each hides 30 % of the cells that it can hide; its MAR never hides the columns that
# decide (the drivers), and its MNAR hides large values more readily.

# %%
drivers = [0, 5]
observed = {
    "MCAR": data.mcar(x, 0.3, seed=1),
    "MAR": data.mar(x, 0.3, seed=1, drivers=drivers),
    "MNAR": data.mnar(x, 0.3, seed=1),
}
holes = {kind: data.hide(x, seen) for kind, seen in observed.items()}

shown = 1
fig, axes = plt.subplots(1, 3, figsize=(11, 2.8), sharex=True, sharey=True)
for ax, (kind, seen) in zip(axes, observed.items(), strict=True):
    bins = np.linspace(-3, 3, 25)
    ax.hist(x[seen[:, shown], shown], bins, alpha=0.6, label="observed")
    ax.hist(x[~seen[:, shown], shown], bins, alpha=0.6, label="hidden")
    ax.set(title=kind, xlabel=f"log {columns[shown]}, standardised", ylabel="rows")
axes[0].legend(frameon=False)
fig.tight_layout()
plt.show()

# %% [markdown]
# Only under MNAR are the hidden values of this column plainly larger than the observed ones. In real data the orange
# bars are invisible, so no plot and no test on the observed cells tells MAR from MNAR. It is an assumption, to be
# argued from how the data came about.
#
# How much survives if we drop the rows with a hole?

# %%
for kind, seen in observed.items():
    print(f"{kind}: {(~seen).mean():.0%} of the cells are hidden; {seen.all(1).sum()} of {n} rows are complete")

# %% [markdown]
# ## Fit
#
# `dg.fit_table` fits a VAE, $z \sim N(0, I)$ and $x \mid z \sim$ decoder, to the cells that are there. It starts as the
# multivariate normal that EM finds, which is a VAE with a linear decoder, and trains on from it. The objective is the
# importance-weighted bound of the observed cells (Mattei & Frellsen 2019), so NaNs go straight in.

# %%
STEPS = 40 if QUICK else 1000
fit = dg.fit_table(jax.random.key(0), holes["MCAR"], steps=STEPS)

fig, ax = plt.subplots(figsize=(6, 2.6))
ax.plot(fit.losses, lw=0.5, alpha=0.6, label="rows that are fitted, and rows of the normal")
ax.plot(fit.validation_steps, fit.validation_losses, "o-", label="held-out rows")
ax.set(xlabel="step", ylabel="− bound, nats a row")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The two curves stand at different heights because they are means over different rows: some of the fitted rows are
# drawn from the normal of EM, which keeps a small table from being learned by heart. The state with the best bound on
# held-out rows is the one that is returned, so steps too many do no harm.
#
# The result is a program: `fit.program.model` and `fit.program.guide` are NumPyro functions, and go into `trace`,
# `Predictive` or `MCMC` as any others do.
#
# ## Impute
#
# `dg.impute` draws from $p(x_m, z \mid x_o)$. It has several methods, and each says what law its draws have.

# %%
for name in fit.program.imputers:
    print(f"{name:15} {METHODS[name].law:22} {METHODS[name].title}")

# %% [markdown]
# - *Asymptotically exact* means that the draws tend to the model's own posterior as particles or iterations grow.
# - *Approximate* means that they tend to something else, and no effort mends that.
#
# `"auto"` first draws from the guide and looks at the importance weights
# $w = p(x_o, z) / q(z \mid x_o)$. Where they are good in nearly all rows, it resamples them (`"sir"`). Elsewhere it
# runs Hamiltonian Monte Carlo from them (`"mcmc"`). It says what it chose and why. If a `UserWarning` appears here or
# below, it counts the rows whose weights are not to be trusted; the section "When to trust it" looks at them.

# %%
PARTICLES = 200 if QUICK else 2000
DRAWS = 50 if QUICK else 250


def impute(program, table):
    return dg.impute(
        jax.random.key(1), program, table, method="auto", num_samples=DRAWS, num_particles=PARTICLES, columns=columns
    )


post = impute(fit.program, holes["MCAR"])
print("chosen:", post.attrs["chosen"])
print("why:", post.attrs["why"])
print("law:", post.attrs["law"])

# %% [markdown]
# The result is an `arviz.InferenceData`. `posterior["x"]` has dimensions chain, draw, row and column. The observed
# cells are in every draw as they were, bit for bit; the others vary.

# %%
print(dict(post.posterior["x"].sizes), "| latents", dict(post.posterior["z"].sizes))
row = int((~observed["MCAR"]).sum(1).argmax())
gaps = [name for name, seen in zip(columns, observed["MCAR"][row], strict=True) if not seen]
print(az.summary(post, var_names="x", coords={"row": row, "column": gaps}, kind="stats", hdi_prob=0.9))

# %% [markdown]
# ## Draws, or one value?
#
# A single filled value is not a draw. Filling in the mean makes columns look independent; filling in the best guess
# $E[x_m \mid x_o]$ puts every row on the regression line, and makes columns look more dependent than they are. A draw
# has the right scatter. The correlations of all pairs of columns show it.


# %%
def correlations(table):
    return np.corrcoef(table.T)[np.triu_indices(d, 1)]


draws = post.posterior["x"].stack(sample=("chain", "draw")).transpose("sample", "row", "column").values
filled = {
    "column means": np.where(observed["MCAR"], x, np.nanmean(holes["MCAR"], 0)),
    "posterior means": draws.mean(0),
    "one posterior draw": draws[0],
}
fig, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharex=True, sharey=True)
for ax, (name, table) in zip(axes, filled.items(), strict=True):
    ax.axline((0, 0), slope=1, color="grey", lw=1)
    ax.plot(correlations(x), correlations(table), "o", ms=4)
    ax.set(title=name, xlabel="correlation, complete table", ylabel="correlation, filled table")
fig.tight_layout()
plt.show()

# %% [markdown]
# ## What calibrated means
#
# A method is **calibrated** when what it calls 90 % happens 90 % of the time: over the hidden cells, the central 90 %
# interval of the draws contains the truth in 90 % of them. Equivalently, the probability integral transform
# $u = P(\text{draw} \le \text{truth})$ is uniform on $[0, 1]$. Two remarks:
#
# - It is an average over cells, not a promise for each of them.
# - It is not enough. The column's marginal distribution is calibrated too, and of little use. Among calibrated methods
#   the sharpest is best. The CRPS, a proper score, rewards both; for a single value it is the absolute error.
#
# `evaluation.imputation_error` computes these over the hidden cells. The standard errors take rows for independent, not
# cells.

# %%
others = evaluation.baselines(holes["MCAR"], holes["MCAR"], seed=0, num_draws=100, methods=("mean", "knn", "gaussian"))
scores = {"fit_table": evaluation.imputation_error(post, x, probs=(0.5, 0.9))}
scores |= {name: evaluation.imputation_error(other, x, probs=(0.5, 0.9)) for name, other in others.items()}
print(evaluation.error_table(scores).drop(columns="MAE"))

# %% [markdown]
# All numbers are in standard deviations of a column. The multivariate normal ("gaussian") is the baseline to beat for a
# table like this; a mean or a nearest neighbour has no intervals at all.
#
# The next two plots show the same for all probabilities at once. On the left is the coverage against the probability
# that was claimed, two standard errors up and down. On the right is the PIT: its empirical distribution minus the
# uniform one, with a band that holds all of the curve with probability 95 % where the values are independent and
# uniform. Cells of one row are not independent, so the PIT takes one hidden cell of each row.


# %%
def one_cell_each_row(seen, seed=0):
    order = np.where(seen, -1.0, np.random.default_rng(seed).random(seen.shape)).argmax(1)
    rows = np.flatnonzero(~seen.all(1))
    return rows, order[rows]


def calibration_plot(results):
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    left.axline((0, 0), slope=1, color="grey", lw=1)
    for i, (name, (result, seen)) in enumerate(results.items()):
        curve = evaluation.coverage_curve(result, x, seed=0)
        left.errorbar(curve.nominal, curve.empirical, 2 * curve.stderr, fmt="o-", ms=3, label=name)
        rows, cols = one_cell_each_row(seen)
        values = result.posterior["x"].values.reshape(-1, n, d)[:, rows, cols]
        band = evaluation.ecdf_band(evaluation.pit(values, x[rows, cols], seed=0))
        right.step(band.points, band.ecdf - band.points, where="post", label=name)
        if i == 0:
            right.fill_between(
                band.points, band.lower - band.points, band.upper - band.points, color="grey", alpha=0.25, label="95 %"
            )
    left.set(xlabel="claimed probability of the interval", ylabel="share of hidden cells inside", aspect="equal")
    right.set(xlabel="PIT u", ylabel="ECDF − uniform")
    left.legend(frameon=False)
    right.legend(frameon=False)
    fig.tight_layout()
    plt.show()


calibration_plot({"MCAR": (post, observed["MCAR"])})

# %% [markdown]
# A curve above the diagonal on the left means intervals that are too wide, below it too narrow. On the right, a curve
# above zero on the whole range means draws that are too large; an S means draws too wide or too narrow.
#
# ## When to trust it
#
# Two questions are easily mixed up:
#
# 1. **Are these draws from the model's posterior $p(x_m \mid x_o)$?** This is computation, and it leaves traces in the
#    result: Pareto $k$, ESS, R-hat.
# 2. **Is the model's posterior the right one?** This is about the model and about MAR. No trace of the sampler knows.
#
# First the computation. With importance weights, each row has
#
# - `ess`, the effective number of particles, $1 / \sum_s \bar w_s^2$ with normalised weights $\bar w$;
# - `pareto_k`, the shape of the weights' tail. Up to 0.7 the estimates are reliable (Vehtari et al. 2024). Above it, a
#   few particles carry everything, unless the ESS is a good part of all of them.

# %%
judged = post.sample_stats
names = ("pareto_k", "ess") if "pareto_k" in judged else ("guide_pareto_k", "guide_ess")
hidden = (~observed["MCAR"]).sum(1)
jitter = np.random.default_rng(0).uniform(-0.25, 0.25, n)
fig, axes = plt.subplots(1, 2, figsize=(10, 3))
axes[0].plot(hidden + jitter, judged[names[0]], "o", ms=3, alpha=0.4)
axes[0].axhline(0.7, color="C3", lw=1)
axes[0].set(xlabel="hidden cells of the row (jittered)", ylabel="Pareto k")
axes[1].plot(hidden + jitter, judged[names[1]], "o", ms=3, alpha=0.4)
axes[1].set(xlabel="hidden cells of the row (jittered)", ylabel=f"ESS, of {PARTICLES} particles")
fig.tight_layout()
plt.show()

# %% [markdown]
# The second opinion is Hamiltonian Monte Carlo on the same rows, which knows nothing of these weights. Here it is on
# the sixty rows with the most holes. Chains have R-hat instead: it compares the spread between chains to that within,
# and should be near 1. Above 1.01 quantiles far out are doubtful, and the library warns above 1.1: take more draws.

# %%
hardest = np.sort(np.argsort(-hidden, kind="stable")[: 12 if QUICK else 60])
chains = dg.impute(
    jax.random.key(2),
    fit.program,
    holes["MCAR"][hardest],
    method="mcmc",
    columns=columns,
    num_samples=20 if QUICK else 500,
    num_warmup=50 if QUICK else 500,
)
print(f"largest R-hat of the log joint {float(chains.sample_stats['r_hat'].max()):.3f}")
print(f"mean acceptance {float(chains.sample_stats['acceptance_rate'].mean()):.2f}")
print(f"divergent trajectories {int(chains.sample_stats['diverging'].sum())}")

# %%
at = int(np.flatnonzero(hardest == row)[0])
((density, trace),) = az.plot_trace(chains, var_names="x", coords={"row": at, "column": gaps[:2]}, figsize=(10, 3))
density.set(title=f"{gaps[0]} (blue), {gaps[1]} (orange)", xlabel="log value, standardised", ylabel="density")
trace.set(title="a line style for each chain", xlabel="draw", ylabel="log value, standardised")
plt.tight_layout()
plt.show()

# %% [markdown]
# The chains lie on each other: they mix. The two results now have to agree. The forest plot shows the hidden cells of
# one row with their 90 % intervals (of highest density). The crosses are the truth. They may err together, since cells
# of one row depend on each other.

# %%
here = {
    "auto on all rows": post.sel(row=[row]).assign_coords(row=[0]),
    "mcmc": chains.sel(row=[at]).assign_coords(row=[0]),
}
(ax,) = az.plot_forest(
    list(here.values()),
    model_names=list(here),
    var_names="x",
    coords={"row": 0, "column": gaps},
    combined=True,
    hdi_prob=0.9,
    figsize=(8, 0.5 + 0.55 * len(gaps)),
)
labels = [text.get_text() for text in ax.get_yticklabels()]
for place, text in zip(ax.get_yticks(), labels, strict=True):
    name = next(name for name in gaps if name in text)
    ax.plot(x[row, columns.index(name)], place, "kx", zorder=5)
ax.set(title=f"row {row}: hidden cells", xlabel="log value, standardised")
plt.show()

# %% [markdown]
# ## MNAR breaks it
#
# Now the same fit and the same imputation of the other two masks.

# %%
posts = {"MCAR": post}
for kind in ("MAR", "MNAR"):
    program = dg.fit_table(jax.random.key(0), holes[kind], steps=STEPS).program
    posts[kind] = impute(program, holes[kind])
scores = {kind: evaluation.imputation_error(result, x, probs=(0.5, 0.9)) for kind, result in posts.items()}
for kind, score in scores.items():
    print(f"{kind:5} coverage of the 90 % intervals {score.coverage[0.9]}, CRPS {score.crps}")
calibration_plot({kind: (result, observed[kind]) for kind, result in posts.items()})

# %% [markdown]
# Under MAR the intervals are a little too narrow. In theory it can be ignored, but only with the right model: the rows
# that lose most cells are unlike those that the model has learned these columns from, so it extrapolates. Under MNAR
# the draws are far too small: the model has hardly seen the large values, which hide themselves. And here is the point
# to remember. **The sampler does not notice:**

# %%
for kind, result in posts.items():
    said = result.attrs
    print(
        f"{kind:5} chosen {said['chosen']}, rows with fit weights {said['share_of_fit_rows']:.1%}, "
        f"median ESS {said['median_ess']:.0f} of {PARTICLES}"
    )

# %% [markdown]
# All three are faithful draws from the fitted model's posterior. Under MNAR it is the posterior of the wrong question.
# Pareto $k$, ESS and R-hat answer question 1 above, never question 2.
#
# ## What to take away
#
# - Say which mechanism you assume, and why. MAR is an assumption that the data cannot check.
# - Use draws, not one filled value.
# - Look at `post.attrs["law"]`, Pareto $k$, ESS and R-hat: they say whether the draws are the model's.
# - Hide cells that you know, impute them, and look at coverage and PIT: that says whether the model is right for cells
#   that are missing as yours are hidden.
# - Under MNAR the sampler can look perfect while the answer is wrong.
#
# `multiple_imputation.py` goes on to estimates from completed tables, `missing_pixels.py` to images.
