# %% [markdown]
# # Exact likelihood: from the chain rule to WaveNet
#
# You know NumPyro: a model is a joint density, written as a chain of conditionals. An autoregressive network is that
# chain over the *entries of one datum*,
#
# $$p(x) = \prod_{t=1}^{T} p(x_t \mid x_1, \ldots, x_{t-1}) ,$$
#
# with one network for all T conditionals. There is no latent, so there is no guide and no bound: `log_prob` is the
# log-likelihood itself. This page builds one from the chain rule, draws from it fast and slowly, and fills gaps.

# %%
import os
import time
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

import deepgen.numpyro as dg  # noqa: E402
from deepgen import data, evaluation  # noqa: E402

# impute warns of degenerate clouds; here that is the topic, and is shown in numbers.
warnings.filterwarnings("ignore", message="the particles of", category=UserWarning)
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "gray_r"})

# %% [markdown]
# ## The chain rule, in one pass
#
# The data are scikit-learn's handwritten digits, 8 x 8 pixels, black or white. MADE (Germain et al. 2015) is a
# perceptron whose weights are masked so that the outputs for pixel t see only the pixels before it. One pass through
# it gives all 64 conditionals. The program is a NumPyro model with one site.

# %%
STEPS = 30 if QUICK else 2000
digits = data.digits(seed=0, binarize="threshold")
train, test = (rows[: 60 if QUICK else None] for rows in (digits.train, digits.test))
made = dg.AutoregressiveModel.made((64,), "bernoulli", hidden=(128,), data=train, key=jax.random.key(0))
made = dg.fit(jax.random.key(1), made, train, steps=STEPS, validation=0.1, patience=5).program

trace = numpyro.handlers.trace(numpyro.handlers.seed(made.model, 0)).get_trace(train[:2])
print({name: site["fn"].event_shape for name, site in trace.items() if site["type"] == "sample"})
score = dg.log_prob(jax.random.key(2), made, test)
print(f"{evaluation.mean_log_prob(score.value)} nats a digit ({score.kind})")

# %% [markdown]
# That it keeps to the order is not a matter of trust. The derivative of what the network says of pixel t by pixel s
# must vanish wherever s does not come before t: the Jacobian is strictly lower triangular.

# %%
jacobian = jax.jacobian(lambda x: made.network(x[None])[0, 0])(jnp.asarray(test[0]))
print("largest derivative on or above the diagonal:", float(jnp.abs(jnp.triu(jacobian)).max()))
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8))
axes[0].spy(np.abs(jacobian) > 0, markersize=1)
axes[0].set(title="what depends on what", xlabel="pixel seen", ylabel="pixel decided")
law = made.network(jnp.asarray(test))[:, 0]
surprise = -np.where(test > 0, jax.nn.log_sigmoid(law), jax.nn.log_sigmoid(-law)).mean(0)
picture = axes[1].imshow(surprise.reshape(8, 8), cmap="magma")
axes[1].set(title="nats of each pixel, given those before", xticks=[], yticks=[])
fig.colorbar(picture, ax=axes[1])
plt.show()
print(f"they add up to {surprise.sum():.2f} nats")

# %% [markdown]
# ## A law like any other
#
# `dg.Autoregressive(network, observation)` is a NumPyro distribution, so it may be a site of a larger model. Here one
# of two fitted networks makes the datum, and a discrete latent says which: its posterior is Bayes' rule with two exact
# likelihoods.

# %%
upper = dg.fit(jax.random.key(3), made, train[digits.labels["train"][: len(train)] < 5], steps=STEPS // 2).program
lower = dg.fit(jax.random.key(4), made, train[digits.labels["train"][: len(train)] >= 5], steps=STEPS // 2).program
logits = np.stack([np.asarray(program.distribution().log_prob(jnp.asarray(test))) for program in (upper, lower)])
told = digits.labels["test"][: len(test)] >= 5
print(f"p(class | x) is right for {np.mean((logits[1] > logits[0]) == told):.1%} of the held-out digits")

# %% [markdown]
# ## Drawing, and caches
#
# A density takes one pass, a draw takes T: pixel t needs those before it. Done naively, each step runs the whole
# network again, though nearly all of it has not changed. `network.start` and `network.step` keep what can be kept:
# MADE's hidden sums, WaveNet's queues, PixelCNN's rows, a transformer's keys and values. With the same noise the draws
# are the same; only the time differs.

# %%
n = 16
uniforms = jax.random.uniform(jax.random.key(5), (64, n))


@jax.jit
def naive(u):
    """The whole network at each pixel."""

    def body(x, at):
        t, noise = at
        outputs = made.network(x)[:, 0, t]
        return x.at[:, t].set((noise < jax.nn.sigmoid(outputs)).astype(x.dtype)), None

    return jax.lax.scan(body, jnp.zeros((n, 64)), (jnp.arange(64), u))[0]


@jax.jit
def cached(u):
    """One step of the network at each pixel."""

    def body(carry, at):
        (cache, previous), (t, noise) = carry, at
        outputs, cache = made.network.step(cache, t, previous)
        drawn = (noise[:, None] < jax.nn.sigmoid(outputs[:, 0])).astype(previous.dtype)
        return (cache, drawn), drawn[:, 0]

    first = made.network.start(n), jnp.zeros((n, 1))
    return jax.lax.scan(body, first, (jnp.arange(64), u))[1].T


for way in (naive, cached):
    way(uniforms).block_until_ready()
    start = time.perf_counter()
    for _ in range(20):
        way(uniforms).block_until_ready()
    print(f"{way.__name__:7} {1000 * (time.perf_counter() - start) / 20:6.2f} ms for {n} draws")
print("the same draws:", bool((naive(uniforms) == cached(uniforms)).all()))

# %% [markdown]
# For 64 pixels the difference is small. It grows with the length: the naive cost is quadratic in it, the cached one
# linear. `dg.sample` always goes the cached way.
#
# ## WaveNet
#
# The same chain rule for sound (van den Oord et al. 2016): the network is a stack of causal convolutions whose dilation
# doubles, so that few layers see far back. Here are short waves of eight loudness levels, each of its own pitch.

# %%
rng = np.random.default_rng(0)
length, levels = 64, 8
pitch, phase = rng.uniform(0.15, 0.45, (400, 1)), rng.uniform(0, 2 * np.pi, (400, 1))
waves = np.sin(pitch * np.arange(length) + phase) + 0.05 * rng.standard_normal((400, length))
sound = np.clip(np.floor((waves + 1.2) / 2.4 * levels), 0, levels - 1).astype(np.int32)
wavenet = dg.AutoregressiveModel.wavenet(
    (length,), "categorical", num_classes=levels, channels=16, dilations=(1, 2, 4, 8, 16), key=jax.random.key(6)
)
wavenet = dg.fit(jax.random.key(7), wavenet, sound[:300], steps=STEPS // 4, learning_rate=3e-3).program
score = dg.log_prob(jax.random.key(8), wavenet, sound[300:])
print(f"{evaluation.bits_per_dim(score.value, length)} bits a sample; even odds would be {np.log2(levels):.0f}")

fig, axes = plt.subplots(1, 2, figsize=(8, 2.2), sharey=True)
axes[0].step(np.arange(length), sound[300:303].T, lw=1)
axes[0].set(title="held-out waves", ylabel="level")
axes[1].step(np.arange(length), np.asarray(dg.sample(jax.random.key(9), wavenet, 3)).T, lw=1)
axes[1].set(title="drawn")
plt.show()

# %% [markdown]
# ## Filling gaps
#
# What if entries are missing? If they come *last* in the order, drawing on from the observed ones is exact. If not,
# the entries observed later are evidence about the gap, and ancestral draws ignore it. Sequential Monte Carlo does not:
# a cloud of particles walks through the sequence, draws what is missing, is weighed by the conditional of what is
# observed, and is resampled where the weights become uneven. It is exact as the number of particles grows.

# %%
gap = slice(24, 40)
holes = sound[300:302].copy()
holes[:, gap] = -1
particles = 20 if QUICK else 500
posts = {
    "smc": dg.impute(jax.random.key(10), wavenet, holes, method="smc", num_samples=20, num_particles=particles),
}
late = sound[300:302].copy()
late[:, 40:] = -1
posts["exact"] = dg.impute(jax.random.key(11), wavenet, late, method="exact", num_samples=20)
for name, post in posts.items():
    print(f"{name:6} law of the draws: {post.attrs['law']}")
print("effective particles, smallest:", round(float(posts["smc"].sample_stats["ess"].min())), "of", 4 * particles)

fig, axes = plt.subplots(1, 2, figsize=(8, 2.2), sharey=True)
for ax, (name, post) in zip(axes, posts.items(), strict=True):
    draws = post.posterior["x"].values[:, :, 0].reshape(-1, length)
    ax.step(np.arange(length), draws[:20].T, color="C0", alpha=0.15, lw=1)
    ax.step(np.arange(length), sound[300], color="C1", lw=1, label="truth")
    ax.set(title=f"{name}: {'a gap within' if name == 'smc' else 'the end is missing'}")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Draws in the gap meet the wave where it goes on; draws of the end run away from each other. For a few missing entries
# that are discrete, `method="enumerate"` weighs every completion, which is exact in any order. `method="auto"`, the
# default, takes whichever is exact and cheap, and says in the attrs what it chose and why.

# %%
few = test[:2].copy()
few[:, [10, 27, 43]] = np.nan
exact = dg.impute(jax.random.key(12), made, few, num_samples=500)
print(exact.attrs["chosen"], "-", exact.attrs["why"])
print("p(pixel is ink):", exact.posterior["x"].mean(["chain", "draw"]).values[:, [10, 27, 43]].round(2).tolist())

# %% [markdown]
# ## What to take away
#
# - No latents, no guide, no bound: `kind="exact"`, and two programs can be compared by their numbers.
# - Densities take one pass, draws one step an entry, with caches.
# - The order matters where entries are missing: last is exact, elsewhere sequential Monte Carlo, few and discrete are
#   enumerated. Look at `ess`.
#
# On the command line: `deepgen run made digits`, or `pixelcnn`, `wavenet`, `transformer`.
