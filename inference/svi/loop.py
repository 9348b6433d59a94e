"""The host's side of a fit, the same for both engines: chunks, progress, early stopping, checkpoints, interruption."""

import signal
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from tqdm.auto import tqdm

from deepgen import checks
from deepgen.inference.svi import checkpoint as files
from deepgen.inference.svi.checkpoint import Checkpoint

Stopped = Literal["steps", "patience", "interrupted", "non-finite"]


@dataclass(frozen=True)
class Fit:
    """What a fit has found.

    Attributes:
        program: what was passed to `fit`, trained: a program of the same type, or the pair (model, guide) with its
            parameters substituted.
        params: by param site, the trained values, constrained as the sites declare.
        losses: (steps,) the objective at each step: nats per datum for a program, as the engine's SVI reports it for a
            user's pair.
        validation_steps: (evaluations,) after how many steps the validation loss was taken.
        validation_losses: (evaluations,) in the losses' units; empty without validation.
        steps: how many steps were taken.
        stopped: why it ended: ``"steps"``, ``"patience"``, ``"interrupted"`` or ``"non-finite"``.
        objective: what was minimised.
        diagnostics: what the objective measured at the last step of each chunk, by name, (chunks,) each, and
            ``"step"``; empty where it measures nothing.
    """

    program: Any = field(repr=False)
    params: dict[str, Any] = field(repr=False)
    losses: np.ndarray = field(repr=False)
    validation_steps: np.ndarray = field(repr=False)
    validation_losses: np.ndarray = field(repr=False)
    steps: int
    stopped: Stopped
    objective: Any
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


class NonFiniteLoss(FloatingPointError):
    """The loss or a gradient was infinite or NaN.

    Attributes:
        step: the step at which it happened, counted from 0.
        fit: the last good state: that before this step.
    """

    def __init__(self, step: int, fit: Fit) -> None:
        self.step = step
        self.fit = fit
        last = f"the loss was {fit.losses[-1]:.6g} before" if len(fit.losses) else "it was so from the start"
        super().__init__(
            f"the loss or its gradient is not finite at step {step} ({last}). Try a lower learning_rate, "
            "clip_norm=1.0, data scaled to unit variance, or a likelihood whose scale is bounded below; "
            "the parameters before this step are in the error's .fit."
        )


@runtime_checkable
class Scheduled(Protocol):
    """An objective that changes from step to step."""

    def at(self, step: Any) -> Any:
        """The objective at a step."""


@runtime_checkable
class Judging(Protocol):
    """An objective by which parameters are trained, but not judged."""

    def judging(self) -> Any:
        """The objective of held-out rows."""


@runtime_checkable
class Measuring(Protocol):
    """An objective that carries a state from step to step, of which it tells numbers.

    In NumPyro ``initial_state`` gives mutable sites, in Pyro it is a dictionary of tensors, ``state``.
    """

    def diagnostics(self, state: Any) -> dict[str, Any]:
        """Numbers by name, of the state after a step."""


@runtime_checkable
class Trainer(Protocol):
    """What an engine gives: the state of a fit, and how it moves on."""

    @property
    def step(self) -> int:
        """How many steps were taken."""

    def advance(self, count: int) -> tuple[np.ndarray, bool]:
        """Take up to ``count`` steps, none that is not finite; their losses, and whether all was finite."""

    def evaluate(self, snapshot: Any) -> float:
        """The validation loss of a snapshot."""

    def snapshot(self) -> Any:
        """The parameters as they would be returned (averaged, where EMA is on); later steps leave it alone."""

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The whole state, as arrays and JSON."""

    def load(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Take up the state that `save` gave."""

    def pack(self, snapshot: Any) -> dict[str, np.ndarray]:
        """A snapshot as arrays."""

    def unpack(self, arrays: dict[str, np.ndarray]) -> Any:
        """The snapshot that `pack` gave."""

    def diagnostics(self) -> dict[str, float]:
        """What the objective measured at the last step, by name; empty where it measures nothing."""

    def result(self, snapshot: Any) -> tuple[Any, dict[str, Any]]:
        """The trained program and the constrained parameters."""


def at(objective: Any, step: Any) -> Any:
    """The objective as it stands at a step: our own may follow a schedule, the engines' do not."""
    return objective.at(step) if isinstance(objective, Scheduled) else objective


def judging(objective: Any) -> Any:
    """What held-out rows are judged by: most often the objective itself."""
    return objective.judging() if isinstance(objective, Judging) else objective


class Settings(NamedTuple):
    """What the loop itself needs to know of a fit."""

    steps: int
    chunk: int
    validate: bool
    patience: int | None
    checkpoint: Checkpoint | None
    resume: bool
    progress: bool | None
    fingerprint: dict[str, Any]


def run(trainer: Trainer, settings: Settings, objective: Any) -> Fit:
    """Fit to the end, or until patience or the user's runs out.

    Args:
        trainer: the engine's state and steps.
        settings: the rest.
        objective: what is minimised, for the result.

    Returns:
        The fit.

    Raises:
        NonFiniteLoss: the loss or a gradient was not finite.
        ValueError: the checkpoint is of another fit, damaged, or further on than ``steps``.
    """
    losses: list[np.ndarray] = []
    validation: list[tuple[int, float]] = []
    measured: list[dict[str, float]] = []
    best: Any = None
    path = None if settings.checkpoint is None else files.prepare(settings.checkpoint)
    if path is not None and settings.resume and path.exists():
        losses, validation, best, measured = _load(path, trainer, settings)

    def result(stopped: Stopped) -> Fit:
        chosen = best if settings.patience is not None and best is not None else trainer.snapshot()
        program, params = trainer.result(chosen)
        return Fit(
            program=program,
            params=params,
            losses=np.concatenate([np.zeros(0), *losses]),
            validation_steps=np.array([step for step, _ in validation], dtype=np.int64),
            validation_losses=np.array([loss for _, loss in validation], dtype=np.float64),
            steps=trainer.step,
            stopped=stopped,
            objective=objective,
            diagnostics={name: np.array([each[name] for each in measured]) for name in (measured or [{}])[0]},
        )

    stopped: Stopped = "patience" if _out_of_patience(validation, settings.patience) else "steps"
    written = time.monotonic()
    disable = None if settings.progress is None else not settings.progress
    with (
        _Interrupt() as interrupt,
        tqdm(total=settings.steps, initial=trainer.step, disable=disable, unit="step") as bar,
    ):
        while trainer.step < settings.steps and stopped == "steps":
            # Chunks end at multiples of their size, wherever the fit was taken up.
            count = min(settings.chunk - trainer.step % settings.chunk, settings.steps - trainer.step)
            before = trainer.step
            values, finite = trainer.advance(count)
            losses.append(np.asarray(values, dtype=np.float64))
            if not finite:
                raise NonFiniteLoss(trainer.step, result("non-finite"))
            if found := trainer.diagnostics():
                measured.append({"step": trainer.step, **found})
            if settings.validate:
                snapshot = trainer.snapshot()
                loss = trainer.evaluate(snapshot)
                if settings.patience is not None and _improves(loss, validation):
                    best = snapshot
                validation.append((trainer.step, loss))
                if _out_of_patience(validation, settings.patience):
                    stopped = "patience"
            if interrupt.asked and trainer.step < settings.steps and stopped == "steps":
                stopped = "interrupted"
            bar.update(trainer.step - before)
            bar.set_postfix(
                {"loss": f"{values.mean():.5g}"} | ({"validation": f"{loss:.5g}"} if settings.validate else {})
            )
            due = stopped != "steps" or trainer.step == settings.steps
            if path is not None and settings.checkpoint is not None:
                due = due or time.monotonic() - written >= settings.checkpoint.seconds
                if due:
                    _save(path, trainer, settings, losses, validation, best, measured)
                    written = time.monotonic()
    if stopped == "interrupted":
        advice = "" if path is None else f" The same call resumes from {path}."
        warnings.warn(f"interrupted after {trainer.step} of {settings.steps} steps.{advice}", stacklevel=3)
    return result(stopped)


def tell(fit: Fit, data: Any) -> Fit:
    """Warn of what a program's own diagnosis says after a fit, such as a collapsed posterior.

    Args:
        fit: of a deepgen program.
        data: (n, *event_shape), of which up to 1000 rows are looked at.

    Returns:
        The fit as it is.
    """
    for warning in fit.program.diagnose(data[:1000]):
        warnings.warn(warning, stacklevel=3)
    return fit


def check_settings(
    *,
    steps: Any,
    batch_size: Any,
    learning_rate: Any,
    optimizer: Any,
    clip_norm: float | None,
    ema: float | None,
    validation: Any,
    patience: int | None,
    chunk: int,
) -> None:
    """Refuse the settings that no fit can have.

    Raises:
        ValueError: naming the argument.
        TypeError: a count that is no integer.
    """
    for name, value in (("steps", steps), ("chunk", chunk), ("patience", patience), ("batch_size", batch_size)):
        if value is None or (name == "batch_size" and value == "auto"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name}: got {value!r}; expected an integer >= 1. Pass one.")
        checks.positive(name, int(value))
    if optimizer is not None and learning_rate is not None:
        raise checks.problem(
            "learning_rate",
            got=f"{learning_rate!r} beside an optimizer",
            expected="one of the two",
            fix="Give the optimizer its own learning rate.",
        )
    if learning_rate is not None and not callable(learning_rate):
        checks.positive("learning_rate", learning_rate)
    if clip_norm is not None:
        checks.positive("clip_norm", clip_norm)
    if ema is not None and not 0 < ema < 1:
        raise checks.problem("ema", got=ema, expected="a decay in (0, 1), or None", fix="0.999 is usual.")
    share = isinstance(validation, int | float)
    if share and not 0 <= validation < 1:
        raise checks.problem(
            "validation",
            got=validation,
            expected="a share of the rows in [0, 1), or held-out data",
            fix="0.1 holds out a tenth.",
        )
    if patience is not None and share and validation == 0:
        raise checks.problem(
            "patience",
            got=f"{patience} without validation",
            expected="validation data to watch",
            fix="Pass e.g. validation=0.1.",
        )


class _Interrupt:
    """Turn the first interrupt into a flag that is read at the end of a chunk; the second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> "_Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        tqdm.write("Interrupted: stopping at the end of this chunk of steps. Interrupt again to stop at once.")


def _out_of_patience(validation: list[tuple[int, float]], patience: int | None) -> bool:
    values = np.array([np.inf if np.isnan(loss) else loss for _, loss in validation])
    return patience is not None and values.size > 0 and values.size - 1 - int(np.argmin(values)) >= patience


def _improves(loss: float, validation: list[tuple[int, float]]) -> bool:
    return bool(loss < min((value for _, value in validation if not np.isnan(value)), default=np.inf))


def _save(
    path: Path,
    trainer: Trainer,
    settings: Settings,
    losses: list[np.ndarray],
    validation: list[tuple[int, float]],
    best: Any,
    measured: list[dict[str, float]],
) -> None:
    arrays, meta = trainer.save()
    content = {f"state:{name}": array for name, array in arrays.items()}
    content["losses"] = np.concatenate([np.zeros(0), *losses])
    if best is not None:
        content.update({f"best:{name}": array for name, array in trainer.pack(best).items()})
    said = {"fingerprint": settings.fingerprint, "validation": validation, "measured": measured, "state": meta}
    files.write(path, content, said)


def _load(
    path: Path, trainer: Trainer, settings: Settings
) -> tuple[list[np.ndarray], list[tuple[int, float]], Any, list[dict[str, float]]]:
    arrays, meta = files.read(path)
    files.check_same(path, meta["fingerprint"], settings.fingerprint)
    if len(arrays["losses"]) > settings.steps:
        raise checks.problem(
            "steps",
            got=f"{settings.steps}, and the checkpoint {path} is at step {len(arrays['losses'])}",
            expected="at least as many",
            fix="Pass more steps, another path, or resume=False to start afresh.",
        )

    def part(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    trainer.load(part("state:"), meta["state"])
    best = trainer.unpack(part("best:")) if part("best:") else None
    watched = [(step, loss) for step, loss in meta["validation"]]
    return [arrays["losses"]], watched, best, meta.get("measured", [])
