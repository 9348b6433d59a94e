"""The importance-weighted bound with k = 5000 on 10,000 rows: time and peak memory, in a process of its own."""

import resource
import subprocess
import sys
import time

import numpy as np

from benchmarks.speed.timing import Row

ROWS, PARTICLES = 10_000, 5000
CODE = """
import jax, numpy as np, deepgen.numpyro as dg
from benchmarks.speed.likelihood import peak, timed
x = (np.random.default_rng(0).random(({rows}, 784)) < 0.1).astype(np.float32)
vae = dg.VAE.mlp((784,), 50, hidden=(200, 200), activation="tanh", key=jax.random.key(0))
before = peak()
taken = timed(lambda: dg.log_prob(jax.random.key(1), vae, x, num_particles={particles}))
print(taken, before, peak())
"""


def peak() -> float:
    """The largest resident set of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def timed(call) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure() -> list[Row]:
    """Seconds, and GiB (goal: at most 2)."""
    code = CODE.format(rows=ROWS, particles=PARTICLES)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    taken, before, after = map(float, out.split())
    name = f"IWAE bound, k = {PARTICLES}, {ROWS} rows of 784, 50 latents, 200-200"
    return [
        Row(name, taken, 0.0, "s"),
        Row(f"{name}: decoded data per second", ROWS * PARTICLES / taken, 0.0, "1/s"),
        Row(f"{name}: peak memory, {np.round(before, 2)} GiB of it before (goal: at most 2)", after, 0.0, "GiB"),
    ]
