"""The commands, without their arguments' parsing: each takes plain values and returns the lines to print."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepgen import capabilities, checks, data, evaluation
from deepgen.cli.engine import Engine
from deepgen.cli.fitting import Clock, fit_program
from deepgen.cli.recipes import RECIPES
from deepgen.cli.run import METRICS, REPORT, Plan, likelihood_estimates
from deepgen.cli.run import run as main_job
from deepgen.cli.sources import (
    NOTES,
    TABLE_ENDINGS,
    Settings,
    called,
    is_table,
    left_out,
    notes_of,
    open_for,
    open_program,
    read_again,
    read_arrays,
    write_arrays,
    write_notes,
)
from deepgen.data import Encoding
from deepgen.data.builtin import LAWS
from deepgen.program import files
from deepgen.report.page import estimate


def default_folder(family: str, source: str) -> Path:
    """Where results go when no folder is named: ``runs/FAMILY-DATA``."""
    name = called(source) if "." in Path(source).name else source.replace("/", "-")
    return Path("runs") / f"{family}-{name}"


def run(settings: Settings, plan: Plan, folder: Path, *, resume: bool, progress: bool | None) -> list[str]:
    """The main job."""
    source = open_for(settings)
    metrics = main_job(settings, source, plan, folder, resume=resume, progress=progress)
    lines = [f"{estimate(metrics['log_prob']['mean'])} nats per row: {_kind(metrics['log_prob'])}"]
    if metrics["imputation"] is None:
        return [
            *lines,
            f"nothing is completed: programs of {settings.family} have no way to impute yet",
            f"{folder / METRICS}",
            f"{folder / REPORT}",
        ]
    errors = metrics["imputation"]["errors"]
    own = errors[metrics["imputation"]["own"]]
    lines += [
        f"RMSE {estimate(own['rmse'])}, CRPS {estimate(own['crps'])} over {own['cells']} hidden entries; "
        f"{estimate(own['coverage']['0.9'])} of them inside their 90 % intervals",
    ]
    lines += [
        f"  {name}: RMSE {estimate(error['rmse'])}, CRPS {estimate(error['crps'])}" for name, error in errors.items()
    ]
    return [*lines, f"{folder / METRICS}", f"{folder / REPORT}"]


def fit(settings: Settings, folder: Path, *, resume: bool, progress: bool | None) -> list[str]:
    """Fit to a data set's training rows, and keep the program."""
    source = open_for(settings)
    engine = Engine(settings.engine, settings.seed)
    with Clock().phase("fit", f"fitting at most {settings.steps} steps"):
        fit, said = fit_program(engine, settings, source, folder, resume=resume, progress=progress)
    write_notes(folder, settings, source.data, said, image_shape=source.image_shape, white=source.white)
    held = said["best_validation_loss"]
    watched = "" if held is None else f"; best validation loss {held:.5g}"
    return [
        f"{fit.steps} steps ({fit.stopped}); loss {fit.losses[-100:].mean():.5g} nats per row in the last "
        f"{min(100, len(fit.losses))}{watched}",
        str(folder),
    ]


def sample(folder: Path, num: int, output: Path | None, engine_name: str, seed: int) -> list[str]:
    """Draw from a run's program into an npz, with a sheet of images, or into a table."""
    notes = notes_of(folder)
    encoding = None if notes is None or notes["encoding"] is None else Encoding.from_dict(notes["encoding"])
    output = output or folder / ("samples.csv" if encoding else "samples.npz")
    endings = (".npz", *TABLE_ENDINGS) if encoding else (".npz",)
    if not str(output).lower().endswith(endings):
        raise checks.problem(
            "out", got=repr(str(output)), expected=f"a path ending in one of {list(endings)}", fix="Name the file so."
        )
    files.writable_folder(output.parent)
    engine = Engine(engine_name, seed)
    draws = engine.sample(open_program(engine, folder, notes), num)
    if encoding is not None and is_table(str(output)):
        frame = encoding.decode(draws)
        data.Table(frame, encoding.columns).write(output)
        return [str(output)]
    shape = notes["image_shape"] if notes else None
    images = draws.reshape(-1, *shape) if shape else None
    names = {} if encoding is None else {"columns": np.array(encoding.names)}
    write_arrays(output, x=draws if images is None else images, **names)
    if images is None:
        return [str(output)]
    from deepgen.report.figures import sheet

    picture = output.with_suffix(".png")
    scale = max(1, 64 // images.shape[2])
    images = images / (notes["white"] if notes else 1.0)
    files.write_atomically(picture, sheet(images, columns=int(np.ceil(np.sqrt(num))), scale=scale))
    return [str(output), str(picture)]


def evaluate(folder: Path, path: str | None, engine_name: str, seed: int, particles: int, as_json: bool) -> list[str]:
    """The likelihood, or its bound, of a run's held-out rows or of other data."""
    notes = notes_of(folder)
    left: list[str] = []
    if path is None:
        if notes is None:
            raise FileNotFoundError(f"{folder / NOTES} is missing, so the data set is not known: pass data as well.")
        settings = notes["settings"]
        if not notes["held_out"]:
            raise checks.problem(
                "data",
                got=f"none, and {folder} was fitted to all rows of {settings.source}",
                expected="rows that the program has not seen",
                fix="Pass data as well.",
            )
        x = open_for(settings).data.test
        name = f"the held-out rows of {settings.source}"
    elif is_table(path):
        if notes is None or notes["encoding"] is None:
            raise checks.problem(
                "data",
                got=f"the table {path!r} for a program that was not fitted to a table",
                expected="an npz file",
                fix="Pass rows of the shape that the program was fitted to.",
            )
        encoding = Encoding.from_dict(notes["encoding"])
        table, left = read_again(path, encoding, notes["settings"])
        x, name = encoding.encode(table), path
    elif path.lower().endswith(".npz"):
        x, name = read_arrays(path), path
    else:
        settings = notes["settings"] if notes else Settings("vae", path)
        x = open_for(replace(settings, source=path, seed=seed, reading=None)).data.test
        name = f"the held-out rows of {path}"
    engine = Engine(engine_name, seed)
    program = open_program(engine, folder, notes)
    if np.prod(x.shape[1:]) == np.prod(program.event_shape):
        x = x.reshape(len(x), *program.event_shape)
    scores = engine.log_prob(program, x, num_particles=particles)
    found = likelihood_estimates(scores, program.event_shape)
    said: dict[str, Any] = {
        "kind": scores.kind,
        "num_particles": particles,
        "rows": len(x),
        **({"left_out": left} if left else {}),
        "monte_carlo_stderr": evaluation.monte_carlo_stderr(scores.stderr),
        **{key: {"value": estimate.value, "stderr": estimate.stderr} for key, estimate in found.items()},
    }
    if as_json:
        from deepgen.cli.run import plain

        return [json.dumps(plain(said), indent=2)]
    bits = "upper bound of bits per dimension" if scores.kind == "bound" else f"bits per dimension ({scores.kind})"
    return [
        f"{len(x)} rows: {name}",
        *left_out(left),
        f"{found['mean']} nats per row: {_kind(said)}",
        f"{found['bits_per_dim']} {bits}",
        f"± is one standard error over rows; Monte Carlo alone: {said['monte_carlo_stderr']:.2g} nats",
    ]


def listing() -> list[str]:
    """The capability table, the recipes, and the data sets with what is needed for them."""
    lines = [capabilities.text_table(), "", "families of deepgen run, fit and impute"]
    lines += [f"  {name:<14}{made.title} ({made.family})" for name, made in RECIPES.items()]
    lines += ["", "data sets"]
    for name in data.dataset_names():
        lines.append(f"  {name:<24}{availability(name)}")
    endings = "any CSV (.csv, .tsv, also .gz), Parquet, npz (array x) or IDX file by its path"
    return [*lines, f"  {'PATH':<24}{endings}"]


def availability(name: str) -> str:
    """Whether a data set can be loaded now, or what to fetch for it."""
    import os

    folder = data.folder
    if name not in folder.names():
        return "available (drawn)" if name in LAWS else "available (in scikit-learn)"
    family = name.partition("/")[0]
    root = os.environ.get(folder.VARIABLE)
    place = Path(root, family) if root else None
    if place is None or not place.is_dir():
        where = f"{family}/ in the folder {folder.VARIABLE}"
        return f"not here; put into {where}: {folder.SOURCES[family]}"
    if "/" not in name:
        return f"available in {place}"
    found = sorted(path.name.partition(".")[0] for path in place.iterdir() if path.suffix in (".npz", ".csv"))
    return f"available in {place}: {', '.join(found)}"


def _kind(said: dict[str, Any]) -> str:
    if said["kind"] == "bound":
        return f"a lower bound of the log-likelihood, k = {said['num_particles']} (not the likelihood itself)"
    return f"log-likelihood ({said['kind']})"
