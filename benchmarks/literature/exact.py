"""What the benchmarks of exact likelihoods share: a resumable fit, its score with a standard error, and their table."""

import argparse
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

import deepgen.numpyro as dg
from benchmarks.literature.results import write

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Case:
    """One model on one data set.

    Attributes:
        name: in the table and, as a slug, of the files.
        program: from a key to the untrained program.
        train: the training rows.
        score: from the trained program to (log density of each test row, how many units each row has).
        fit: further arguments of `fit`.
        settings: what the table says of model and fit.
        published: name of a method to its figure, nats a unit.
    """

    name: str
    program: Callable[[jax.Array], Any]
    train: Any
    score: Callable[[Any], tuple[np.ndarray, np.ndarray]]
    fit: Mapping[str, Any]
    settings: str
    published: Mapping[str, float] = field(default_factory=dict)


def rows(x: np.ndarray) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """A score of whole test rows, each one unit."""

    def score(program: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(dg.log_prob(jax.random.key(0), program, x).value, np.float64), np.ones(len(x))

    return score


def entries(program: Any, x: np.ndarray, piece: int = 64) -> np.ndarray:
    """log p of each entry of x given those before it, (n, *event_shape)."""

    @jax.jit
    def one(network: Any, x: Any) -> Any:
        return program.observation(network(x)).base_dist.log_prob(x)

    return np.concatenate([np.asarray(one(program.network, x[i : i + piece])) for i in range(0, len(x), piece)])


def with_dropout(text: str, rate: float) -> str:
    """A name or settings with the rate of dropout, where there is one."""
    return f"{text}, dropout {rate}" if rate else text


def estimate(values: Any, sizes: Any) -> tuple[float, float]:
    """Nats a unit, and the standard error of this ratio of means over the test rows."""
    values, sizes = np.asarray(values, np.float64), np.asarray(sizes, np.float64)
    ratio = values.sum() / sizes.sum()
    residuals = values - ratio * sizes
    return -ratio, float(residuals.std(ddof=1) / np.sqrt(len(values)) / sizes.mean())


def slug(name: str) -> str:
    """A file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def run(case: Case, steps: int, folder: Path, after: Callable[[Any, Path], None] | None = None) -> None:
    """Fit, going on where a killed call stopped, and score; nothing where the result is there already."""
    stem = f"{slug(case.name)}-{steps}"
    path = folder / f"{stem}.json"
    if path.is_file():
        return
    start = time.perf_counter()
    fit = dg.fit(
        jax.random.key(1),
        case.program(jax.random.key(0)),
        case.train,
        steps=steps,
        checkpoint=dg.Checkpoint(folder / f"{stem}.checkpoint", seconds=30),
        **case.fit,
    )
    middle = time.perf_counter()
    values, sizes = case.score(fit.program)
    found = {
        "name": case.name,
        "settings": case.settings,
        "steps": fit.steps,
        "published": dict(case.published),
        "values": np.round(np.asarray(values, np.float64), 4).tolist(),
        "sizes": np.asarray(sizes).tolist(),
        "fit_seconds": middle - start,
        "score_seconds": time.perf_counter() - middle,
    }
    if after is not None:
        after(fit.program, folder / stem)
    write(path, found)
    nats, stderr = estimate(values, sizes)
    print(f"{case.name}: {nats:.3f} ± {stderr:.3f} nats after {fit.steps} steps", flush=True)


def table(folder: Path, unit: str) -> str:
    """All finished results as Markdown. Seconds of a fit are those of the call that ended it."""
    lines = [
        f"| model | steps | test rows | -log p, nats {unit} | published | fit, s | score, s | settings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(folder.glob("*.json")):
        found = json.loads(path.read_text())
        nats, stderr = estimate(found["values"], found["sizes"])
        published = ", ".join(f"{name} {figure:.2f}" for name, figure in found["published"].items()) or "–"
        lines.append(
            f"| {found['name']} | {found['steps']} | {len(found['values'])} | {nats:.3f} ± {stderr:.3f} | {published} "
            f"| {found['fit_seconds']:.0f} | {found['score_seconds']:.0f} | {found['settings']} |"
        )
    return "\n".join(lines)


def command(
    text: str | None,
    name: str,
    unit: str,
    cases: Mapping[str, Callable[..., Case]],
    steps: Mapping[str, int],
    after: Callable[[Any, Path], None] | None = None,
    dropping: Collection[str] = (),
) -> Path:
    """The command line of one benchmark: run what is not done yet, and print the table.

    Args:
        text: its help.
        name: of the folder under ``results``.
        unit: what the nats are counted by.
        cases: from the number of steps to the case, by what the command line calls it.
        steps: the full length of each.
        after: what is done besides with a trained program and the results' stem.
        dropping: the cases that take a rate of ``dropout`` too.

    Returns:
        The folder of the results.
    """
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=list(cases), default=list(cases), help="default: all")
    parser.add_argument("--steps", type=int, help=f"of a fit (default {dict(steps)})")
    if dropping:
        parser.add_argument("--dropout", type=float, default=0.0, help=f"rate of {', '.join(dropping)} (default 0)")
    parser.add_argument("--folder", type=Path, default=RESULTS / name, help="for results and checkpoints")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for model in [] if args.show else args.models:
        length = args.steps or steps[model]
        own = {"dropout": args.dropout} if model in dropping else {}
        run(cases[model](length, **own), length, args.folder, after)
    print(table(args.folder, unit))
    return args.folder
