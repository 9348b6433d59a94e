# %% [markdown]
# # Energies and scores: densities without a constant, and without a density
#
# A posterior is known up to its constant, and MCMC needs no more. The same holds of a model of *data*: it may say how
# likely two rows are beside each other and leave open what all of them add up to. This page fits two such models.
#
# | model | what is learned | draws | log p(x) |
# | --- | --- | --- | --- |
# | energy | $E(x)$ in $p(x) = \mathrm{base}(x)\, e^{-E(x)} / Z$ | Markov chains | up to $\log Z$, which has a bracket |
# | score | $s(x, t) = \nabla_x \log p_t(x)$ of noised data | down the noise, without chains | along an ODE |
#
# Then it completes data with both, says what is approximate and what is exact in the limit, and takes a learned score
# for the prior of an inverse problem.

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
import numpyro  # noqa: E402
import numpyro.distributions as dist  # noqa: E402

import deepgen.numpyro as dg  # noqa: E402
from deepgen import data, evaluation  # noqa: E402

STEPS = 20 if QUICK else 3000
DRAWS = 50 if QUICK else 2000
WIDTHS = (8,) if QUICK else (64, 64, 64)
plt.rcParams.update({"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Data whose law is known
#
# Eight normals around a circle, the last eight times as likely as the first. `data.eight_gaussians` (and `two_moons`,
# `checkerboard`) draws, and knows its density: what a model gets wrong can be measured.

# %%
law = data.eight_gaussians(weights=np.arange(1, 9))
rng = np.random.default_rng(0)
x, test = law.draw(rng, 500 if QUICK else 10_000), law.draw(rng, DRAWS)
points, area = law.grid(20 if QUICK else 80)
across = np.float32(np.stack([np.full(601, 1.41), np.linspace(-3, 3, 601)], -1))  # where a later section looks
everything = np.concatenate([points, across, test])
truth = law.log_prob(test)
print(f"held-out rows under the truth: {evaluation.mean_log_prob(truth)} nats")

# %% [markdown]
# ## An energy
#
# $E$ is a network, the base a normal fitted to the rows. The gradient of the log-likelihood is a difference of two
# means,
#
# $$\nabla_\theta \log p(x) = \mathbb E_{x' \sim p} [\nabla_\theta E(x')] - \nabla_\theta E(x) ,$$
#
# and contrastive divergence takes short chains for the first: `fit` lowers the energy of data and raises that of where
# the chains have gone, which persist from step to step. `log_prob` of the *site* is unnormalised; Pyro's and NumPyro's
# own kernels take that, as they take any potential.

# %%
energy = dg.EnergyBasedModel.mlp((2,), hidden=WIDTHS[:2], data=x, key=jax.random.key(0))
energy = dg.fit(jax.random.key(1), energy, x, steps=STEPS, batch_size=256, learning_rate=1e-3, ema=0.99).program
unnormalised = np.asarray(jax.jit(energy.distribution().log_prob)(everything))
settings = dict(num_chains=20, num_temperatures=20) if QUICK else dict(num_chains=500, num_temperatures=500)
found = dg.log_partition(jax.random.key(2), energy, **settings)
print(
    f"log Z from below {found.value:.3f} ± {found.stderr:.3f}, from above {found.upper:.3f} ± {found.upper_stderr:.3f}"
)
print(f"log Z by a sum over the grid {np.log(np.exp(unnormalised[: len(points)]).sum() * area):.3f}")

# %% [markdown]
# Annealed importance sampling takes chains from the base, whose constant is one, to the law by way of
# $\mathrm{base}\, e^{-\beta E}$, and back. In expectation the way there errs from below and the way back from above, so
# that the truth lies between them. In the plane a sum over a grid can check that; elsewhere the bracket is what there
# is. `dg.log_prob` uses it, and says "estimate".
#
# ## A score
#
# A score needs no constant, for $\nabla \log (f / Z) = \nabla \log f$. It is learned by taking noise away: with
# $x_t = \alpha x + \sigma \epsilon$,
#
# $$\min_s\, \mathbb E\, \lVert \sigma\, s(x_t, t) + \epsilon \rVert^2 \quad \text{has the minimum} \quad
#   s(x_t, t) = \nabla \log p_t(x_t)$$
#
# at every level of noise at once. There is no chain in this loss, and it is a regression. Draws begin at pure noise and
# follow the diffusion backwards in time; a deterministic flow has the same marginals, and the change of volume along it
# is a density.

# %%
score = dg.ScoreModel.mlp((2,), sde="ve", hidden=WIDTHS, data=x, key=jax.random.key(3))
score = dg.fit(jax.random.key(4), score, x, steps=STEPS, batch_size=512, learning_rate=3e-3, ema=0.995).program
score = score.with_options(tolerance=1e-3)
drawn = {
    "energy: chains": dg.sample(jax.random.key(5), energy, DRAWS),
    "score: reverse diffusion": dg.sample(jax.random.key(6), score, DRAWS, method="sde"),
}
flow = dg.log_prob(jax.random.key(7), score, everything)
log_densities = dict(zip(drawn, (unnormalised - found.value, flow.value), strict=True))
density = {name: np.exp(value[: len(points)]) for name, value in log_densities.items()}
for name, value in log_densities.items():
    print(
        f"{name:25} {evaluation.mean_log_prob(value[-len(test) :])} nats a held-out row, the truth {truth.mean():.3f}"
    )
print("weights of the modes     ", law.weights.round(3))
for name, draws in drawn.items():
    print(f"{name:25}", law.shares(draws).round(3), f"its density sums to {density[name].sum() * area:.3f}")
print(f"standard error of a share at most {np.sqrt(law.weights.max() / DRAWS):.3f}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True, sharey=True)
axes[0].scatter(*test.T, s=2)
axes[0].set(title="held-out rows")
side = np.unique(points)
for ax, (name, values) in zip(axes[1:], density.items(), strict=True):
    ax.pcolormesh(side, side, values.reshape(len(side), -1).T, cmap="magma")
    ax.scatter(*np.asarray(drawn[name])[:300].T, s=1, c="white", alpha=0.5)
    ax.set(title=name)
plt.show()

# %% [markdown]
# Both densities sum to one, that of the energy within the error of $\log Z$, that of the score within the tolerance of
# its solver. Both models find all modes with nearly their weights, and lack less than a tenth of a nat. The distance to
# the truth is the models'. That of their draws to their own densities is Monte Carlo and, for the energy's chains,
# whether they have converged.
#
# ## What is missing
#
# Of a row the first coordinate is seen, and stands between two modes: that above has a fifth of the mass, that below
# four fifths. Every method here returns `arviz.InferenceData` whose attributes say what law its draws have:
#
# - `"clamped"`, of an energy: chains on the missing entries. Exact for the model in the limit of long chains, and here
#   the limit is far, for no chain crosses from one mode to the other.
# - `"predictor-corrector"`, of a score: the missing entries come down the ladder of noise beside observed ones that are
#   noised likewise. No chain, but an approximation that no number of steps removes.
# - `"annealed-mala"`: such draws go on by Langevin steps with a Metropolis test, under the density of the probability
#   flow, or one of yours with `with_density`. The ladder spreads them over the modes, the test makes them exact in the
#   limit, and the acceptance is reported.

# %%
axis, above = across[:, 1], across[:, 1] > 0
conditional = np.exp(law.log_prob(across))
conditional /= conditional.sum() * (axis[1] - axis[0])
for name, along in {
    "truth": law.log_prob(across),
    **{k: v[len(points) : -len(test)] for k, v in log_densities.items()},
}.items():
    print(f"P(above) by the density: {np.exp(along)[above].sum() / np.exp(along).sum():.3f} ({name})")
hole = across[:1] * [1, np.nan]
chains = dict(num_chains=10 if QUICK else 300, num_warmup=10 if QUICK else 100, num_samples=2)
ways = {
    "energy": (energy, "clamped", chains),
    "score": (score, "predictor-corrector", dict(num_chains=chains["num_chains"], num_samples=2)),
    "score, its flow judges": (score, "annealed-mala", chains),
    "score, the energy judges": (score.with_density(energy.distribution().log_prob), "annealed-mala", chains),
}
if QUICK:  # each takes long to compile; the last has the most in it
    ways = dict([ways.popitem()])
fig, axes = plt.subplots(1, len(ways), figsize=(11, 2.5), sharex=True, sharey=True, squeeze=False)
for ax, (name, (program, method, options)) in zip(axes[0], ways.items(), strict=True):
    post = dg.impute(jax.random.key(9), program, hole, method=method, progress=False, **options)
    draws = post.posterior["x"].values[:, -1, 0, 1]
    accepted = post.sample_stats["acceptance_rate"].mean().item() if "acceptance_rate" in post.sample_stats else 1.0
    print(
        f"{name:25} {method:20} P(above) {np.mean(draws > 0):.3f}, sd below {draws[draws < 0].std():.3f} (truth 0.2), "
        f"acceptance {accepted:.2f}: {post.attrs['law']}"
    )
    ax.hist(draws, bins=60, range=(-3, 3), density=True)
    ax.plot(axis, conditional, "k", lw=1)
    ax.set(title=name)
plt.show()

# %% [markdown]
# The share above hangs on where draws *begin*, and all begin with too many above: chains at the base, which does not
# know the circle, and those of the ladder because noised entries tell less of a row than the entries themselves. Within
# a mode the test makes the law right: the standard deviation of the ladder alone is too large. Longer chains would come
# to the right share in the end, after crossings that these modes make too rare to wait for; where modes lie closer
# together they do it soon. Compare the share of each density, printed first; in longer runs R-hat shows the same.
#
# The same on the 8 x 8 digits, whose lower halves are hidden. In 64 dimensions the score's network is larger, and
# nothing else changes. `VP(t_min=...)` says what noise is left at the end, a few hundredths of the grey levels.

# %%
digits = data.digits()
train, held_out = digits.train, digits.test[: 4 if QUICK else 100]
image = dg.ScoreModel.mlp(
    (64,), sde=dg.VP(t_min=0.02), hidden=[4 * width for width in WIDTHS], data=train, key=jax.random.key(10)
)
image = dg.fit(jax.random.key(11), image, train, steps=STEPS, batch_size=256, ema=0.995).program
hidden = np.zeros(64, bool)
hidden[32:] = True
post = dg.impute(
    jax.random.key(12), image, np.where(hidden, np.nan, held_out), num_samples=2 if QUICK else 10, progress=False
)
draws = post.posterior["x"].values.reshape(-1, *held_out.shape)
low, high = np.quantile(draws[..., hidden], [0.05, 0.95], axis=0)
inside = np.mean((held_out[:, hidden] >= low) & (held_out[:, hidden] <= high))
for name, guess in (("mean of the draws", draws.mean(0)), ("mean of the training rows", train.mean(0) + 0 * held_out)):
    print(f"{name:26} RMSE of hidden pixels {np.sqrt(np.mean((guess - held_out)[:, hidden] ** 2)):.3f}")
print(f"{inside:.2f} of hidden pixels lie in their central 90 % intervals; the law is {post.attrs['law']}")
fig, axes = plt.subplots(4, 8, figsize=(8, 4))
for row, panels in enumerate(axes):
    shown = [held_out[row], np.where(hidden, 0.5, held_out[row]), *draws[:6, row]]
    for ax, values in zip(panels, shown, strict=True):
        ax.imshow(values.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.axis("off")
plt.show()

# %% [markdown]
# Left the digit, then what is seen of it, then six completions.
#
# ## A score as the prior of your own program
#
# $y = A x + \epsilon$, with a prior for $x$ that is no formula. `score.distribution()` is a NumPyro distribution:
#
# - `gradient="flow"`: log p(x) and its derivative through the solver; for any kernel, and dear.
# - `gradient="score"`: the same value, the score for its derivative. With a Metropolis test exact in the limit for the
#   law of the flow; a solve for each step.
# - `gradient="score alone"`: no value at all, for kernels that look at gradients alone, ULA and underdamped Langevin
#   dynamics. A network's pass for each step, a discretisation error of the order of the step, and no test to remove it.
#
# First where the answer is known. A `GaussianScore` has the score of a normal law, which denoising finds from rows; its
# posterior is a formula. The chains begin at some of the rows.


# %%
def inverse(y, prior, A, scale):
    """A linear measurement with normal noise."""
    x = numpyro.sample("x", prior)
    numpyro.sample("y", dist.Normal(A @ x, scale).to_event(1), obs=y)


mix = rng.standard_normal((3, 3))
rows = np.float32(rng.standard_normal((4000, 3)) @ mix + [1, 0, -1])
normal = dg.ScoreModel(dg.GaussianScore((3,), key=jax.random.key(13)), (3,), "vp", tolerance=1e-3)
normal = dg.fit(jax.random.key(14), normal, rows, steps=STEPS // 3, learning_rate=2e-2, ema=0.98).program
m, C = np.asarray(normal.network.loc), np.asarray(normal.network.factor @ normal.network.factor.T)
A, y, scale = np.float32([[1, 1, 0], [0, 1, -1]]), np.float32([1.0, 2.0]), 0.5
gain = C @ A.T @ np.linalg.inv(A @ C @ A.T + scale**2 * np.eye(2))
print(
    "posterior by the formula: mean",
    (m + gain @ (y - A @ m)).round(2),
    "sd",
    np.sqrt(np.diag(C - gain @ A @ C)).round(2),
)
kernels = {"score": dg.MALA(inverse), "score alone": dg.UnderdampedLangevin(inverse, step_size=0.2)}
if QUICK:
    kernels = {}  # each takes long to compile, and the second comes again below, for the digits
for gradient, kernel in kernels.items():
    prior = normal.distribution(gradient=gradient)
    post = dg.run_chains(
        jax.random.key(15),
        kernel,
        *(y, prior, A, scale),
        num_chains=20,
        init_params={"x": rows[:20]},
        num_warmup=300,
        num_samples=1000,
        progress=False,
    )
    found = post.posterior["x"].values.reshape(-1, 3)
    name = f"{post.attrs['kernel']} on the {gradient}"
    print(f"{name:35} mean {found.mean(0).round(2)} sd {found.std(0).round(2)}: {post.attrs['law']}")

# %% [markdown]
# Now the digits as the prior, and of an image the means of its sixteen 2 x 2 blocks, measured with noise. The chains
# begin at draws of the *guided* score, $s(x, \rho) + \nabla \log p(y \mid x, \rho)$, whose likelihood of noised images
# has to be guessed: $N(A x, \epsilon^2 + \rho^2 / 4)$, as if the noise were all that is unknown of the image. That is
# an approximation; the chains take it from there under the likelihood itself.

# %%
blocks = np.zeros((16, 64), np.float32)
for i, j in np.ndindex(8, 8):
    blocks[4 * (i // 2) + j // 2, 8 * i + j] = 0.25
scale, target = 0.03, held_out[1]
y = np.float32(blocks @ target + scale * rng.standard_normal(16))


def seen_in_noise(x, rho):
    return -0.5 * ((y - x @ blocks.T) ** 2).sum(-1) / (scale**2 + rho**2 / 4)


chains = 4 if QUICK else 40
starts = dg.sample(jax.random.key(16), image.guided(seen_in_noise), chains, method="predictor-corrector")
kernel = dg.UnderdampedLangevin(inverse, step_size=0.02)
post = dg.run_chains(
    jax.random.key(17),
    kernel,
    *(y, image.distribution(gradient="score alone"), blocks, scale),
    num_chains=chains,
    init_params={"x": starts},
    thinning=1 if QUICK else 10,
    progress=False,
    **(dict(num_warmup=10, num_samples=10) if QUICK else dict(num_warmup=1000, num_samples=100)),
)
draws = post.posterior["x"].values
flat = draws.reshape(-1, 64)
guesses = {
    "least squares": 4 * blocks.T @ y,
    "guided draws, mean": np.asarray(starts).mean(0),
    "posterior mean": flat.mean(0),
}
for name, guess in guesses.items():
    print(f"{name:20} RMSE {np.sqrt(np.mean((guess - target) ** 2)):.3f}")
low, high = np.quantile(flat, [0.05, 0.95], axis=0)
print(f"{np.mean((target >= low) & (target <= high)):.2f} of the pixels in their 90 % intervals; {post.attrs['law']}")
print(f"residual of y in units of its noise {np.std((flat @ blocks.T - y) / scale):.2f}")
fig, axes = plt.subplots(1, 7, figsize=(10, 1.8))
shown = {
    "truth": target,
    "measured": y,
    "draws": draws[0, -1],
    "": draws[1, -1],
    " ": draws[2, -1],
    "mean": flat.mean(0),
}
shown["sd, times 3"] = 3 * flat.std(0)
for ax, (name, values) in zip(axes, shown.items(), strict=True):
    side = int(len(values) ** 0.5)
    ax.imshow(values.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## What to take away
#
# - An energy is a potential, and whoever can sample a posterior can sample it. Its constant has a bracket; look at both
#   ends.
# - A score needs neither constant nor chains, in training or in drawing, and has a density along its flow.
# - Draws of what is missing say their law in their attributes. Down the ladder is approximate and finds the modes;
#   clamped chains are exact in the limit and do not; `"annealed-mala"` begins with the one and goes on with the other.
# - In a program of yours a score is a prior. Check the kernel where there is a formula, and prefer one with a
#   Metropolis test where its solves can be paid for.
#
# On the command line: `deepgen run ebm`, `rbm`, `score` and `score-conv`.
