"""Half-missing breast cancer data: ``python -m benchmarks.literature.miwae``; the protocol of the MIWAE notebook.

scikit-learn's breast cancer table, standardised, half of its cells hidden completely at random (seed 1234); 10 latents,
128 hidden units, Student-t likelihood, 20 particles, batches of 64 for 2,002 epochs, and for 300, before it knows the
rows by heart; each hidden cell is completed with the mean of 10,000 weighted particles. Beside it stand, on the same
mask, this library's own recipe for tables and the multivariate normal fitted by EM. Fitted and completed on the same
rows. Mattei & Frellsen 2019.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from sklearn.datasets import load_breast_cancer

import deepgen.numpyro as dg
from deepgen import evaluation

EPOCHS, BATCH, LATENTS, HIDDEN, TRAINED, DRAWN = (300, 2002), 64, 10, (128, 128), 20, 10_000
PUBLISHED = 0.287
"""The notebook's squared error."""


def holes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The standardised table, and the same with exactly half of its cells NaN."""
    x = load_breast_cancer().data
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    hidden = x.copy().reshape(-1)
    # The legacy generator: the notebook's own mask.
    hidden[np.random.RandomState(seed).choice(x.size, x.size // 2, replace=False)] = np.nan
    return x, hidden.reshape(x.shape)


def completed(hidden: np.ndarray, lengths: Sequence[int], seed: int) -> dict[str, Any]:
    """Method to its draws of the completed table."""
    key, draws = jax.random.key(seed), jax.random.key(seed + 1)
    options: dict[str, Any] = {"method": "sir", "num_particles": DRAWN, "num_samples": 1000, "progress": False}
    fits = {}
    for epochs in lengths:
        program = dg.VAE.mlp((hidden.shape[1],), LATENTS, "student_t", hidden=HIDDEN, activation="relu", key=key)
        steps = epochs * (len(hidden) // BATCH)
        objective = dg.IWAE(num_particles=TRAINED)
        fit = dg.fit(key, program, hidden, steps=steps, batch_size=BATCH, objective=objective)
        fits[f"the notebook's architecture, {epochs} epochs"] = fit.program
    fits["fit_table"] = dg.fit_table(key, hidden, steps=2000).program
    return {
        **{name: dg.impute(draws, program, hidden, **options) for name, program in fits.items()},
        **evaluation.baselines(hidden, hidden, seed=seed, num_draws=1000, methods=["gaussian"]),
    }


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, nargs="*", default=EPOCHS, help=f"lengths of its fits (default {EPOCHS})")
    parser.add_argument("--seed", type=int, default=1234, help="of the mask and the fits (default 1234)")
    args = parser.parse_args()
    x, hidden = holes(args.seed)
    start = time.perf_counter()
    lines = ["| method | squared error | 90 % intervals hold |", "|---|---|---|"]
    for name, posterior in completed(hidden, args.epochs, args.seed).items():
        error = evaluation.imputation_error(posterior, x).to_dict()
        rmse, coverage = error["rmse"], error["coverage"]["0.9"]
        # d(rmse^2) = 2 rmse d(rmse)
        stderr = 2 * rmse["value"] * rmse["stderr"]
        lines.append(f"| {name} | {rmse['value'] ** 2:.4f} ± {stderr:.4f} | {coverage['value']:.3f} |")
    print("\n".join(lines))
    print(f"\nthe notebook: {PUBLISHED}; {time.perf_counter() - start:.0f} s; settings {json.dumps(vars(args))}")


if __name__ == "__main__":
    main()
