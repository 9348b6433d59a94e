# %% [markdown]
# # Missing data: images with holes
#
# The verbs of `missing_data.py` on images. Read that page first: it says what calibrated means, what Pareto $k$, ESS
# and R-hat are, and what they cannot say.

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

import deepgen.numpyro as dg  # noqa: E402
from deepgen import data, evaluation  # noqa: E402

plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Images, and three shapes of holes
#
# The images are scikit-learn's handwritten digits, 8 x 8 pixels, black or white. The VAE is fitted to complete training
# images. In the test images we hide random pixels, a block, or a half. Which pixels are hidden does not depend on the
# image, so all three are missing completely at random, however different they look.

# %%
PARTICLES = 200 if QUICK else 2000
DRAWS = 50 if QUICK else 250

digits = data.digits(seed=0, image=True, binarize="threshold")
train, test = digits.train, digits.test[: 6 if QUICK else 60]
vae = dg.VAE.mlp(event_shape=(1, 8, 8), latent_dim=10, likelihood="bernoulli", hidden=(128,), key=jax.random.key(0))
vae = dg.fit(
    jax.random.key(1), vae, train, steps=50 if QUICK else 3000, batch_size=128, objective=dg.IWAE(num_particles=5)
).program
masks = {
    "half the pixels": data.pixels(test, 0.5, seed=1),
    "a block of 4 x 4": data.block(test, (4, 4), seed=1),
    "the lower half": data.half(test, "bottom"),
}

# %% [markdown]
# ## Impute: when the weights are bad
#
# First a warning that is meant seriously. The guide of this VAE was trained on complete images, and proposes poorly for
# half of one. Importance resampling says so: expect a `UserWarning` that the weights of nearly all rows are not to be
# trusted.

# %%
lower = data.hide(test, masks["the lower half"])
sir = dg.impute(jax.random.key(2), vae, lower, method="sir", num_samples=4 * DRAWS, num_particles=PARTICLES)
print(f"median Pareto k {float(sir.sample_stats['pareto_k'].median()):.2f}")
print(f"median ESS {float(sir.sample_stats['ess'].median()):.1f} of {PARTICLES} particles")

# %% [markdown]
# `"auto"` sees the same weights, and runs chains instead. If a warning about R-hat appears, it means that the chains
# of some image are too short.

# %%
completed = {}
for kind, seen in masks.items():
    completed[kind] = dg.impute(
        jax.random.key(2),
        vae,
        data.hide(test, seen),
        method="auto",
        num_samples=DRAWS,
        num_warmup=DRAWS,
        num_particles=PARTICLES,
    )
    said = completed[kind]
    print(f"{kind:16} chosen {said.attrs['chosen']}, largest R-hat {float(said.sample_stats['r_hat'].max()):.2f}")

# %% [markdown]
# ## Draws, and their mean

# %%
few = range(4)
fig, axes = plt.subplots(len(few), 9, figsize=(9, 4.2))
images = completed["the lower half"].posterior["x"].values[..., 0, :, :]
for line, i in zip(axes, few, strict=True):
    pictures = [lower[i, 0], *(images[chain % 4, -1 - 7 * (chain // 4), i] for chain in range(6))]
    pictures += [images[:, :, i].mean((0, 1)), test[i, 0]]
    for ax, picture in zip(line, pictures, strict=True):
        ax.imshow(np.ma.masked_invalid(picture), cmap=plt.get_cmap("gray").with_extremes(bad="C0"), vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
for ax, title in zip(axes[0], ["seen", *(f"draw {i}" for i in range(1, 7)), "mean", "truth"], strict=True):
    ax.set_title(title, fontsize=10)
fig.tight_layout()
plt.show()

# %% [markdown]
# The draws are possible digits, and they differ where the upper half leaves room. Their mean is grey and is no digit:
# one more reason for draws. (Single pixels flicker, because the model draws them independently given $z$.)
#
# ## Calibrated, for 0 and 1
#
# For data that are 0 or 1, coverage of intervals says little: an interval can only be {0}, {1} or both, so it covers
# too often. Calibration is then this: of the pixels that get probability 0.7, 70 % are white. A proper score is the
# Brier score, the mean of $(p - x)^2$.

# %%
brier = {"sir, the lower half": evaluation.imputation_error(sir, test)}
brier |= {f"auto, {kind}": evaluation.imputation_error(result, test) for kind, result in completed.items()}
for name, score in brier.items():
    print(f"{name:22} Brier {score.brier}, accuracy of the likelier value {score.accuracy}")

fig, ax = plt.subplots(figsize=(4.6, 4.2))
ax.axline((0, 0), slope=1, color="grey", lw=1)
for kind, seen in masks.items():
    p = completed[kind].posterior["x"].mean(["chain", "draw"]).values
    rows = np.nonzero(~seen)[0]
    given, truth = p[~seen], test[~seen]
    bins = np.digitize(given, [0.1, 0.3, 0.5, 0.7, 0.9])
    points = [
        (given[bins == b].mean(), evaluation.cell_mean(truth[bins == b], rows[bins == b]))
        for b in range(6)
        if len(np.unique(rows[bins == b])) > 1
    ]
    ax.errorbar(
        [g for g, _ in points], [s.value for _, s in points], [2 * s.stderr for _, s in points], fmt="o-", label=kind
    )
ax.set(xlabel="probability given to white", ylabel="share of white pixels ± 2 standard errors")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The lower half is imputed better from the chains than from the bad weights, on the same images.
#
# ## When to trust it
#
# Here is the log joint of the image whose chains agree least. R-hat sees chains that disagree. It cannot see
# a mode that no chain has found; for that, compare methods (`"adaptive-gibbs"` and `"lair"` cross between modes).

# %%
worst = int(completed["the lower half"].sample_stats["r_hat"].values.argmax())
stats = completed["the lower half"].sample_stats
((density, trace),) = az.plot_trace(stats, var_names="lp", coords={"row": worst}, figsize=(10, 2.6))
density.set(title=f"image {worst}", xlabel="log joint, nats", ylabel="density")
trace.set(title="a line style for each chain", xlabel="draw", ylabel="log joint, nats")
plt.tight_layout()
plt.show()
