"""Half-missing tables: ``python -m benchmarks.literature.tables``; resumable, one file a table and mask.

The protocol of Mattei & Frellsen 2019 and Muzellec et al. 2020: standardise the complete table, hide half of its cells
completely at random, fit on what is left, and compare the hidden cells with their completion. Needs DEEPGEN_DATA.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

import deepgen.numpyro as dg
from benchmarks.literature.results import write
from deepgen import data, evaluation

RESULTS = Path(__file__).parent / "results" / "tables"
TABLES = (
    "uci_imputation/banknote",
    "uci_imputation/breast_diagnostic",
    "uci_imputation/glass",
    "uci_imputation/parkinsons",
    "uci_imputation/seeds",
    "uci_imputation/vowel",
    "uci_regression/bostonHousing",
    "uci_regression/concrete",
    "uci_regression/wine-quality-red",
)
MASKS, RATE, DRAWS = 5, 0.5, 200
BASELINES = ("mean", "knn", "iterative", "iterative draws", "forest", "gaussian")
OWN = "deepgen"


def standardised(name: str) -> np.ndarray:
    """The complete table, each column of mean 0 and variance 1."""
    source = data.load(name, seed=0)
    x = np.concatenate([source.train, source.validation, source.test]).astype(np.float64)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32)


def one(name: str, mask: int, steps: int) -> dict[str, Any]:
    """The errors of every method on one table and mask."""
    x = standardised(name)
    observed = data.mcar(x, RATE, seed=mask)
    hidden = data.hide(x, observed)
    found: dict[str, Any] = {"table": name, "mask": mask, "rows": len(x), "columns": x.shape[1], "methods": {}}

    def score(label: str, posterior: Any, seconds: float) -> None:
        error = evaluation.imputation_error(posterior, x)
        found["methods"][label] = {**error.to_dict(), "seconds": seconds}

    start = time.perf_counter()
    fit = dg.fit_table(jax.random.key(mask), hidden, steps=steps, progress=False)
    posterior = dg.impute(jax.random.key(100 + mask), fit.program, hidden, progress=False, **SETTINGS)
    score(OWN, posterior, time.perf_counter() - start)
    found["steps"], found["stopped"] = fit.steps, fit.stopped
    found["settings"] = {key: str(value) for key, value in SETTINGS.items()}
    for method in BASELINES:
        start = time.perf_counter()
        done = evaluation.baselines(
            hidden, hidden, seed=mask, num_draws=DRAWS if method == "gaussian" else 50, methods=[method], trees=30
        )
        score(method, done[method], time.perf_counter() - start)
    return found


SETTINGS: dict[str, Any] = {"method": "sir", "num_samples": DRAWS, "num_particles": 2000}


def table(folder: Path) -> str:
    """All results so far as Markdown: means over masks with their standard errors, and a count at the end."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    names = sorted({item["table"] for item in found})
    methods = (OWN, *BASELINES)
    lines = []
    for metric in ("rmse", "crps"):
        lines += [f"\n{metric.upper()} of the hidden cells (mean over masks ± standard error)\n"]
        lines += ["| table | masks | " + " | ".join(methods) + " |", "|" + "---|" * (2 + len(methods))]
        best = strict = 0
        for name in names:
            runs = [item["methods"] for item in found if item["table"] == name]
            cells, values = [], {}
            for method in methods:
                numbers = np.array([run[method][metric]["value"] for run in runs if run.get(method, {}).get(metric)])
                if not len(numbers):
                    cells.append("–")
                    continue
                stderr = numbers.std(ddof=1) / np.sqrt(len(numbers)) if len(numbers) > 1 else np.nan
                values[method] = numbers
                cells.append(f"{numbers.mean():.4f} ± {stderr:.4f}")
            others = {m: v.mean() for m, v in values.items() if m != OWN}
            rival = min(others, key=lambda m: others[m])
            difference = values[OWN] - values[rival]
            error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
            best += bool(difference.mean() <= error)
            strict += bool(difference.mean() < 0)
            lines.append(f"| {name} | {len(runs)} | " + " | ".join(cells) + " |")
        lines.append(
            f"\nnot worse than the best other (within one paired standard error): {best} of {len(names)}; "
            f"better: {strict}"
        )
    lines += [
        "\n90 % intervals: coverage and seconds of deepgen\n",
        "| table | coverage | seconds | seconds of the forest |",
    ]
    lines += ["|---|---|---|---|"]
    for name in names:
        runs = [item["methods"] for item in found if item["table"] == name]
        coverage = [run[OWN]["coverage"]["0.9"]["value"] for run in runs]
        seconds = np.median([run[OWN]["seconds"] for run in runs])
        forest = np.median([run["forest"]["seconds"] for run in runs])
        lines.append(f"| {name} | {np.mean(coverage):.3f} | {seconds:.0f} | {forest:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="*", default=list(TABLES), help="the tables (default: nine)")
    parser.add_argument("--masks", type=int, default=MASKS, help="masks a table (default 5)")
    parser.add_argument("--steps", type=int, default=2000, help="steps of a fit (default 2000)")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for results")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for mask in range(0 if args.show else args.masks):
        for name in args.tables:
            path = args.folder / f"{name.replace('/', '-')}-{mask}.json"
            if path.is_file():
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                result = one(name, mask, args.steps)
            write(path, result)
            rmse = {method: round(run["rmse"]["value"], 4) for method, run in result["methods"].items()}
            print(name, mask, rmse, round(result["methods"][OWN]["seconds"], 1), "s", flush=True)
    print(table(args.folder))


if __name__ == "__main__":
    main()
