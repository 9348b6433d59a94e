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
from deepgen.cli.engine import Engine
from deepgen.cli.refusals import INTERRUPTED
from deepgen.cli.sources import Settings, default_likelihood
from deepgen.program import files

CHECKPOINT, LOSSES = "fit.safetensors", "losses.csv"
CHUNK = 100
HIDDEN, LATENTS, PATIENCE = (128, 128), 8, 5
_OBJECTIVES = {False: "evidence lower bound", True: "importance-weighted bound"}
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
    train: np.ndarray,
    validation: np.ndarray | None,
    support: str,
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
        train: (n, *event_shape), NaN where missing.
        validation: rows to watch, or None to hold out a tenth of ``train`` (nothing of fewer than twenty rows).
        support: where the data lie.
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
        fit, law = _fit_table(engine, settings, train, kinds, common), "of each column's kind"
    else:
        law = settings.likelihood or default_likelihood(support)
        fit = _fit(engine, settings, train, validation, law, common)
    engine.save(fit.program, folder)
    _write_losses(folder / LOSSES, fit)
    holes = int(np.isnan(train).sum())
    said = {
        "steps": fit.steps,
        "stopped": fit.stopped,
        "rows": len(train),
        "missing_share": holes / train.size,
        "objective": _OBJECTIVES[settings.network == "table"] + (" of the observed entries" if holes else ""),
        "likelihood_law": law,
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
    train: np.ndarray,
    validation: np.ndarray | None,
    law: str,
    common: dict[str, Any],
) -> Any:
    options: dict[str, Any] = {} if settings.network == "conv" else {"hidden": settings.hidden or HIDDEN}
    program = engine.build(
        settings.family,
        settings.network,
        train.shape[1:],
        latent_dim=settings.latent_dim or LATENTS,
        likelihood=law,
        data=train,
        **options,
    )
    watched = validation if validation is not None and len(validation) else _share(len(train))
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


def _share(rows: int) -> float:
    return 0.1 if rows >= FEWEST_FOR_VALIDATION else 0.0


def _shapes(folder: Path) -> dict[str, list[int]]:
    return files.read(folder)[0]["tensors"]


def _write_losses(path: Path, fit: Any) -> None:
    held = dict(zip(fit.validation_steps.tolist(), fit.validation_losses.tolist(), strict=True))
    lines = [f"{step},{loss:.9g},{held.get(step, '')}" for step, loss in enumerate(fit.losses.tolist(), start=1)]
    files.write_atomically(path, "\n".join(["step,loss,validation_loss", *lines, ""]).encode())
