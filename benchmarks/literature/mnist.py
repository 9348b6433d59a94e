"""Dynamically binarised MNIST: ``python -m benchmarks.literature.mnist``; resumable, one file a model.

The protocol of Burda, Grosse & Salakhutdinov 2016: pixels are Bernoulli with the grey levels as their probabilities,
drawn anew whenever a training image is seen; 50 latents, 200-200 tanh on both sides, two levels of 100 and 50 latents;
the negative of the bound of 5000 particles on the whole test set. Needs DEEPGEN_DATA.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

import deepgen.numpyro as dg
from benchmarks.literature.results import write
from deepgen import data

RESULTS = Path(__file__).parent / "results" / "mnist"
BATCH, RATE, PARTICLES, PIECE = 128, 3e-3, 5000, 1000
AIS_ROWS = 100
WARMUP = 30
"""Per cent of the steps in which the weight of the KL terms rises, where there are two levels."""


def binarise(rng_key: jax.Array, x: jax.Array) -> jax.Array:
    """Grey levels in [0, 1] as the probabilities of a one."""
    return jax.random.bernoulli(rng_key, x).astype(x.dtype)


def one_level(x: np.ndarray, key: jax.Array) -> Any:
    """The networks of Burda et al. for one stochastic layer."""
    return dg.VAE.mlp((784,), 50, "bernoulli", hidden=(200, 200), activation="tanh", data=x, key=key)


def two_levels(x: np.ndarray, key: jax.Array) -> Any:
    """As many latents in each level as in Burda et al., in our top-down guide with one width throughout."""
    return dg.HierarchicalVAE.mlp((784,), (100, 50), "bernoulli", hidden=(200, 200), activation="tanh", data=x, key=key)


MODELS: dict[str, tuple[Callable[..., Any], Callable[[int], Any], float | None]] = {
    "VAE": (one_level, lambda steps: dg.ELBO(), 86.76),
    "IWAE, k = 5": (one_level, lambda steps: dg.IWAE(num_particles=5), 85.54),
    "DReG, k = 5": (one_level, lambda steps: dg.DReG(num_particles=5), None),
    # without the warm-up of the ladder's paper nearly all of its latents collapse in the first epochs and stay so
    "VAE, two levels": (two_levels, lambda steps: dg.ELBO(beta=dg.Linear(WARMUP * steps // 100)), 85.33),
}
"""Name to program, objective of so many steps, and the figure of Burda et al. 2016, table 1, where it has one."""


def images() -> tuple[np.ndarray, np.ndarray]:
    """All 60,000 training images as grey levels, and the 10,000 test images binarised once."""
    source = data.load("mnist", seed=0)
    test = np.random.default_rng(2016).random(source.test.shape) < source.test
    return np.concatenate([source.train, source.validation]), test.astype(np.float32)


def fitted(name: str, train: np.ndarray, epochs: int, folder: Path) -> Any:
    """The trained program; a fit that was killed goes on, one that is done is read."""
    make, objective, _ = MODELS[name]
    steps = epochs * (len(train) // BATCH)
    done = dg.fit(
        jax.random.key(1),
        make(np.float32(train > 0.5), jax.random.key(0)),
        train,
        steps=steps,
        batch_size=BATCH,
        objective=objective(steps),
        learning_rate=optax.cosine_decay_schedule(RATE, steps),
        ema=0.999,
        augment=binarise,
        checkpoint=dg.Checkpoint(folder / f"{slug(name)}-{epochs}.checkpoint", seconds=60),
    )
    return done.program


def slug(name: str) -> str:
    """A file's name."""
    return name.replace(" = ", "").replace(", ", "-").replace(" ", "-").lower()


def run(name: str, epochs: int, rows: int, ais_rows: int, folder: Path) -> None:
    """Fit, evaluate the test images piece by piece, and AIS on the first of them."""
    path = folder / f"{slug(name)}-{epochs}.json"
    found: dict[str, Any] = {"name": name, "epochs": epochs, "value": [], "stderr": [], "bound_seconds": 0.0}
    if path.is_file():
        found = json.loads(path.read_text())
    train, test = images()
    start = time.perf_counter()
    program = fitted(name, train, epochs, folder)
    found.setdefault("fit_seconds", time.perf_counter() - start)
    write(path, found)
    while len(found["value"]) < min(rows, len(test)):
        start, first = time.perf_counter(), len(found["value"])
        piece = test[first : min(first + PIECE, rows)]
        score = dg.log_prob(jax.random.key(first), program, piece, num_particles=PARTICLES)
        found["value"] += np.asarray(score.value, dtype=float).round(4).tolist()
        found["stderr"] += np.asarray(score.stderr, dtype=float).round(4).tolist()
        found["bound_seconds"] += time.perf_counter() - start
        write(path, found)
        print(f"{name}: {-np.mean(found['value']):.2f} nats on {len(found['value'])} images", flush=True)
    if ais_rows and "ais" not in found:
        start = time.perf_counter()
        ais = dg.ais(jax.random.key(2), program, test[: min(ais_rows, rows)], num_temperatures=1000)
        found["ais"] = {
            "value": np.asarray(ais.value, dtype=float).tolist(),
            "stderr": np.asarray(ais.stderr, dtype=float).tolist(),
            "seconds": time.perf_counter() - start,
        }
        write(path, found)


def table(folder: Path) -> str:
    """All finished results as Markdown, each with the standard error over the test images.

    AIS minus the bound is a mean over the images that AIS was run on, with the Monte Carlo error of both. Seconds of a
    fit are those of the call that ended it.
    """
    lines = [
        f"| model | epochs | images | -bound of log p, k = {PARTICLES}, nats | Burda et al. | AIS - bound | fit, s "
        "| bound, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        value = np.array(found["value"])
        over = "–"
        if "ais" in found:
            gap = np.array(found["ais"]["value"]) - value[: len(found["ais"]["value"])]
            noise = np.hypot(found["ais"]["stderr"], found["stderr"][: len(gap)])
            over = f"{gap.mean():.3f} ± {np.sqrt((noise**2).sum()) / len(gap):.3f}"
        theirs = MODELS[found["name"]][2]
        lines.append(
            f"| {found['name']} | {found['epochs']} | {len(value)} "
            f"| {-value.mean():.2f} ± {value.std() / np.sqrt(len(value)):.2f} "
            f"| {'–' if theirs is None else theirs} "
            f"| {over} | {found['fit_seconds']:.0f} | {found['bound_seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(MODELS), help=f"of {list(MODELS)} (default: all)")
    parser.add_argument("--epochs", type=int, default=500, help="over the 60,000 images (default 500)")
    parser.add_argument("--rows", type=int, default=10_000, help="how many test images (default: all 10,000)")
    parser.add_argument("--ais", type=int, default=AIS_ROWS, help=f"of these, with AIS (default {AIS_ROWS}; 0: none)")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for results and checkpoints")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in [] if args.show else args.models:
        run(name, args.epochs, args.rows, args.ais, args.folder)
    print(table(args.folder))


if __name__ == "__main__":
    main()
