"""``deepgen impute``: completing a file with blanks, by a program fitted to it now or by that of a run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepgen import checks, evaluation
from deepgen.cli import tables
from deepgen.cli.engine import Engine
from deepgen.cli.fitting import FEWEST_FOR_VALIDATION, Clock, fit_program
from deepgen.cli.recipes import RECIPES
from deepgen.cli.refusals import closest
from deepgen.cli.run import Plan, enough_draws
from deepgen.cli.sources import (
    Network,
    Settings,
    Source,
    is_table,
    left_out,
    notes_of,
    open_program,
    read_again,
    read_arrays,
    refuse_reading,
    stem_of,
    write_arrays,
    write_notes,
)
from deepgen.data import Dataset, Encoding, Table, column_kinds
from deepgen.data.dataset import Support
from deepgen.data.table import read_table
from deepgen.math.gaussian import fit_gaussian
from deepgen.program import files

COPIES, EM_STEPS = 5, 100
NUMBERS = ("real", "integer")


def impute(
    target: str,
    path: str,
    output: Path | None,
    settings: Settings,
    plan: Plan,
    keep: Path | None,
    *,
    resume: bool,
    progress: bool | None,
) -> list[str]:
    """Complete a file with blanks.

    Args:
        target: a family, or the folder of a run.
        path: of a table or an npz.
        output: the completed file, or None for a name next to ``path``.
        settings: of a fit, and how to read a table.
        plan: of the imputation.
        keep: the folder of the program fitted here, or None for one next to the output.
        resume: whether to take up a fit that was interrupted.
        progress: whether to show bars; None: on a terminal.

    Returns:
        What to print.

    Raises:
        ValueError: a target, file or option that does not fit.
        FileNotFoundError: no such file.
        OSError: a folder that cannot be written to.
    """
    folder = _run_folder(target)
    if folder is not None:
        _refuse_fit_options(target, settings, keep)
    notes = None if folder is None else notes_of(folder)
    table, encoding = None, None
    left: list[str] = []
    if is_table(path):
        if folder is not None:
            encoding, table, left = _read(path, target, notes, settings.reading)
        else:
            table = read_table(path, **(settings.reading or {}))
            encoding = Encoding.fit(table, style="codes" if settings.network == "table" else "indicators")
        x = encoding.encode(table)
    else:
        refuse_reading(path, settings.reading)
        x = read_arrays(path).astype(np.float32)
    output = _output(path, output)
    if not np.isnan(x).any():
        raise checks.problem(
            path, got="no blank entry", expected="at least one", fix="There is nothing to complete: blanks are missing."
        )
    files.writable_folder(output.parent)
    engine = Engine(settings.engine, settings.seed)
    program = None if folder is None else open_program(engine, folder, notes)
    imputers = engine.imputers(settings.family) if program is None else program.imputers
    if plan.method is None and _made_of_table(settings, notes):
        plan = replace(plan, method="auto")
    options = plan.filled(settings.family if notes is None else notes["settings"].family).options(imputers)
    enough_draws(options, tables.PROB)
    how, own = f"by the program of {target}", program is None
    if program is None:
        keep = keep or output.with_name(f"{tables.beside(output)}.run")
        kinds = column_kinds(table) if table is not None and settings.network == "table" else None
        program, how = _fit(engine, settings, x, encoding, kinds, keep, resume=resume, progress=progress)
    if table is None or encoding is None:
        return _complete_arrays(engine, program, x, output, options, how, progress)
    done = tables.complete_table(engine, program, table, encoding, options, how=how, progress=progress)
    if own:
        tables.tell_far(done, table)
    told = [f"filled {len(done.intervals)} cells {how}", *left_out(left)]
    return [*told, *map(str, tables.write(done, table, output))]


def default_network(target: str, path: str) -> Network | None:
    """The kind of program that is fitted to a file with blanks; None where the target has but one."""
    if target in RECIPES and "network" not in RECIPES[target].takes:
        return None
    return "table" if is_table(path) else "mlp"


def _made_of_table(settings: Settings, notes: dict[str, Any] | None) -> bool:
    """Whether the program's guide starts as an exact posterior, so that its weights are worth a try."""
    return (settings if notes is None else notes["settings"]).network == "table"


def _run_folder(target: str) -> Path | None:
    """The run's folder that the target is, or None where it is a family."""
    folder = Path(target)
    if (folder / files.DESCRIPTION).is_file():
        return folder
    if target not in RECIPES:
        fix = f"{files.DESCRIPTION} is missing there." if folder.exists() else closest(target, RECIPES)
        raise checks.problem(
            "target", got=repr(target), expected=f"one of {list(RECIPES)}, or a folder that deepgen wrote", fix=fix
        )
    return None


def _refuse_fit_options(target: str, settings: Settings, keep: Path | None) -> None:
    default = Settings(settings.family, settings.source)
    names = ("steps", "latent_dim", "hidden", "likelihood", "learning_rate", "patience")
    given = ["--" + name.replace("_", "-") for name in names if getattr(settings, name) != getattr(default, name)]
    given += [] if settings.network == default_network(target, settings.source) else ["--network"]
    given += [] if keep is None else ["--keep"]
    if given:
        raise checks.problem(
            "options",
            got=f"{given} with the fitted program of {target}",
            expected="none of the fit's options",
            fix="Leave them out, or name a family to fit a new program.",
        )


def _output(path: str, output: Path | None) -> Path:
    source = Path(path)
    stem = stem_of(path)
    output = output or source.with_name(f"{stem}{tables.COMPLETED}{source.name[len(stem) :]}")
    if is_table(path) != is_table(str(output)) or (not is_table(path) and output.suffix.lower() != ".npz"):
        ending = "a table's, .csv or .parquet" if is_table(path) else ".npz"
        raise checks.problem("out", got=repr(str(output)), expected=f"the ending {ending}", fix="Name the file so.")
    if output.resolve() == source.resolve():
        raise checks.problem("out", got=f"the input {path!r}", expected="another file", fix="Choose another name.")
    return output


def _read(
    path: str, target: str, notes: dict[str, Any] | None, reading: dict[str, Any] | None
) -> tuple[Encoding, Table, list[str]]:
    if notes is None or notes["encoding"] is None:
        raise checks.problem(
            "target",
            got=f"{target!r}, which was not fitted to a table",
            expected="a run on a table",
            fix="Fit to a table, or pass an npz file.",
        )
    encoding = Encoding.from_dict(notes["encoding"])
    return encoding, *read_again(path, encoding, notes["settings"], reading)


def _fit(
    engine: Engine,
    settings: Settings,
    x: np.ndarray,
    encoding: Encoding | None,
    kinds: Sequence[Any] | None,
    folder: Path,
    *,
    resume: bool,
    progress: bool | None,
) -> tuple[Any, str]:
    """The program fitted to all rows, and a sentence about it."""
    support: Support = "boolean" if np.isin(x[~np.isnan(x)], (0, 1)).all() else "real"
    columns = None if encoding is None else encoding.names
    drawn = RECIPES[settings.family].drawn
    train, validation = _drawn(settings, x, encoding) if drawn else (x, x[:0])
    data = Dataset(settings.source, train, validation, x[:0], support, columns=columns, encoding=encoding)
    with Clock().phase("fit", f"fitting at most {settings.steps} steps"):
        fit, said = fit_program(
            engine, settings, Source(data, None), folder, resume=resume, progress=progress, kinds=kinds
        )
    write_notes(folder, settings, data, said, image_shape=None, held_out=False)
    means = (
        f"with their blanks drawn {COPIES} times from the multivariate normal that EM fits to them"
        if drawn
        else f"in {fit.steps} steps by the bound of their observed entries"
    )
    how = f"by a {settings.family} fitted to all {len(x)} rows {means} (values taken for missing at random)"
    return fit.program, how


def _drawn(settings: Settings, x: np.ndarray, encoding: Encoding | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows without blanks, for a density that needs whole rows."""
    kinds = [] if encoding is None else [column.name for column in encoding.columns if column.kind not in NUMBERS]
    if kinds:
        raise checks.problem(
            "columns",
            got=f"categories {kinds} for {settings.family}, which is a density",
            expected="columns of numbers",
            fix=f"Take vae, or leave them out: drop={kinds}.",
        )
    flat = x.reshape(len(x), -1)
    rng = np.random.default_rng([settings.seed, 2])
    draws = fit_gaussian(flat, max_steps=EM_STEPS).sample(flat, COPIES, seed=rng).astype(x.dtype)
    draws = draws.reshape(COPIES, *x.shape)
    held = len(x) // 10 if len(x) >= FEWEST_FOR_VALIDATION else 0
    order = rng.permutation(len(x))
    return draws[:, order[held:]].reshape(-1, *x.shape[1:]), draws[0, order[:held]]


def _complete_arrays(
    engine: Engine, program: Any, x: np.ndarray, output: Path, options: dict[str, Any], how: str, progress: bool | None
) -> list[str]:
    """Write mean, sd and 90 % interval of every entry, and the draws."""
    posterior = engine.impute(program, x.reshape(len(x), *program.event_shape), progress=progress, **options)
    posterior.attrs["fitted"] = how
    draws = posterior["posterior"]["x"].values.reshape(-1, *x.shape)
    observed = ~np.isnan(x)
    lower, upper = evaluation.interval(draws, tables.PROB)
    mean = np.where(observed, x, draws.mean(0, dtype=np.float64)).astype(x.dtype)
    write_arrays(output, x=mean, sd=draws.std(0, ddof=1), lower=lower, upper=upper, observed=observed)
    evaluation.write_posterior(posterior, output.with_suffix(".nc"))
    return [f"filled {int((~observed).sum())} entries {how}", str(output), str(output.with_suffix(".nc"))]
