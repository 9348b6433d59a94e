"""Convolutions inside one compiled loop, against the same jitted step called from Python once a step.

XLA's CPU compiler brings a stock convolution's gradients into their fast form only outside loops; the layers of
`deepgen.nn` are written in that form. The stock rows show what it costs without.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import optax
from jax import Array
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO

import deepgen.numpyro as dg
from benchmarks.speed.timing import Row, median, seconds
from deepgen.inference.hmc import numpyro as hmc
from deepgen.nn.equinox import Conv2d

STEPS, REPEATS, GOAL = 5, 7, 1 / 1.5
BATCH, SIZE, CHANNELS, LATENT = 64, 28, 16, 16

Step = Callable[[Any], Any]


class Stock(eqx.Module):
    """A convolution as other libraries write it: torch's layout, derivatives by JAX."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        """The convolution of (n, c, h, w)."""
        y = jax.lax.conv_general_dilated(x, self.weight, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return y + self.bias[:, None, None]


def measure() -> list[Row]:
    """Milliseconds a step, called and scanned."""
    keys = jax.random.split(jax.random.key(0), 3)
    widths = (1, CHANNELS, CHANNELS, CHANNELS)
    ours = [Conv2d(widths[i], widths[i + 1], 3, padding="same", key=keys[i]) for i in range(3)]
    stock = [Stock(layer.weight, layer.bias) for layer in ours]
    x = jax.random.normal(jax.random.key(1), (BATCH, 1, SIZE, SIZE))
    label = f"three 3x3 layers of {CHANNELS}, batch {BATCH} of {SIZE}x{SIZE}"
    rows = []
    for name, layers, goal in (("deepgen", ours, GOAL), ("stock", stock, None)):
        rows += _compare(f"{label}: training step, {name}", _training_step(x), layers, goal)
        rows += _compare(f"{label}: gradient by the input, {name}", _input_step(layers), x, goal)
    vae = dg.VAE.conv((1, SIZE, SIZE), LATENT, key=jax.random.key(2))
    images = jax.random.bernoulli(jax.random.key(3), 0.3, x.shape).astype(jnp.float32)
    label = f"convolutional VAE, batch {BATCH} of {SIZE}x{SIZE}"
    rows += _compare(f"{label}: SVI step", *_svi(vae, images), GOAL)
    return rows + _compare(f"{label}: HMC step of 5 leapfrogs over its latents", *_hmc(vae, images), GOAL)


def _network(layers: list[Any], x: Array) -> Array:
    for layer in layers:
        x = jax.nn.relu(layer(x))
    return jnp.mean(x**2)


def _training_step(x: Array) -> Step:
    return lambda layers: jax.tree.map(lambda p, g: p - 0.01 * g, layers, jax.grad(_network)(layers, x))


def _input_step(layers: list[Any]) -> Step:
    return lambda x: x - 0.01 * jax.grad(_network, 1)(layers, x)


def _svi(vae: Any, x: Array) -> tuple[Step, Any]:
    optim = numpyro.optim.optax_to_numpyro(optax.adam(1e-3))
    svi = SVI(vae.model, vae.guide, optim, loss=Trace_ELBO())
    return lambda state: svi.update(state, x)[0], svi.init(jax.random.key(4), x)


def _hmc(vae: Any, x: Array) -> tuple[Step, Any]:
    def log_density(z: Array) -> Array:
        model = handlers.substitute(handlers.seed(vae.model, jax.random.key(5)), {"z": z})
        sites = handlers.trace(model).get_trace(x).values()
        logs = [site["fn"].log_prob(site["value"]) for site in sites if site["type"] == "sample"]
        return sum(log.reshape(BATCH, -1).sum(-1) for log in logs)

    def step(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        key, state = carry
        key, now = jax.random.split(key)
        state, _ = hmc.step(now, state, log_density, jnp.full(BATCH, 0.05), jnp.ones((BATCH, LATENT)), 5)
        return key, state

    return step, (jax.random.key(6), hmc.init(log_density, jnp.zeros((BATCH, LATENT))))


def _compare(name: str, step: Step, state: Any, goal: float | None) -> list[Row]:
    arrays, static = eqx.partition(state, eqx.is_array)

    def on_arrays(arrays: Any) -> Any:
        return eqx.filter(step(eqx.combine(arrays, static)), eqx.is_array)

    jitted = jax.jit(on_arrays)
    loop = jax.jit(lambda arrays: jax.lax.scan(lambda a, _: (on_arrays(a), None), arrays, length=STEPS)[0])

    def called() -> None:
        now = arrays
        for _ in range(STEPS):
            now = jitted(now)
        jax.block_until_ready(now)

    taken = seconds({"called": called, "scanned": lambda: jax.block_until_ready(loop(arrays))}, repeats=REPEATS)
    each, each_spread = median([1e3 * t / STEPS for t in taken["called"]])
    together, spread = median([1e3 * t / STEPS for t in taken["scanned"]])
    return [
        Row(f"{name}, called", each, each_spread, "ms"),
        Row(f"{name}, scanned", together, spread, "ms", each / together, "called", goal),
    ]


if __name__ == "__main__":
    from benchmarks.speed.timing import table

    print(table(measure()))
