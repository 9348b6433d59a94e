"""Checkpoints: a fit that was killed, really, ends where an undisturbed one ends; what is refused."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitting import FITTINGS, ROWS, Fitting, leaves

from deepgen.inference.svi import checkpoint as files
from deepgen.inference.svi.checkpoint import Checkpoint

engines = pytest.mark.parametrize("fitting", FITTINGS, ids=repr)
NUMPYRO, PYRO = FITTINGS
WAYS = ["from outside", "while writing"]
STEPS = {"from outside": 200_000, "while writing": 60}
CHANGED: dict[str, dict[str, Any]] = {"from outside": {"validation": 0.0}, "while writing": {}}


def options(path: Path, steps: int, validation: float = 0.2, resume: bool = True) -> dict[str, Any]:
    """Everything that has a state: minibatches, averages, a schedule of beta, validation, patience."""
    return {
        "steps": steps,
        "batch_size": 32,
        "chunk": 5,
        "ema": 0.9,
        "validation": validation,
        "patience": 100_000 if validation else None,
        "clip_norm": 5.0,
        "resume": resume,
        "checkpoint": Checkpoint(path, seconds=0.0),
    }


def fit(fitting: Fitting, path: Path, steps: int, seed: int = 0, **changed: Any) -> Any:
    objective = fitting.engine.ELBO(beta=fitting.room.Linear(30), free_bits=0.1)
    return fitting.fit(fitting.vae(), ROWS, objective=objective, seed=seed, **options(path, steps, **changed))


CHILD = """
import os, signal, sys
from pathlib import Path
import test_resume
fitting = {{str(f): f for f in test_resume.FITTINGS}}[{engine!r}]
if {way!r} == "while writing":
    replace, writes = os.replace, []
    def dying(*args):
        writes.append(args)
        if len(writes) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*args)
    os.replace = dying
test_resume.fit(fitting, Path({path!r}), {steps}, **{changed})
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Path]]:
    """Checkpoints that killed processes left: all of them run at the same time."""
    folder = tmp_path_factory.mktemp("killed")
    processes: dict[tuple[str, str], tuple[subprocess.Popen[bytes], Path]] = {}
    for fitting in FITTINGS:
        for way in WAYS:
            path = folder / f"{fitting} {way}.safetensors"
            code = CHILD.format(engine=repr(fitting), way=way, path=str(path), steps=STEPS[way], changed=CHANGED[way])
            process = subprocess.Popen(
                [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            )
            processes[repr(fitting), way] = process, path
    try:
        running = [found for (_, way), found in processes.items() if way == "from outside"]
        while running:
            time.sleep(0.02)
            for process, path in running.copy():
                assert process.poll() is None, "the child ended before it could be killed"
                if path.exists():
                    process.send_signal(signal.SIGKILL)
                    running.remove((process, path))
        for process, _ in processes.values():
            assert process.wait(timeout=300) == -signal.SIGKILL
        yield {key: path for key, (_, path) in processes.items()}
    finally:
        for process, _ in processes.values():
            process.kill()
            process.wait()


@engines
@pytest.mark.parametrize("way", WAYS)
def test_killed_fit_ends_where_an_undisturbed_one_ends(
    fitting: Fitting, way: str, killed: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    path = killed[repr(fitting), way]
    reached = len(files.read(path)[0]["losses"])
    assert reached % 5 == 0
    if way == "while writing":
        assert reached == 15
        assert any(left.name.startswith(f".{path.name}.") for left in path.parent.iterdir())
    # Without validation, how many steps there will be is no part of what a fit is, and may change when it is resumed.
    steps = STEPS[way] if CHANGED[way] == {} else reached + 23
    places = path, tmp_path / "undisturbed.safetensors"
    resumed, undisturbed = (fit(fitting, place, steps, **CHANGED[way]) for place in places)
    np.testing.assert_array_equal(resumed.losses, undisturbed.losses)
    np.testing.assert_array_equal(resumed.validation_losses, undisturbed.validation_losses)
    for one, other in zip(leaves(resumed.params), leaves(undisturbed.params), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(left.name.startswith(f".{path.name}.") for left in path.parent.iterdir())


@engines
def test_state_forgotten_by_the_checkpoint_would_be_seen(
    fitting: Fitting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = fit(fitting, tmp_path / "whole.safetensors", 23, validation=0.0)
    path = tmp_path / "parts.safetensors"
    fit(fitting, path, 10, validation=0.0)
    trainer = importlib.import_module(f"deepgen.inference.svi.{fitting.engine.name}.trainer").Trainer
    load = trainer.load

    def forgetful(self: Any, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        forgotten = ".mu" if fitting is NUMPYRO else "exp_avg"
        assert any(name.partition("[")[0].endswith(forgotten) or forgotten in name for name in arrays)
        load(self, {name: 0 * array if forgotten in name else array for name, array in arrays.items()}, meta)

    monkeypatch.setattr(trainer, "load", forgetful)
    broken = fit(fitting, path, 23, validation=0.0)
    pairs = zip(leaves(broken.params), leaves(undisturbed.params), strict=True)
    assert any(not np.array_equal(one, other) for one, other in pairs)


@engines
def test_finished_fit_returns_at_once(fitting: Fitting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / "fit.safetensors"
    first = fit(fitting, path, 10)
    trainer = importlib.import_module(f"deepgen.inference.svi.{fitting.engine.name}.trainer").Trainer
    monkeypatch.setattr(trainer, "advance", lambda self, count: pytest.fail("a finished fit went on"))
    again = fit(fitting, path, 10)
    np.testing.assert_array_equal(first.losses, again.losses)
    for one, other in zip(leaves(first.params), leaves(again.params), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="steps: 10 there, 5 here"):
        fit(fitting, path, 5)
    monkeypatch.undo()
    fit(fitting, path, 10, validation=0.0, resume=False)
    with pytest.raises(ValueError, match=r"steps: got 5, and the checkpoint .* is at step 10"):
        fit(fitting, path, 5, validation=0.0)


@engines
def test_another_fits_checkpoint_is_refused(fitting: Fitting, tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    program = fitting.vae()

    def run(data: Any = ROWS, **changed: Any) -> Any:
        return fitting.fit(program, data, **{"steps": 4, "batch_size": 32, "checkpoint": path, **changed})

    run()
    with pytest.raises(ValueError, match=r"checkpoint of another fit .batch_size: 32 there, 40 here.*resume=False"):
        run(batch_size=40)
    with pytest.raises(ValueError, match=r"learning_rate: 'None' there, '0\.1' here"):
        run(learning_rate=0.1)
    with pytest.raises(ValueError, match=r"data: .* there, .* here"):
        run(ROWS + 1)
    with pytest.raises(
        ValueError, match=r"ema: None there, 0\.5 here; objective: .*beta=1\.0.* there, .*beta=2\.0.* here"
    ):
        run(ema=0.5, objective=fitting.engine.ELBO(beta=2.0))
    assert run(batch_size=40, resume=False).steps == 4
    assert run(batch_size=40).steps == 4


def test_numpyro_key_is_part_of_the_fit(tmp_path: Path) -> None:
    fit(NUMPYRO, tmp_path / "fit.safetensors", 5)
    with pytest.raises(ValueError, match=r"rng_key: .* there, .* here"):
        fit(NUMPYRO, tmp_path / "fit.safetensors", 5, seed=1)


def test_pyro_takes_up_the_generator_it_left(tmp_path: Path) -> None:
    def run(name: str, steps: int, seed: int) -> Any:
        beta = PYRO.engine.ELBO(beta=0.5)
        path = tmp_path / name
        return PYRO.fit(PYRO.vae(), ROWS, steps=steps, seed=seed, objective=beta, validation=0.2, checkpoint=path)

    run("parts", 5, seed=0)
    resumed = run("parts", 10, seed=1)
    np.testing.assert_array_equal(resumed.losses, run("whole", 10, seed=0).losses)


def test_pyro_scheduler_and_buffers_are_resumed(tmp_path: Path) -> None:
    def make(params: list[torch.Tensor]) -> Any:
        optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9)
        return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3)

    def run(name: str, steps: int) -> Any:
        pair = PYRO.climb(lambda a, x: (a - x.sum()) ** 2)
        return PYRO.fit(pair, np.ones(1), steps=steps, optimizer=make, checkpoint=tmp_path / name)

    run("parts", 4)
    assert float(run("parts", 9).params["a"]) == float(run("whole", 9).params["a"])


@engines
@pytest.mark.parametrize("content", [b"", b"no tensors here", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_damaged_checkpoint_is_refused(fitting: Fitting, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "fit.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged or no checkpoint of a fit.*resume=False"):
        fit(fitting, tmp_path / "fit.safetensors", 5)


def test_cut_short_and_newer_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.safetensors"
    files.write(path, {"losses": np.zeros(3), "scalar": np.float32(2.0)}, {"fingerprint": {}})
    arrays, meta = files.read(path)
    assert arrays["scalar"].shape == ()
    assert meta == {"format": 1, "fingerprint": {}}
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="is damaged"):
        files.read(path)
    files.write(path, {}, json.loads('{"format": 9}'))
    with pytest.raises(ValueError, match="format 9, and this deepgen reads formats up to 1"):
        files.read(path)


@engines
def test_unusable_paths_are_refused(fitting: Fitting, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint: got the folder"):
        fit(fitting, tmp_path, 5)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to the folder"):
        fit(fitting, tmp_path / "file" / "fit.safetensors", 5)
    with pytest.raises(ValueError, match=r"seconds: got -1"):
        Checkpoint(tmp_path / "x", seconds=-1.0)


@engines
def test_checkpoints_are_written_rarely(fitting: Fitting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    write = files.write
    monkeypatch.setattr(files, "write", lambda path, *args: (written.append(path), write(path, *args)))
    pair = fitting.climb(lambda a, x: a**2, start=1.0)
    sgd = fitting.sgd(0.1)
    fitting.fit(pair, np.ones(1), steps=20, chunk=2, optimizer=sgd, checkpoint=Checkpoint(tmp_path / "a", seconds=1e6))
    assert len(written) == 1
    fitting.fit(pair, np.ones(1), steps=20, chunk=2, optimizer=sgd, checkpoint=Checkpoint(tmp_path / "b", seconds=0.0))
    assert len(written) == 11
