"""Persistent contrastive divergence of a restricted Boltzmann machine: ``fit`` beside the same loop by hand."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from jax import lax, random

import deepgen.numpyro as dg
import deepgen.pyro as dgp
from benchmarks.speed.timing import Row, median, seconds

ROWS, BATCH, PIXELS, HIDDEN, SWEEPS = 12_800, 128, 256, 128, 5
EPOCHS = {"NumPyro": 6, "Pyro": 3}
REPEATS = 7


def measure() -> list[Row]:
    """Rows a second of processor time of both engines, block Gibbs sweeps between two steps of the optimiser.

    A fit's time is that of an epoch more than the loop's, less that of one epoch: what a step takes, without the start
    and without the diagnosis at the end. The ratio is the median of those of the repeats, whose parts take turns.
    """
    rows = []
    for engine, contenders in (("NumPyro", numpyro_loops()), ("Pyro", pyro_loops())):
        taken = seconds(contenders, REPEATS, time.process_time)
        fits = [long - short for long, short in zip(taken["fit"], taken["fit, one epoch"], strict=True)]
        middle, half = median(fits)
        speed = EPOCHS[engine] * ROWS / middle
        ratio = median([b / a for a, b in zip(fits, taken["by hand"], strict=True)])[0]
        name = f"PCD-{SWEEPS}, RBM {PIXELS}-{HIDDEN}, {engine}: fit"
        rows.append(Row(name, speed, speed * half / middle, "rows/s", ratio, "the loop by hand", 0.95))
    return rows


def data() -> np.ndarray:
    """Zeros and ones that five latents explain."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, 5)) @ rng.normal(size=(5, PIXELS))
    return (rng.uniform(size=(ROWS, PIXELS)) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def numpyro_loops() -> dict[str, Callable[[], Any]]:
    x, key, adam, epochs = jnp.asarray(data()), random.key(0), optax.adam(1e-3), EPOCHS["NumPyro"]

    def free_energy(params: Any, v: jax.Array) -> jax.Array:
        weight, visible, hidden = params
        return -v @ visible - jax.nn.softplus(hidden + v @ weight.T).sum(-1)

    def epoch(state: Any, key: jax.Array) -> Any:
        def step(state: Any, inputs: Any) -> Any:
            (params, optimizer, v), (index, key) = state, inputs
            weight, visible, hidden = params

            def sweep(v: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
                noise = random.uniform(key, (BATCH, HIDDEN + PIXELS))
                h = (noise[:, :HIDDEN] < jax.nn.sigmoid(hidden + v @ weight.T)).astype(v.dtype)
                return (noise[:, HIDDEN:] < jax.nn.sigmoid(visible + h @ weight)).astype(v.dtype), None

            v = lax.scan(sweep, v, random.split(key, SWEEPS))[0]
            loss = lambda params: (free_energy(params, x[index]) - free_energy(params, v)).mean()  # noqa: E731
            value, gradient = jax.value_and_grad(loss)(params)
            change, optimizer = adam.update(gradient, optimizer)
            return (optax.apply_updates(params, change), optimizer, v), value

        order = random.permutation(key, ROWS).reshape(-1, BATCH)
        return lax.scan(step, state, (order, random.split(key, len(order))))

    scanned = jax.jit(epoch, donate_argnums=0)

    def by_hand() -> Any:
        params = 0.01 * random.normal(key, (HIDDEN, PIXELS)), jnp.zeros(PIXELS), jnp.zeros(HIDDEN)
        state = params, adam.init(params), random.bernoulli(key, 0.5, (BATCH, PIXELS)).astype(x.dtype)
        for i in range(epochs):
            state, losses = scanned(state, random.fold_in(key, i))
            np.asarray(losses)
        return jax.block_until_ready(state)

    program = dg.EnergyBasedModel.rbm((PIXELS,), HIDDEN, key=key)
    settings = dict(batch_size=BATCH, progress=False)
    objective = dg.PersistentContrastiveDivergence(SWEEPS, num_chains=BATCH)

    def fitted(epochs: int) -> Callable[[], Any]:
        return lambda: dg.fit(key, program, x, objective=objective, steps=epochs * ROWS // BATCH, **settings)

    return {"fit": fitted(epochs + 1), "fit, one epoch": fitted(1), "by hand": by_hand}


def pyro_loops() -> dict[str, Callable[[], Any]]:
    x, epochs = torch.from_numpy(data()), EPOCHS["Pyro"]
    softplus = torch.nn.functional.softplus

    def by_hand() -> None:
        params = [0.01 * torch.randn(HIDDEN, PIXELS), torch.zeros(PIXELS), torch.zeros(HIDDEN)]
        weight, visible, hidden = (value.requires_grad_() for value in params)
        adam = torch.optim.Adam([weight, visible, hidden], lr=1e-3)
        v = torch.bernoulli(torch.full((BATCH, PIXELS), 0.5))
        for _ in range(epochs):
            for index in torch.randperm(ROWS).split(BATCH):
                with torch.no_grad():
                    for _ in range(SWEEPS):
                        h = torch.bernoulli(torch.sigmoid(hidden + v @ weight.T))
                        v = torch.bernoulli(torch.sigmoid(visible + h @ weight))
                both = torch.cat([x[index], v])
                energy = -both @ visible - softplus(hidden + both @ weight.T).sum(-1)
                loss = energy[:BATCH].mean() - energy[BATCH:].mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                loss.item()

    program = dgp.EnergyBasedModel.rbm((PIXELS,), HIDDEN)
    settings = dict(batch_size=BATCH, progress=False)
    objective = dgp.PersistentContrastiveDivergence(SWEEPS, num_chains=BATCH)

    def fitted(epochs: int) -> Callable[[], Any]:
        return lambda: dgp.fit(program, x, objective=objective, steps=epochs * ROWS // BATCH, **settings)

    return {"fit": fitted(epochs + 1), "fit, one epoch": fitted(1), "by hand": by_hand}
