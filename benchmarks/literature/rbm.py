"""A restricted Boltzmann machine on statically binarised MNIST: ``python -m benchmarks.literature.rbm``; resumable.

500 hidden units, as in Salakhutdinov & Murray 2008, who train by contrastive divergence of 25 steps and estimate log Z
by annealed importance sampling. Here chains persist (Tieleman 2008), and log Z is estimated from the base of the data's
means and back. Needs DEEPGEN_DATA.
"""

from typing import Any

import jax
import numpy as np
import optax

import deepgen.numpyro as dg
from benchmarks.literature.exact import Case, command
from deepgen import data

STEPS = {"rbm": 50_000}
CHAINS, TEMPERATURES = 200, 5_000


def score(program: Any) -> tuple[np.ndarray, np.ndarray]:
    """log p of the test rows, with log Z in the middle of its bracket, which is printed."""
    found = dg.log_partition(jax.random.key(0), program, num_chains=CHAINS, num_temperatures=TEMPERATURES)
    print(found, flush=True)
    x = data.load("binarized_mnist").test
    value = np.asarray(program.distribution().log_prob(x), np.float64) - (found.value + found.upper) / 2
    return value, np.ones(len(x))


def rbm(steps: int) -> Case:
    """500 hidden units, chains that persist for 10 sweeps a step."""
    source = data.load("binarized_mnist")
    return Case(
        name="RBM",
        program=lambda key: dg.EnergyBasedModel.rbm((784,), 500, data=source.train, key=key),
        train=source.train,
        score=score,
        fit={
            "batch_size": 100,
            "objective": dg.PersistentContrastiveDivergence(10, num_chains=100),
            "optimizer": optax.sgd(optax.linear_schedule(0.05, 0.0, steps)),
            "ema": 0.999,
            "chunk": 500,
        },
        settings="500 hidden units, batch 100, 100 persistent chains of 10 sweeps a step, SGD 0.05 to 0, average "
        f"0.999; log Z by {CHAINS} chains of {TEMPERATURES} temperatures from the base and back, the middle of the two",
        published={"RBM, CD-25, log Z by AIS": 86.34},
    )


def main() -> None:
    """Run what is not done yet, and print the table."""
    command(__doc__, "rbm", "an image", {"rbm": rbm}, STEPS)


if __name__ == "__main__":
    main()
