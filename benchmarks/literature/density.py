"""Flows on tables: ``python -m benchmarks.literature.density``; resumable, one file a table, flow and fold.

Red wine, white wine and parkinsons under the protocol of RNADE (Uria, Murray & Larochelle 2013): discrete columns and
one of each pair whose correlation is above 0.98 left out, columns standardised, ten folds. Kin40k, protein and
elevators: one fold of ten. One budget for all: 5 transforms, networks of 2 x 128, 8 bins, batch 512, stopped by a
tenth of the training rows. On the first folds flows of FlowJAX and zuko have the same budget and are compared with ours
row by row (``pip install deepgen[bench]``). Needs DEEPGEN_DATA.
"""

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optax

import deepgen.numpyro as dg
from benchmarks.literature.density_peers import CHUNK, CLIP, FITS, PATIENCE, RATE
from benchmarks.literature.exact import RESULTS, Case, estimate, rows, run, slug
from benchmarks.literature.results import write
from deepgen.data import folder

SMALL, MEDIUM = ("redwine", "whitewine", "parkinsons"), ("kin40k", "protein", "elevators")
PUBLISHED = {
    "redwine": {"RNADE-MoG": 9.36, "EoNADE": 8.76},
    "whitewine": {"RNADE-MoG": 10.23, "EoNADE": 9.67},
    "parkinsons": {"RNADE-MoG": 0.90, "EoNADE": 0.90},
}
"""Nats a row; EoNADE is the ensemble of orders of Uria, Murray & Larochelle 2014."""
FLOWS = ("NSF", "MAF")
FOLDS, COMPARED, STEPS, BATCH = 10, 3, 3000, 512
DISCRETE = {"small": 10, "medium": 50}
"""A column of no more values than this is left out; 10 leaves 11, 11 and 15 columns, as many as RNADE was given."""
LIMIT = 0.98


def columns(x: np.ndarray, discrete: int) -> np.ndarray:
    """The columns that are continuous and not another one over again."""
    kept: list[int] = []
    correlation = np.abs(np.corrcoef(x.T))
    for i in range(x.shape[1]):
        if len(np.unique(x[:, i])) > discrete and all(correlation[i, j] <= LIMIT for j in kept):
            kept.append(i)
    return x[:, kept]


def fold(name: str, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test rows, standardised by the first two."""
    file = "rnade_uci.npz" if name in SMALL else "uci_medium.npz"
    with np.load(folder.located(name, folder.SOURCES["uci_density"], "uci_density", file)) as arrays:
        x = columns(arrays[name].astype(np.float64), DISCRETE["small" if name in SMALL else "medium"])
    parts = np.array_split(np.random.default_rng(0).permutation(len(x)), FOLDS)
    rest = np.concatenate([part for i, part in enumerate(parts) if i != number])
    x = ((x - x[rest].mean(0)) / x[rest].std(0)).astype(np.float32)
    held = len(rest) // 10
    return x[rest[held:]], x[rest[:held]], x[parts[number]]


def case(name: str, flow: str, number: int, steps: int) -> Case:
    """One flow on one fold."""
    train, validation, test = fold(name, number)
    make: Any = dg.Flow.nsf if flow == "NSF" else dg.Flow.maf
    return Case(
        name=f"{flow}, {name}, fold {number}",
        program=lambda key: make(train.shape[1:], num_transforms=5, hidden=(128, 128), data=train[:BATCH], key=key),
        train=train,
        score=rows(test),
        fit={
            "batch_size": BATCH,
            "learning_rate": optax.cosine_decay_schedule(RATE, steps),
            "clip_norm": CLIP,
            "validation": validation,
            "patience": PATIENCE,
            "chunk": CHUNK,
        },
        settings=f"5 transforms, 2 x 128, 8 bins, batch {BATCH}, Adam {RATE} cosine, clip {CLIP}, patience "
        f"{PATIENCE * CHUNK} steps",
        published=PUBLISHED.get(name, {}),
    )


def run_peer(library: str, name: str, flow: str, number: int, steps: int, where: Path) -> None:
    """One flow of another library on one fold; nothing where the result is there already."""
    label = f"{library}, {flow}, {name}, fold {number}"
    path = where / f"{slug(label)}-{steps}.json"
    if path.is_file():
        return
    start = time.perf_counter()
    values, done = FITS[library](flow, fold(name, number), BATCH, steps, seed=0)
    found = {
        "name": label,
        "steps": done,
        "values": np.round(values, 4).tolist(),
        "sizes": np.ones(len(values)).tolist(),
        "fit_seconds": time.perf_counter() - start,
    }
    write(path, found)
    print(f"{label}: {-values.mean():.3f} nats after {done} steps", flush=True)


def differences(found: dict[str, Any], name: str, flow: str) -> str:
    """Our nats less each library's on the same rows, mean over folds; with one fold the error is that over its rows."""
    texts = []
    for library in FITS:
        pairs = [
            np.array(item["values"]) - np.array(found[f"{flow}, {name}, {label.rsplit(', ', 1)[1]}"]["values"])
            for label, item in found.items()
            if label.startswith(f"{library}, {flow}, {name},")
        ]
        if pairs:
            each = pairs[0] if len(pairs) == 1 else np.array([pair.mean() for pair in pairs])
            texts.append(f"{library} {each.mean():+.3f} ± {each.std(ddof=1) / np.sqrt(len(each)):.3f}")
    return ", ".join(texts) or "–"


def table(where: Path) -> str:
    """All finished results as Markdown: the mean over folds; with one fold the standard error is that over its rows."""
    lines = [
        "| table | flow | folds | -log p, nats a row | published | ours less theirs, same rows | fit, s |",
        "|---|---|---|---|---|---|---|",
    ]
    everything = {item["name"]: item for item in map(json.loads, (p.read_text() for p in sorted(where.glob("*.json"))))}
    for name in (*SMALL, *MEDIUM):
        for flow in FLOWS:
            found = [item for label, item in everything.items() if label.startswith(f"{flow}, {name},")]
            if not found:
                continue
            each = np.array([estimate(item["values"], item["sizes"]) for item in found])
            mean, stderr = each[:, 0].mean(), each[0, 1]
            if len(each) > 1:
                stderr = each[:, 0].std(ddof=1) / np.sqrt(len(each))
            figures = ", ".join(f"{method} {figure:.2f}" for method, figure in found[0]["published"].items()) or "–"
            seconds = np.mean([item["fit_seconds"] for item in found])
            lines.append(
                f"| {name} | {flow} | {len(each)} | {mean:.3f} ± {stderr:.3f} | {figures} "
                f"| {differences(everything, name, flow)} | {seconds:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="*", choices=(*SMALL, *MEDIUM), default=[*SMALL, *MEDIUM])
    parser.add_argument("--flows", nargs="*", choices=FLOWS, default=list(FLOWS))
    parser.add_argument("--folds", type=int, default=FOLDS, help="of the small tables (default 10)")
    parser.add_argument("--compared", type=int, default=COMPARED, help=f"of these, with the peers (default {COMPARED})")
    parser.add_argument("--peers", nargs="*", choices=tuple(FITS), default=list(FITS), help="default: all")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of a fit (default {STEPS})")
    parser.add_argument("--folder", type=Path, default=RESULTS / "density", help="for results and checkpoints")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    missing = [library for library in args.peers if find_spec(library.lower()) is None]
    if missing:
        print(f"without {', '.join(missing)}: pip install 'deepgen[bench]'", file=sys.stderr)
    for name in [] if args.show else args.tables:
        for number in range(args.folds if name in SMALL else 1):
            for flow in args.flows:
                run(case(name, flow, number, args.steps), args.steps, args.folder)
                for library in args.peers if number < args.compared else ():
                    if library not in missing:
                        run_peer(library, name, flow, number, args.steps, args.folder)
    print(table(args.folder))


if __name__ == "__main__":
    main()
