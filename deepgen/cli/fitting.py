"""Fitting a program in a folder, so that it can be interrupted, killed and taken up again."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import typer

from deepgen import checks
from deepgen.capabilities import capability
from deepgen.cli.engine import Engine
from deepgen.cli.recipes import Recipe, recipe
from deepgen.cli.refusals import INTERRUPTED
from deepgen.cli.sources import Settings, Source
from deepgen.data.dataset import SPLITS
from deepgen.program import files

CHECKPOINT, LOSSES = "fit.safetensors", "losses.csv"
CHUNK = 100
PATIENCE = 5
LOGIT = 0.05
"""The alpha of the logit of data in [0, 1], whose density a flow gives (Dinh et al. 2017)."""
NO_LAW = "the program's own density"
FEWEST_FOR_VALIDATION = 20


class Clock:
    """How long each phase of a command took.

    Attributes:
        seconds: by phase.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[None]:
        """Within, a phase runs; at its end it is told on stderr."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)
        typer.echo(f"{text}: {self.seconds[name]:.1f} s", err=True)


def fit_program(
    engine: Engine,
    settings: Settings,
    source: Source,
    folder: Path,
    *,
    resume: bool,
    progress: bool | None,
    kinds: Sequence[Any] | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Build a program and fit it, with its checkpoint in the folder.

    Args:
        engine: the engine.
        settings: of the fit.
        source: the data, NaN where missing. The validation rows are watched; where there are none, a tenth of the
            training rows is held out (nothing of fewer than twenty).
        folder: where the checkpoint and the program go.
        resume: whether to take up a checkpoint that an interrupted fit left there.
        progress: whether to show a bar; None: on a terminal.
        kinds: of a table's columns in their own units, for ``network="table"``; None for standardised numbers.

    Returns:
        The `Fit`, and what it says of itself. The program and its losses are in the folder, and the checkpoint is gone
        (kept where the fit was interrupted).

    Raises:
        ValueError: what `fit` refuses.
        OSError: a folder that cannot be written to.
        typer.Exit: the user interrupted the fit.
    """
    made, train = recipe(settings.family), source.data.train
    refuse_holes(settings.family, source)
    files.writable_folder(folder)
    checkpoint = folder / CHECKPOINT
    if resume and checkpoint.is_file():
        typer.echo(f"resuming from {checkpoint} (--no-resume starts afresh)", err=True)
    common: dict[str, Any] = {
        "steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "checkpoint": checkpoint,
        "resume": resume,
        "progress": progress,
    }
    if settings.network == "table":
        law: str | None = "of each column's kind"
        fit = _fit_table(engine, settings, train, kinds, common)
    else:
        law = law_of(settings, source)
        fit = _fit(engine, settings, source, law, common)
    engine.save(fit.program, folder)
    _write_losses(folder / LOSSES, fit)
    holes = int(np.isnan(train).sum())
    said = {
        "steps": fit.steps,
        "stopped": fit.stopped,
        "rows": len(train),
        "missing_share": holes / train.size,
        "objective": _objective(made, settings) + (" of the observed entries" if holes else ""),
        "likelihood_law": law or NO_LAW,
        "parameters": int(sum(np.prod(shape) for shape in _shapes(folder).values())),
        "best_validation_loss": float(np.nanmin(fit.validation_losses)) if len(fit.validation_losses) else None,
    }
    if fit.stopped == "interrupted":
        command = " ".join(["deepgen", *sys.argv[1:]])
        typer.echo(
            f"Interrupted after {fit.steps} of {settings.steps} steps; the program so far is in {folder}. "
            f"The same command resumes: {command}",
            err=True,
        )
        raise typer.Exit(INTERRUPTED)
    checkpoint.unlink(missing_ok=True)
    return fit, said


def _fit(
    engine: Engine,
    settings: Settings,
    source: Source,
    law: str | None,
    common: dict[str, Any],
) -> Any:
    made, train, validation = recipe(settings.family), source.data.train, source.data.validation
    options = dict(made.defaults)
    chosen = {"hidden": settings.hidden, "latent_dim": settings.latent_dim, "likelihood": law}
    options |= {name: value for name, value in chosen.items() if value is not None}
    if settings.network == "conv":
        del options["hidden"]
    if law == "categorical":
        options["num_classes"] = int(source.white) + 1
    if made.logit and law is None and source.data.support == "unit_interval":
        options["logit"] = LOGIT
    if made.starts:
        options["data"] = train
    program = engine.build(settings.family, settings.network, train.shape[1:], **options)
    watched: Any = validation if len(validation) else _share(len(train))
    watched = watched if made.watched else 0.0
    patience = (settings.patience or PATIENCE) if isinstance(watched, np.ndarray) or watched else None
    return engine.fit(program, train, validation=watched, patience=patience, chunk=CHUNK, **common)


def _fit_table(
    engine: Engine, settings: Settings, train: np.ndarray, kinds: Sequence[Any] | None, common: dict[str, Any]
) -> Any:
    if settings.likelihood is not None:
        raise checks.problem(
            "likelihood",
            got=repr(settings.likelihood),
            expected="none with network table, which takes the law of each column's kind",
            fix="Leave it out, or pass --network mlp.",
        )
    chosen = {"latent_dim": settings.latent_dim, "hidden": settings.hidden}
    given = {name: value for name, value in chosen.items() if value is not None}
    return engine.fit_table(train, kinds, patience=settings.patience, **given, **common)


def law_of(settings: Settings, source: Source) -> str | None:
    """The observation law of a fit; None where the program is a density by itself.

    Args:
        settings: of the fit.
        source: the data.

    Raises:
        ValueError: data that the recipe has no law for.
    """
    made, support = recipe(settings.family), source.data.support
    if not made.laws:
        if made.grey == "binary" and support != "boolean":
            raise checks.problem(
                "data",
                got=f"{source.data.description or settings.source} for {settings.family}, of zeros and ones",
                expected="zeros and ones, or grey levels, which are cut at a half",
                fix="Take a density, such as ebm or nsf; or binarise the data.",
            )
        if made.grey != "binary" and support == "boolean":
            raise checks.problem(
                "data",
                got=f"zeros and ones for {settings.family}, which is a density",
                expected="numbers that vary without gaps",
                fix="Take a family of discrete data: deepgen run made ..., rbm or vae.",
            )
        return None
    law = settings.likelihood or made.laws["levels" if source.grey == "levels" and support != "boolean" else support]
    if law == "categorical" and source.grey != "levels":
        raise checks.problem(
            "likelihood",
            got=f"'categorical' for {source.data.description or settings.source}",
            expected="grey levels or whole numbers from 0 to 255"
            + ("" if made.grey == "levels" else f", and a family of categories ({settings.family} takes none here)"),
            fix="Pass other data, or another --likelihood; made, pixelcnn, wavenet and transformer take categories.",
        )
    return law


def refuse_holes(name: str, source: Source) -> None:
    """Refuse data with holes for a recipe whose likelihood needs complete rows.

    Args:
        name: of the recipe.
        source: the data.

    Raises:
        ValueError: there are holes; with what to do instead.
    """
    rows = np.concatenate([getattr(source.data, part) for part in SPLITS])
    empty = np.isnan(rows).reshape(len(rows), -1).any(1)
    if not recipe(name).holes and empty.any():
        raise checks.problem(
            "data",
            got=f"{int(empty.sum())} of {len(rows)} rows with blanks for {name}, whose likelihood needs whole rows",
            expected="complete rows",
            fix="Take vae, which is fitted to what is observed; or fit to the complete rows alone (a file of them) and "
            "complete the others by that run: deepgen impute RUN FILE.",
        )


def _objective(made: Recipe, settings: Settings) -> str:
    if made.objective is not None:
        return made.objective
    kind = capability(made.family, settings.engine, "log_prob").detail[0]
    if kind != "bound":
        return "log-likelihood" if kind == "exact" else "energy gap of persistent contrastive divergence"
    return "importance-weighted bound" if settings.network == "table" else "evidence lower bound"


def _share(rows: int) -> float:
    return 0.1 if rows >= FEWEST_FOR_VALIDATION else 0.0


def _shapes(folder: Path) -> dict[str, list[int]]:
    return files.read(folder)[0]["tensors"]


def _write_losses(path: Path, fit: Any) -> None:
    held = dict(zip(fit.validation_steps.tolist(), fit.validation_losses.tolist(), strict=True))
    lines = [f"{step},{loss:.9g},{held.get(step, '')}" for step, loss in enumerate(fit.losses.tolist(), start=1)]
    files.write_atomically(path, "\n".join(["step,loss,validation_loss", *lines, ""]).encode())
