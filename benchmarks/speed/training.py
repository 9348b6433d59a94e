"""Training a 784-400-20 VAE (batch 128): `fit` beside hand-written loops and the engines' own SVI."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from benchmarks.speed.timing import Row, median, seconds

ROWS, BATCH, LATENTS, HIDDEN, PIXELS = 12_800, 128, 20, 400, 784
EPOCHS = 8
STEPS = EPOCHS * ROWS // BATCH
START = ROWS // BATCH


def data() -> np.ndarray:
    """Binary pixels that five latents explain, so that a fit has something to find."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, 5)) @ rng.normal(size=(5, PIXELS)) - 1
    return (rng.uniform(size=(ROWS, PIXELS)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def numpyro_loops() -> dict[str, Callable[[], Any]]:
    import jax
    import jax.numpy as jnp
    import numpyro
    import optax
    from jax import lax, random

    from deepgen.inference.svi.numpyro import fit
    from deepgen.models.vae.numpyro import VAE

    x = jnp.asarray(data())
    key = random.key(0)
    adam = optax.adam(1e-3)

    def linear(key: jax.Array, inputs: int, outputs: int) -> tuple[jax.Array, jax.Array]:
        return random.normal(key, (outputs, inputs)) * inputs**-0.5, jnp.zeros(outputs)

    def apply(layer: tuple[jax.Array, jax.Array], x: jax.Array) -> jax.Array:
        return x @ layer[0].T + layer[1]

    def loss(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
        loc, log_sd = jnp.split(apply(params[1], jax.nn.relu(apply(params[0], x))), 2, -1)
        z = loc + jnp.exp(log_sd) * random.normal(key, loc.shape)
        logits = apply(params[3], jax.nn.relu(apply(params[2], z)))
        reconstruction = jnp.sum(jax.nn.softplus(logits) - x * logits, -1)
        kl = 0.5 * jnp.sum(loc**2 + jnp.exp(2 * log_sd) - 1 - 2 * log_sd, -1)
        return jnp.mean(reconstruction + kl)

    def epoch(state: Any, key: jax.Array) -> Any:
        def step(state: Any, inputs: Any) -> Any:
            params, optimizer = state
            index, key = inputs
            value, gradient = jax.value_and_grad(loss)(params, key, x[index])
            change, optimizer = adam.update(gradient, optimizer)
            return (optax.apply_updates(params, change), optimizer), value

        order = random.permutation(key, ROWS).reshape(-1, BATCH)
        return lax.scan(step, state, (order, random.split(key, len(order))))

    scanned = jax.jit(epoch, donate_argnums=0)

    def by_hand() -> Any:
        shapes = [(PIXELS, HIDDEN), (HIDDEN, 2 * LATENTS), (LATENTS, HIDDEN), (HIDDEN, PIXELS)]
        params = [linear(k, *shape) for k, shape in zip(random.split(key, 4), shapes, strict=True)]
        state = params, adam.init(params)
        for i in range(EPOCHS):
            state, losses = scanned(state, random.fold_in(key, i))
            np.asarray(losses)
        return jax.block_until_ready(state)

    vae = VAE.mlp((PIXELS,), LATENTS, hidden=(HIDDEN,), activation="relu", key=key)
    svi = numpyro.infer.SVI(vae.model, vae.guide, numpyro.optim.Adam(1e-3), loss=numpyro.infer.Trace_ELBO())
    update = jax.jit(svi.update)
    batches = np.random.default_rng(1).permutation(ROWS).reshape(-1, BATCH)
    start = svi.init(key, x[:BATCH])

    def svi_update() -> Any:
        state = start
        for i in range(STEPS):
            state, value = update(state, x[batches[i % len(batches)]])
        return jax.block_until_ready((state, value))

    return {
        "NumPyro: fit": lambda: fit(key, vae, x, steps=START + STEPS, batch_size=BATCH),
        "NumPyro: fit, its first epoch": lambda: fit(key, vae, x, steps=START, batch_size=BATCH),
        "NumPyro: by hand, scanned epochs": by_hand,
        "NumPyro: SVI.update, jitted": svi_update,
    }


def pyro_loops() -> dict[str, Callable[[], Any]]:
    import pyro
    import torch
    from torch import nn

    from deepgen.inference.svi.pyro import fit
    from deepgen.models.vae.pyro import VAE

    x = torch.from_numpy(data())

    def by_hand() -> None:
        encoder = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENTS))
        decoder = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS))
        adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
        for _ in range(EPOCHS):
            for index in torch.randperm(ROWS).split(BATCH):
                batch = x[index]
                loc, log_sd = encoder(batch).chunk(2, -1)
                z = loc + log_sd.exp() * torch.randn_like(loc)
                reconstruction = nn.functional.binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
                kl = 0.5 * (loc**2 + (2 * log_sd).exp() - 1 - 2 * log_sd).sum()
                loss = (reconstruction + kl) / len(batch)
                adam.zero_grad()
                loss.backward()
                adam.step()
                loss.item()

    vae = VAE.mlp((PIXELS,), LATENTS, hidden=(HIDDEN,), activation="relu")

    def svi_step(validate: bool) -> None:
        with pyro.get_param_store().scope(), nullcontext() if validate else pyro.validation_enabled(False):
            adam = pyro.optim.Adam({"lr": 1e-3})
            svi = pyro.infer.SVI(vae.model, vae.guide, adam, loss=pyro.infer.Trace_ELBO())
            for _ in range(EPOCHS):
                for index in torch.randperm(ROWS).split(BATCH):
                    svi.step(x[index])

    return {
        "Pyro: fit": lambda: fit(vae, x, steps=START + STEPS, batch_size=BATCH),
        "Pyro: fit, its first epoch": lambda: fit(vae, x, steps=START, batch_size=BATCH),
        "Pyro: by hand": by_hand,
        "Pyro: SVI.step, as in Pyro's example": lambda: svi_step(validate=True),
        "Pyro: SVI.step, validation off": lambda: svi_step(validate=False),
    }


GOALS = {
    "NumPyro: by hand, scanned epochs": 0.95,
    "NumPyro: SVI.update, jitted": 1.0,
    "Pyro: by hand": 0.9,
    "Pyro: SVI.step, as in Pyro's example": 1.0,
}


def measure() -> list[Row]:
    """Examples a second of each loop, and how many times as fast `fit` is.

    What a call of `fit` does once (checking the data, its diagnosis) is not a matter of examples a second: the rate is
    that of the steps after the first epoch, and the first epoch's seconds stand beside it.
    """
    found = []
    for loops in (numpyro_loops(), pyro_loops()):
        taken = seconds(loops)
        own, first = list(taken)[:2]
        start = taken.pop(first)
        taken[own] = [whole - part for whole, part in zip(taken[own], start, strict=True)]
        rates = {name: [STEPS * BATCH / one for one in each] for name, each in taken.items()}
        found.append(Row(f"{own}, 784-400-20 VAE", *median(rates[own]), "examples/s"))
        found.append(Row(f"{first}, with what it does once", *median(start), "s"))
        for name in list(rates)[1:]:
            ratio = float(np.median(taken[name])) / float(np.median(taken[own]))
            found.append(Row(name, *median(rates[name]), "examples/s", ratio, "fit over this", GOALS.get(name)))
    return found
