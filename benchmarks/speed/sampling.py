"""Drawing from MADE, WaveNet, PixelCNN and the causal transformer with caches, against a whole pass for each entry.

The naive draw calls one jitted pass a step, over the receptive field where the network has one; only some of its steps
are timed, as all cost the same.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.speed.timing import Row, median, seconds
from deepgen.likelihoods.numpyro import Bernoulli, Categorical
from deepgen.likelihoods.pyro import Bernoulli as TorchBernoulli
from deepgen.models.autoregressive.numpyro import Autoregressive, CausalTransformer, PixelCNN, WaveNet
from deepgen.models.autoregressive.pyro import Autoregressive as TorchAutoregressive
from deepgen.nn import equinox as nn
from deepgen.nn import torch as torch_nn

NAIVE_STEPS, REPEATS = 20, 5
KEY = jax.random.key(0)
DILATIONS = tuple(2**i for i in range(9)) * 2
VALUES, LENGTHS, PIXELS = 256, (2000, 4000, 8000), 784


def measure() -> list[Row]:
    """Entries a second of both, and how a cached draw's time grows with its length."""
    network = nn.MaskedMLP((PIXELS,), 1, (500,), activation="relu", key=KEY)
    label = "MADE, 784 pixels, 1 hidden layer of 500, batch 100"
    rows = [*_compare(label, network, network, Bernoulli, None, 100, 50.0), *_made_in_torch(label, 100, 25.0)]
    for batch, goal in ((1, 25.0), (16, None)):
        label = f"WaveNet, receptive field 1,023, 18 layers of 32, batch {batch}"
        rows += _compare(label, _wavenet(LENGTHS[0]), _wavenet(1024), Categorical, VALUES, batch, goal)
    for batch, goal in ((1, 20.0), (16, 20.0)):
        network = PixelCNN((1, 28, 28), channels=32, num_layers=6, key=KEY)
        label = f"gated PixelCNN 28x28, 6 layers of 32, batch {batch}"
        rows += _compare(label, network, network, Bernoulli, None, batch, goal)
    network = CausalTransformer((256,), 65, num_categories=65, key=KEY)
    rows += _compare("causal transformer, 256 tokens, 4 layers of 128, batch 1", network, network, Categorical, 65, 1)
    return rows + _linear()


def _wavenet(length: int) -> WaveNet:
    return WaveNet((length,), VALUES, dilations=DILATIONS, num_categories=VALUES, key=KEY)


@eqx.filter_jit
def _draw(key: jax.Array, network: Any, law: Any, batch: int) -> jax.Array:
    return Autoregressive(network, law).sample(key, (batch,))


@eqx.filter_jit
def _naive_step(key: jax.Array, network: Any, law: Any, x: jax.Array, t: jax.Array) -> jax.Array:
    outputs = network(x)
    here = outputs.reshape(*outputs.shape[:2], -1)[:, :, t]
    drawn = law.element(())(here).sample(key)
    return x.reshape(len(x), -1).at[:, t].set(drawn).reshape(x.shape)


def _law(kind: Any, network: Any, values: int | None) -> Any:
    return kind(network.event_shape) if values is None else kind(network.event_shape, values)


def _compare(
    label: str, network: Any, window: Any, kind: Any, values: int | None, batch: int, goal: float | None = None
) -> list[Row]:
    law, around = _law(kind, network, values), _law(kind, window, values)
    size, keys = len(network.order), jax.random.split(KEY, NAIVE_STEPS)
    empty = jnp.zeros((batch, *window.event_shape), jnp.float32 if values is None else jnp.int32)

    def cached() -> None:
        jax.block_until_ready(_draw(KEY, network, law, batch))

    def naive() -> None:
        x = empty
        for t, key in enumerate(keys):
            x = _naive_step(key, window, around, x, jnp.asarray(len(window.order) - NAIVE_STEPS + t))
        jax.block_until_ready(x)

    taken = seconds({"cached": cached, "naive": naive}, repeats=REPEATS)
    fast, fast_spread = median([batch * size / t for t in taken["cached"]])
    slow, slow_spread = median([batch * NAIVE_STEPS / t for t in taken["naive"]])
    return [
        Row(f"{label}: naive", slow, slow_spread, "entries/s"),
        Row(f"{label}: cached", fast, fast_spread, "entries/s", fast / slow, "naive", goal),
    ]


def _made_in_torch(label: str, batch: int, goal: float) -> list[Row]:
    """The same of Pyro's, the naive draw again one pass for each entry."""
    network = torch_nn.MaskedMLP((PIXELS,), 1, (500,), activation="relu")
    law = TorchAutoregressive(network, TorchBernoulli((PIXELS,)))

    def cached() -> None:
        law.sample((batch,))

    @torch.no_grad()
    def naive() -> None:
        x = torch.zeros(batch, PIXELS)
        for t in range(PIXELS - NAIVE_STEPS, PIXELS):
            x[:, t] = torch.bernoulli(torch.sigmoid(network(x)[:, 0, t]))

    taken = seconds({"cached": cached, "naive": naive}, repeats=REPEATS)
    fast, fast_spread = median([batch * PIXELS / t for t in taken["cached"]])
    slow, slow_spread = median([batch * NAIVE_STEPS / t for t in taken["naive"]])
    return [
        Row(f"Pyro, {label}: naive", slow, slow_spread, "entries/s"),
        Row(f"Pyro, {label}: cached", fast, fast_spread, "entries/s", fast / slow, "naive", goal),
    ]


def _linear() -> list[Row]:
    """Seconds of draws of several lengths, and the power of the length by which they grow (1 is linear)."""
    calls: dict[str, Callable[[], Any]] = {}
    for length in LENGTHS:
        network = _wavenet(length)
        law = _law(Categorical, network, VALUES)
        calls[str(length)] = lambda network=network, law=law: jax.block_until_ready(_draw(KEY, network, law, 1))
    taken = seconds(calls, repeats=REPEATS)
    medians = {length: median(taken[str(length)]) for length in LENGTHS}
    power = np.polyfit(np.log(LENGTHS), np.log([medians[length][0] for length in LENGTHS]), 1)[0]
    rows = [Row(f"WaveNet, batch 1: {length} entries", *medians[length], "s") for length in LENGTHS]
    return [*rows, Row("WaveNet, batch 1: power of the length in a draw's time", float(power), 0.0, "")]


if __name__ == "__main__":
    from benchmarks.speed.timing import table

    print(table(measure()))
