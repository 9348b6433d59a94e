"""Tables with real gaps, completed by one command each: ``python -m benchmarks.literature.missing``; resumable.

One more tenth of the observed cells is hidden, the table is given to ``deepgen impute vae``, and what it puts into
these cells is compared with what stood there, beside baselines that see the same table. Needs DEEPGEN_DATA.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.literature.results import write
from deepgen import data, evaluation

RESULTS = Path(__file__).parent / "results" / "missing"
DROP: dict[str, tuple[str, ...]] = {
    "airquality": (),
    "auto_imports": (),
    "breast_cancer_wisconsin": ("id",),
    "hepatitis": (),
    "horse_colic": ("hospital_number",),
    "msleep": ("name", "genus"),
    "pbc": ("id",),
    "penguins": (),
}
"""The tables, and of each the columns that only name its rows."""
SHARE = 0.1
BASELINES = ("mean", "knn", "iterative", "forest", "gaussian")
OWN = "deepgen"
NUMBERS = ("real", "integer")


def source(name: str) -> Path:
    """The file of a table."""
    return Path(os.environ["DEEPGEN_DATA"]) / "missing" / f"{name}.csv"


def chosen(table: data.Table, seed: int) -> np.ndarray:
    """(n, columns) the observed cells that are hidden as well; none is the last one of its row."""
    hidden = table.observed & (np.random.default_rng(seed).random(table.observed.shape) < SHARE)
    hidden[(table.observed & ~hidden).sum(1) == 0] = False
    return hidden


def errors(truth: data.Table, found: pd.DataFrame, hidden: np.ndarray) -> dict[str, Any]:
    """Of hidden numbers the root mean squared error in columns' standard deviations, of categories the share wrong.

    Each with its standard error, rows taken for independent; None where the table has no such cell.
    """
    squares, wrong = [], []
    for i, column in enumerate(truth.columns):
        rows = np.flatnonzero(hidden[:, i])
        before, after = truth.frame[column.name], found[column.name].iloc[rows]
        if column.kind in NUMBERS:
            gap = after.to_numpy(dtype=float) - before.iloc[rows].to_numpy(dtype=float)
            squares.append((rows, (gap / before.std()) ** 2))
        else:
            same = [str(one) == str(other) for one, other in zip(after, before.iloc[rows], strict=True)]
            wrong.append((rows, 1.0 - np.array(same, dtype=float)))
    mean, share = _mean(squares), _mean(wrong)
    root = mean and {"value": mean["value"] ** 0.5, "stderr": mean["stderr"] / (2 * mean["value"] ** 0.5)}
    return {"rmse": root, "wrong": share}


def _mean(parts: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float] | None:
    if not sum(len(rows) for rows, _ in parts):
        return None
    rows, values = (np.concatenate(piece) for piece in zip(*parts, strict=True))
    found = evaluation.cell_mean(values, rows)
    return {"value": found.value, "stderr": found.stderr}


def one(name: str, engine: str, steps: int | None, seed: int) -> dict[str, Any]:
    """What the command says and does of one table, and the baselines."""
    truth = data.read_table(source(name), drop=DROP[name])
    hidden = chosen(truth, seed)
    cells = pd.read_csv(source(name), dtype=str, keep_default_na=False)
    for i, column in enumerate(truth.columns):
        cells.loc[hidden[:, i], column.name] = ""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, f"{name}.csv"), Path(folder, "out.csv")
        cells.to_csv(path, index=False)
        command = [sys.executable, "-m", "deepgen.cli", "impute", "vae", str(path), "--out", str(out), "--no-progress"]
        command += ["--engine", engine, "--seed", str(seed), *(["--steps", str(steps)] if steps else [])]
        command += [word for column in DROP[name] for word in ("--drop", column)]
        start = time.perf_counter()
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        left = data.read_table(path, drop=DROP[name])
        methods = {OWN: errors(truth, data.read_table(out, drop=DROP[name]).frame, hidden)}
    encoding = data.Encoding.fit(left)
    x = encoding.encode(left)
    for method, posterior in evaluation.baselines(x, x, seed=seed, methods=BASELINES, trees=30).items():
        completed = posterior["posterior"]["x"].values.mean((0, 1))
        methods[method] = errors(truth, encoding.decode(completed, left), hidden)
    return {
        "table": name,
        "rows": len(truth.frame),
        "columns": len(truth.columns),
        "kinds": dict(Counter(kind.kind for kind in data.column_kinds(truth))),
        "missing": float(1 - truth.observed.mean()),
        "engine": engine,
        "seconds": seconds,
        "warnings": [line for line in said.stderr.splitlines() if line.startswith("Warning")],
        "methods": methods,
    }


def table(folder: Path) -> str:
    """All results so far as Markdown, and the warnings below."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    methods = (OWN, *BASELINES)
    lines = [
        "| table | engine | rows x columns | kinds | missing | seconds | warnings |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in item["kinds"].items())
        lines.append(
            f"| {item['table']} | {item['engine']} | {item['rows']} x {item['columns']} | {kinds} "
            f"| {item['missing']:.1%} | {item['seconds']:.0f} | {len(item['warnings'])} |"
        )
    titles = {
        "rmse": "RMSE of hidden numbers, in standard deviations",
        "wrong": "Share of hidden categories that are wrong",
    }
    for score, title in titles.items():
        lines += [f"\n{title}\n", f"| table | {' | '.join(methods)} |", "|" + "---|" * (1 + len(methods))]
        for item in found:
            scores = [item["methods"][method][score] for method in methods]
            cells = ["–" if one is None else str(evaluation.Estimate(**one)) for one in scores]
            lines.append(f"| {item['table']} ({item['engine']}) | {' | '.join(cells)} |")
    said = [f"{item['table']}: {line}" for item in found for line in item["warnings"]]
    return "\n".join([*lines, "", *said])


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", nargs="*", default=list(DROP), choices=list(DROP), help="the tables (default: eight)"
    )
    parser.add_argument("--engine", default="numpyro", choices=["numpyro", "pyro"], help="default: numpyro")
    parser.add_argument("--steps", type=int, help="steps of a fit (default: the command's)")
    parser.add_argument("--seed", type=int, default=0, help="of the cells that are hidden, and of the fit")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="for results")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in [] if args.show else args.tables:
        path = args.folder / f"{name}-{args.engine}-{args.seed}-{args.steps or 'default'}.json"
        if path.is_file():
            continue
        result = one(name, args.engine, args.steps, args.seed)
        write(path, result)
        print(name, f"{result['seconds']:.0f} s", flush=True)
    print(table(args.folder))


if __name__ == "__main__":
    main()
