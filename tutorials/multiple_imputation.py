# %% [markdown]
# # Multiple imputation: from completed tables to an estimate
#
# Often the table is not the goal but an estimate from it: a mean, a correlation, a regression. This page goes from the
# draws of `missing_data.py` to an estimate with its error, and asks what it would be if the values were not missing at
# random.

# %%
import os
import warnings

# DEEPGEN_QUICK=1 means few rows and steps, to test that the page runs. Its numbers then mean nothing.
QUICK = bool(os.environ.get("DEEPGEN_QUICK"))

# Two messages that say nothing of this page: ArviZ 0.23 announces its next version, tqdm misses a notebook's widgets.
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")

import jax  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from sklearn.datasets import load_breast_cancer  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen import data  # noqa: E402

plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The table, its holes, and their draws
#
# The same ten measurements of tumours, in logarithms and standardised, 30 % of the cells hidden: once completely at
# random, once such that large values hide more readily. A `UserWarning` counts rows whose importance weights are not to
# be trusted; a handful of 569 does no harm here.

# %%
bunch = load_breast_cancer()
chosen = [0, 1, 4, 5, 8, 9, 10, 11, 14, 15]
columns = [str(bunch.feature_names[i]) for i in chosen]
x = np.log(bunch.data[:, chosen])
x = np.float32((x - x.mean(0)) / x.std(0))[: 120 if QUICK else None]
n, d = x.shape
print(n, "rows;", ", ".join(columns))

observed = {"MCAR": data.mcar(x, 0.3, seed=1), "MNAR": data.mnar(x, 0.3, seed=1)}
holes = {kind: data.hide(x, seen) for kind, seen in observed.items()}
posts = {}
for kind, table in holes.items():
    program = dg.fit_table(jax.random.key(0), table, steps=40 if QUICK else 1000).program
    posts[kind] = dg.impute(
        jax.random.key(1), program, table, method="sir", num_samples=200 if QUICK else 1000, columns=columns
    )
post = posts["MCAR"]
draws = post.posterior["x"].values.reshape(-1, n, d)
filled = {
    "column means": np.where(observed["MCAR"], x, np.nanmean(holes["MCAR"], 0)),
    "posterior means": draws.mean(0),
    "one posterior draw": draws[0],
}

# %% [markdown]
# ## Rubin's rules
#
# **Multiple imputation**: compute the estimate $Q_j$ and its variance $U_j$ on each of $m$ completed tables, and pool:
#
# $$\bar Q = \tfrac1m \textstyle\sum_j Q_j, \qquad T = \bar U + (1 + \tfrac1m) B, \qquad
#   B = \tfrac{1}{m-1} \sum_j (Q_j - \bar Q)^2 .$$
#
# $\bar U$ is the variance that a complete table would leave; $B$ is what the holes add. The user's part is a function
# from one completed table to $(Q, U)$. Here it is a correlation on Fisher's scale, $\operatorname{artanh} r$ with
# variance $1 / (n - 3)$, of two columns.

# %%
first, second = columns.index("mean smoothness"), columns.index("mean compactness")


def fisher(table):
    return np.arctanh(np.corrcoef(table[:, first], table[:, second])[0, 1]), 1 / (n - 3)


def interval(estimate, stderr, width=1.96):
    low, middle, high = np.tanh([estimate - width * stderr, estimate, estimate + width * stderr])
    return f"{middle:.3f}, 95 % interval {low:.3f} to {high:.3f}"


print("complete table:    ", interval(fisher(x)[0], fisher(x)[1] ** 0.5))
for name, table in filled.items():
    print(f"{name + ':':19}", interval(fisher(table)[0], fisher(table)[1] ** 0.5))
pooled = dg.pool(fisher, post, num_imputations=40)
print("pooled:            ", interval(pooled.estimate[0], pooled.stderr[0], width=1.96))
print(f"fraction of missing information {pooled.missing_information[0]:.2f}")

# %% [markdown]
# The filled tables pretend to $n$ complete rows, so their intervals are too short. The column means put theirs in the
# wrong place besides, and the posterior means lean towards too much dependence. The pooled interval is wider by what
# the holes cost. (`pooled.summary()` has all of it. Its interval uses Student's $t$ with the degrees of freedom of
# Barnard and Rubin.)
#
# The draws are given the fitted parameters. Where rows are few, the uncertainty of the fit matters too: fit programs to
# several bootstrap samples of the rows, impute the same table with each, and pass the list of results to `dg.pool`.
#
# ## How wrong could it be?
#
# If you fear MNAR, do not look for a diagnostic; ask how strong it would have to be. The simplest way is to shift the
# imputed cells by $\delta$ standard deviations and watch the conclusion (a pattern-mixture model). Here the conclusion
# is the mean of one column, in the MNAR table.


# %%
shown = columns.index("mean texture")


def shifted_mean(delta):
    seen = observed["MNAR"]

    def estimate(table):
        column = np.where(seen, table, table + delta)[:, shown]
        return column.mean(), column.var(ddof=1) / n

    return dg.pool(estimate, posts["MNAR"], num_imputations=20)


deltas = np.linspace(0, 2, 9)
means = [shifted_mean(delta) for delta in deltas]
fig, ax = plt.subplots(figsize=(6, 3))
ax.errorbar(deltas, [m.estimate[0] for m in means], [1.96 * m.stderr[0] for m in means], fmt="o-", label="pooled, 95 %")
ax.axhline(x[:, shown].mean(), color="k", ls="--", lw=1, label="complete table")
ax.set(xlabel="δ, shift of the imputed cells in standard deviations", ylabel=f"mean of log {columns[shown]}")
ax.legend(frameon=False)
plt.show()
complete = x[:, shown]
print(f"complete table: {float(complete.mean()):z.2f} ± {complete.std(ddof=1) / n**0.5:.2f}")
for delta, mean in zip(deltas[:5:2], means[:5:2], strict=True):
    print(f"δ = {delta:.1f}: {mean.estimate[0]:.2f} ± {mean.stderr[0]:.2f}")

# %% [markdown]
# The data cannot tell $\delta$; only the dashed line, which one never has, shows the right one. What an honest report
# gives is the range of $\delta$ for which the conclusion stands.
