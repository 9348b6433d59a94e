# %% [markdown]
# # The whole idea, small
#
# deepgen in one file, without deepgen: a **program**, an **objective**, a **handler** and a **kernel**, in plain
# NumPyro. The library has better ones of each. This page is to be read from top to bottom, and changed.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import logsumexp
from numpyro import handlers
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.distributions import constraints
from numpyro.infer import ELBO, MCMC, NUTS, SVI
from sklearn.datasets import load_digits

# DEEPGEN_QUICK=1 means few rows and steps, to test that the page runs. Its numbers then mean nothing.
QUICK = bool(os.environ.get("DEEPGEN_QUICK"))

LATENT, PIXELS, HIDDEN = 8, 64, 128
digits = np.float32(load_digits().data / 16)  # 1797 images of 8 x 8 pixels, grey levels from 0 to 1
order = np.random.default_rng(0).permutation(len(digits))
train, test = digits[order[:1500]], digits[order[1500:]]
if QUICK:
    train, test = train[:200], test[:50]

# %% [markdown]
# ## Networks
#
# A network is a function of parameters and input. The parameters are a list of matrices and vectors, nothing more.


# %%
def init(key, *widths):
    keys = jax.random.split(key, len(widths) - 1)
    return [
        (jax.random.normal(k, (a, b)) / jnp.sqrt(a), jnp.zeros(b))
        for k, a, b in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def mlp(layers, h):
    for weight, bias in layers[:-1]:
        h = jax.nn.gelu(h @ weight + bias)
    weight, bias = layers[-1]
    return h @ weight + bias


# %% [markdown]
# ## A program: model and guide
#
# A VAE is a latent variable model whose likelihood has a network in it:
#
# $$z \sim N(0, I), \qquad x \mid z \sim N(f_\theta(z), \sigma^2 I) .$$
#
# The guide $q_\phi(z \mid x)$ is a second network, from an image to a normal law over its latents. Both are ordinary
# NumPyro functions with their parameters in `numpyro.param`, and the rows are in a plate.

# %%
key_decoder, key_encoder, key_fit, key_bound, key_chains, key_nuts = jax.random.split(jax.random.key(0), 6)
DECODER = init(key_decoder, LATENT, HIDDEN, PIXELS)
ENCODER = init(key_encoder, PIXELS, HIDDEN, 2 * LATENT)


def model(x=None, *, size=1):
    decoder = numpyro.param("decoder", DECODER)
    scale = numpyro.param("scale", 0.3, constraint=constraints.positive)
    with numpyro.plate("data", size if x is None else len(x)):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
        return numpyro.sample("x", dist.Normal(mlp(decoder, z), scale).to_event(1), obs=x)


def guide(x):
    mean, log_scale = jnp.split(mlp(numpyro.param("encoder", ENCODER), x), 2, axis=-1)
    with numpyro.plate("data", len(x)):
        return numpyro.sample("z", dist.Normal(mean, jnp.exp(log_scale)).to_event(1))


# %% [markdown]
# ## An objective: the importance-weighted bound
#
# With $K$ draws from the guide for each row (Burda, Grosse and Salakhutdinov 2016),
#
# $$\log p(x_i) \;\ge\; E \Big[ \log \frac1K \sum_{k=1}^K w_{ik} \Big], \qquad
#   w_{ik} = \frac{p(x_i, z_{ik})}{q(z_{ik} \mid x_i)} .$$
#
# $K = 1$ is the ELBO; the bound rises with $K$. The logarithm of the mean is taken **for each datum**: one weight for a
# whole batch, the product over its rows, is a well-known silent fault, a bound that gets worse as the batch grows.
# Inside the plate every site's log-density has one entry a row, so the weights come out as a matrix $(K, n)$.


# %%
def log_density_by_row(traced, name_of_rows="data"):
    """The sum of the log-densities of the sites in the plate, (n,)."""
    sites = [site for site in traced.values() if site["type"] == "sample"]
    inside = [site for site in sites if any(frame.name == name_of_rows for frame in site["cond_indep_stack"])]
    return sum(site["fn"].log_prob(site["value"]) for site in inside)


def log_weights(key, params, model, guide, x, num_particles):
    """log p(x, z) - log q(z | x), (num_particles, n)."""

    def one(key):
        q = handlers.trace(handlers.seed(handlers.substitute(guide, params), key)).get_trace(x)
        z = {name: site["value"] for name, site in q.items() if site["type"] == "sample"}
        p = handlers.trace(handlers.substitute(handlers.substitute(model, params), z)).get_trace(x)
        return log_density_by_row(p) - log_density_by_row(q)

    return jax.vmap(one)(jax.random.split(key, num_particles))


def bound_by_row(key, params, x, num_particles):
    log_w = log_weights(key, params, model, guide, x, num_particles)
    return logsumexp(log_w, axis=0) - jnp.log(num_particles)


class IWAE(ELBO):
    """Minus the bound, averaged over the rows; it goes where `Trace_ELBO` goes."""

    def loss(self, rng_key, param_map, model, guide, x):
        log_w = log_weights(rng_key, param_map, model, guide, x, self.num_particles)
        return -jnp.mean(logsumexp(log_w, axis=0) - jnp.log(self.num_particles))


# %% [markdown]
# Fitting is NumPyro's own `SVI`. The whole loop is one `lax.scan`, so it is compiled once and runs without Python.

# %%
STEPS, BATCH = (100 if QUICK else 4000), 100
svi = SVI(model, guide, numpyro.optim.Adam(1e-3), IWAE(num_particles=5))


@jax.jit
def fit(key, x):
    key_init, key_rows = jax.random.split(key)

    def step(state, key):
        rows = jax.random.randint(key, (BATCH,), 0, len(x))
        return svi.update(state, x[rows])

    state, losses = jax.lax.scan(step, svi.init(key_init, x[:BATCH]), jax.random.split(key_rows, STEPS))
    return svi.get_params(state), losses


params, losses = fit(key_fit, jnp.asarray(train))
fig, ax = plt.subplots(figsize=(6, 2.5))
ax.plot(losses, lw=0.5)
ax.set(xlabel="step", ylabel="− bound, nats an image")
plt.show()

# %% [markdown]
# The same bound on images that were not fitted, for three values of $K$. The density of grey levels can be above 1, so
# its logarithm can be positive. The second number is the standard error of the mean over images.

# %%
for particles in (1, 10, 20 if QUICK else 500):
    value = np.asarray(jax.jit(bound_by_row, static_argnums=3)(key_bound, params, test, particles))
    print(f"K = {particles:3}: {value.mean():.2f} ± {value.std(ddof=1) / len(value) ** 0.5:.2f} nats an image")

# %% [markdown]
# ## A handler: missing entries become latent
#
# An effect handler changes what the statements of a program mean, without touching the program. This one takes data
# with NaNs. The missing entries become a latent site `x_missing`, and the site `x` is observed at the *completed* data.
# `x_missing` itself has a flat law, so the joint density is that of the model at the completed data:
#
# $$p(z)\; p(x_o, x_m \mid z) \;\propto\; p(z, x_m \mid x_o) .$$
#
# It works on any NumPyro model with a site `x` of independent rows and a continuous law. Whether an entry is missing
# must not depend on its value (missing at random); the handler cannot know.


# %%
def missing(model, x):
    """`model`, with the NaNs of its observed site "x" as the latent site "x_missing" (row by row)."""
    where = np.nonzero(np.isnan(x))

    def completed(*args, **kwargs):
        flat = dist.ImproperUniform(constraints.real, (), (len(where[0]),))
        entries = numpyro.sample("x_missing", flat)
        data = {"x": jnp.asarray(x).at[where].set(entries)}
        return handlers.condition(model, data)(*args, size=len(x), **kwargs)

    return completed


trained = handlers.substitute(model, params)
truth = test[: 4 if QUICK else 30]
holes = truth.copy()
holes[:, PIXELS // 2 :] = np.nan  # the lower half is missing

# %% [markdown]
# ## A kernel: Hamiltonian Monte Carlo for all rows at once
#
# Given the parameters, rows are independent. So one trajectory can move all rows, while each row has its own energy,
# its own step size, and accepts or rejects for itself. That is far better than one decision for all: among 1000 rows,
# one would always be unlucky.
#
# A state is a dictionary of arrays; `rows` says to which row each first-axis entry belongs. For `z` that is
# $0, \dots, n - 1$, for the flat `x_missing` the row of each missing entry. `unit` is a typical length of each site, so
# that pixels, which are known to about $\sigma$, and latents move at their own pace.


# %%
def hmc(log_density, rows, unit, num_rows, *, num_steps=10, target=0.8):
    """A function (state, log step size, key) -> (state, acceptance probability) by row; see `log_density` (n,)."""

    def by_row(tree):
        sums = {
            name: jax.ops.segment_sum(v.reshape(len(v), -1).sum(-1), rows[name], num_rows) for name, v in tree.items()
        }
        return sum(sums.values())

    def spread(values, like):  # one number a row -> the shape of each site
        return {n: values[rows[n]].reshape(-1, *[1] * (like[n].ndim - 1)) for n in like}

    gradient = jax.grad(lambda state: log_density(state).sum())

    def step(state, log_step, key):
        key_momentum, key_accept = jax.random.split(key)
        keys = dict(zip(state, jax.random.split(key_momentum, len(state)), strict=True))
        momentum = {n: jax.random.normal(keys[n], v.shape) for n, v in state.items()}
        size = {n: v * unit[n] for n, v in spread(jnp.exp(log_step), state).items()}

        def kick(q, p, share):
            return {n: p[n] + share * size[n] * g for n, g in gradient(q).items()}

        def leapfrog(_, phase):
            q, p = phase
            q = {n: q[n] + size[n] * p[n] for n in q}
            return q, kick(q, p, 1.0)

        q, p = jax.lax.fori_loop(0, num_steps, leapfrog, (state, kick(state, momentum, 0.5)))
        p = kick(q, p, -0.5)  # the last kick was a whole one
        before = log_density(state) - 0.5 * by_row({n: v**2 for n, v in momentum.items()})
        after = log_density(q) - 0.5 * by_row({n: v**2 for n, v in p.items()})
        chance = jnp.nan_to_num(jnp.exp(jnp.minimum(after - before, 0.0)))
        accept = spread(jax.random.uniform(key_accept, (num_rows,)) < chance, state)
        return {n: jnp.where(accept[n], q[n], state[n]) for n in state}, chance

    def run(key, state, num_warmup, num_samples):
        def warm(carry, inputs):
            state, log_step = carry
            key, rate = inputs
            state, chance = step(state, log_step, key)
            return (state, log_step + rate * (chance - target)), None

        def sample(state, key):
            state, chance = step(state, log_step, key)
            return state, (state, chance)

        key_warm, key_sample = jax.random.split(key)
        rates = 1 / (1 + jnp.arange(num_warmup)) ** 0.6
        start = (state, jnp.full(num_rows, jnp.log(0.3)))
        (state, log_step), _ = jax.lax.scan(warm, start, (jax.random.split(key_warm, num_warmup), rates))
        return jax.lax.scan(sample, state, jax.random.split(key_sample, num_samples))[1]

    return run


# %% [markdown]
# `warm` moves the step size of each row towards an acceptance of 0.8 with a rate that dies out, and `sample` holds it
# fixed, since a kernel that goes on adapting need not leave the target invariant.
#
# ## Together
#
# The density comes from tracing the *handled* program: the kernel knows nothing of VAEs, the handler nothing of
# kernels. Where a chain starts matters: one upper half can belong to several digits, and a chain may never cross from
# one to another. So each start is chosen among 5000 draws from the prior with probabilities proportional to
# $p(x_o \mid z)$. This importance resampling is rough, but finds the modes.


# %%
def starts(key, x):
    """A latent for each row, resampled from the prior by the density of the observed entries."""
    key_z, key_pick = jax.random.split(key)
    z = jax.random.normal(key_z, (5000, LATENT))
    error = jnp.nan_to_num(x[:, None] - mlp(params["decoder"], z))  # a missing entry says nothing
    return z[jax.random.categorical(key_pick, -0.5 * ((error / params["scale"]) ** 2).sum(-1))]


def impute(key, x, num_warmup, num_samples, num_chains=4):
    """Draws of the latents and of the missing entries, each (chain, draw, ...), and the acceptance by chain and row."""
    n, program = len(x), missing(trained, x)
    rows = {"z": jnp.arange(n), "x_missing": jnp.asarray(np.nonzero(np.isnan(x))[0])}
    unit = {"z": 1.0, "x_missing": params["scale"] / 0.3}

    def log_density(state):
        return log_density_by_row(handlers.trace(handlers.substitute(program, state)).get_trace())

    def chain(key):
        key_start, key_run = jax.random.split(key)
        z = starts(key_start, x)
        state = {"z": z, "x_missing": mlp(params["decoder"], z)[np.isnan(x)]}
        return hmc(log_density, rows, unit, n)(key_run, state, num_warmup, num_samples)

    return jax.jit(jax.vmap(chain))(jax.random.split(key, num_chains))


draws, acceptance = impute(key_chains, holes, *((50, 50) if QUICK else (1500, 1500)))
hidden = np.asarray(draws["x_missing"])
print("draws of z", draws["z"].shape, "and of the missing entries", hidden.shape)
print(f"mean acceptance {float(acceptance.mean()):.2f}, lowest of a row {float(acceptance.mean((0, 1)).min()):.2f}")
hat = split_gelman_rubin(hidden).reshape(len(holes), -1).max(1)
print(
    f"largest R-hat of each image: median {np.median(hat):.2f}, above 1.1 in {(hat > 1.1).sum()} of {len(hat)} images"
)

# %% [markdown]
# An R-hat above 1.1 means that the chains of that image sit in different modes and do not cross. Each is right about
# its own mode, and only the starts say how much each mode weighs: look at it before you believe such an image. The
# library integrates the missing entries out, which mixes better, and warns of what is left.
#
# A kernel is not right because it runs. The handled program is an ordinary NumPyro model, so NumPyro's own NUTS samples
# it as well, and the posterior means of the missing pixels have to agree. Each difference is divided by its Monte Carlo
# standard error (of both methods); if both are right, the squares of these ratios have mean 1.

# %%
few = np.sort(np.argsort(hat)[:2])  # two images whose chains agree: two samplers stuck in different modes prove nothing
nuts = MCMC(
    NUTS(missing(trained, holes[few])),
    num_warmup=100 if QUICK else 500,
    num_samples=100 if QUICK else 1000,
    num_chains=2,
    chain_method="vectorized",
    progress_bar=False,
)
nuts.run(key_nuts)
other = np.asarray(nuts.get_samples(group_by_chain=True)["x_missing"])
ours = hidden[..., np.isin(np.nonzero(np.isnan(holes))[0], few)]


def mean_and_error(samples):
    return samples.mean((0, 1)), samples.std((0, 1)) / np.sqrt(effective_sample_size(samples))


(mean_a, error_a), (mean_b, error_b) = mean_and_error(ours), mean_and_error(other)
ratio = (mean_a - mean_b) / np.hypot(error_a, error_b)
print(f"{ratio.size} missing pixels: mean square of the ratios {np.mean(ratio**2):.2f}")

# %% [markdown]
# The pixels of an image depend on each other through 8 latents, so this is a mean of about 16 independent squares, and
# its own standard deviation about $\sqrt{2 / 16} = 0.35$. A wrong kernel would give ten or a hundred.
#
# Are the draws calibrated? The 90 % interval of the draws should contain the true pixel in 90 % of them. The standard
# error takes images, not pixels, for independent.

# %%
low, high = np.quantile(hidden, [0.05, 0.95], axis=(0, 1))
inside = ((low <= truth[np.isnan(holes)]) & (truth[np.isnan(holes)] <= high)).reshape(len(truth), -1).mean(1)
print(f"coverage of the 90 % intervals {inside.mean():.3f} ± {inside.std(ddof=1) / len(inside) ** 0.5:.3f}")

# %% [markdown]
# A little short of 90 %: the sampler agrees with NUTS, so the fault is the model's. It has a single $\sigma$ for all
# pixels, and its decoder knows the fitted images too well (their bound, in the first plot, is several nats higher than
# that of the others). Last, a look at four images.

# %%
fig, axes = plt.subplots(4, 8, figsize=(8, 4.2))
for i, line in enumerate(axes):
    own = np.nonzero(np.isnan(holes))[0] == i
    pictures = [holes[i]]
    for lower in [*(hidden[chain % 4, -1 - 20 * (chain // 4)] for chain in range(5)), hidden.mean((0, 1))]:
        pictures.append(np.concatenate([holes[i, : PIXELS // 2], lower[own]]))
    for ax, picture in zip(line, [*pictures, truth[i]], strict=True):
        shades = plt.get_cmap("gray").with_extremes(bad="C0")
        ax.imshow(np.ma.masked_invalid(picture.reshape(8, 8)), cmap=shades, vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
for ax, title in zip(axes[0], ["seen", *(f"draw {i}" for i in range(1, 6)), "mean", "truth"], strict=True):
    ax.set_title(title, fontsize=10)
fig.tight_layout()
plt.show()

# %% [markdown]
# ## From here to the library
#
# | here | in deepgen | what it adds |
# |---|---|---|
# | `model`, `guide` | `dg.VAE` | other likelihoods, tables of mixed columns, checkpoints, a twin in Pyro |
# | `IWAE`, `fit` | `dg.IWAE`, `dg.fit` | data with holes, schedules, resuming, early stopping |
# | `missing` | `dg.missing` | discrete laws, several sites, plates inside plates |
# | `hmc`, `impute` | `dg.impute` | missing entries integrated out, importance resampling, Gibbs, ArviZ |
#
# `missing_data.py` goes on from here.
