"""The commands: what they list, what they refuse, and what an interrupt leaves."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arviz as az
import jax
import numpy as np
import pytest
import torch
import xarray as xr
from commanding import ENGINES, TINY, call, csv_path, digits_run, done, table_run

from deepgen import data, evaluation
from deepgen.cli import run as job
from deepgen.cli.engine import Engine, place


def test_list_says_what_works_and_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPGEN_DATA", raising=False)
    shown = done("list").stdout
    assert re.search(r"vae +pyro +yes +yes +bound +asymptotically exact", shown)
    assert re.search(r"digits +available", shown)
    assert re.search(r"mnist +not here; put into mnist/ in the folder DEEPGEN_DATA: four IDX files", shown)
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "airquality.csv").write_text("a\n1\n")
    monkeypatch.setenv("DEEPGEN_DATA", str(tmp_path))
    assert re.search(r"missing/<table> +available in .*missing: airquality", done("list").stdout)


def test_help_and_list_import_no_engine() -> None:
    code = (
        "import sys; from deepgen.cli import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, sys.argv[1:]).exit_code == 0; "
        "heavy = {'jax', 'torch', 'numpyro', 'pyro', 'pandas', 'sklearn', 'matplotlib', 'arviz'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    for arguments in (["list"], ["run", "--help"]):
        shown = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert shown.stdout.strip() == "[]", shown.stderr


@pytest.fixture
def default_devices() -> Iterator[None]:
    """Where the engines compute is left as it was found."""
    yield
    torch.set_default_device(None)
    jax.config.update("jax_default_device", None)


@pytest.mark.parametrize("name", ENGINES)
def test_a_device_is_where_all_is_made(name: str, digits_run: Path, default_devices: None) -> None:
    commands = [
        ["run", "vae", "digits"],
        ["fit", "vae", "digits"],
        ["impute", "vae", "x.csv"],
        ["sample", digits_run],
        ["evaluate", digits_run],
    ]
    for command in commands:
        shown = call(*command, "--engine", name, "--device", "gpu7")
        assert shown.exit_code == 2
        assert re.search(r"device: got 'gpu7' \(.*gpu7.*\); expected a device that (numpyro|pyro) has", shown.stderr)
    place(name, None)
    assert jax.config.jax_default_device is None
    assert torch.get_default_device() == torch.device("cpu")
    if name == "pyro":
        place(name, "meta")
        assert torch.zeros(1).device.type == "meta"
        torch.set_default_device(None)
    done("sample", digits_run, "-n", "2", "--engine", name, "--device", "cpu", "--out", digits_run / "two.npz")
    assert len(np.load(digits_run / "two.npz")["x"]) == 2
    assert name == "pyro" or jax.config.jax_default_device == jax.devices("cpu")[0]


def interrupt_after(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the user pressed Ctrl-C while that chunk of a Pyro fit ran."""
    trainer = importlib.import_module("deepgen.inference.svi.pyro.trainer").Trainer
    advance, seen = trainer.advance, []

    def interrupted(self: Any, count: int) -> Any:
        seen.append(count)
        if len(seen) == chunks:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self, count)

    monkeypatch.setattr(trainer, "advance", interrupted)


def test_an_interrupted_fit_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["fit", "vae", "iris", "--engine", "pyro", *TINY, "--steps", "300"]
    done(*arguments, "--out", tmp_path / "whole")
    with monkeypatch.context() as patched:
        interrupt_after(1, patched)
        result = call(*arguments, "--out", tmp_path / "cut")
    assert result.exit_code == 130
    assert "Interrupted after 100 of 300 steps" in result.stderr
    assert "The same command resumes" in result.stderr
    assert {"fit.safetensors", "program.json", "losses.csv"} <= {path.name for path in (tmp_path / "cut").iterdir()}
    other = call(*arguments, "--learning-rate", "0.01", "--out", tmp_path / "cut")
    assert other.exit_code == 2
    assert "--no-resume" in other.stderr
    assert "resuming from" in done(*arguments, "--out", tmp_path / "cut").stderr
    assert (tmp_path / "cut" / "losses.csv").read_text() == (tmp_path / "whole" / "losses.csv").read_text()
    whole, cut = ((tmp_path / name / "params.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert not (tmp_path / "cut" / "fit.safetensors").exists()


def test_an_interrupt_elsewhere_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    from deepgen.cli import commands

    monkeypatch.setattr(commands, "listing", stop)
    result = call("list")
    assert result.exit_code == 130
    assert result.stderr.startswith("Interrupted. What was written stays")


def ragged(path: Path) -> Path:
    path.write_text("a,b\n1,2\n3\n")
    return path


def file_in_the_way(path: Path) -> Path:
    path.write_text("")
    return path / "folder"


REFUSALS: list[tuple[Callable[[Path, Path, Path, Path], list[Any]], str]] = [
    (lambda t, c, d, s: ["run", "van", "digits"], r"family: got 'van'.*Did you mean 'vae'\?"),
    (lambda t, c, d, s: ["fit", "van", "digits"], r"family: got 'van'.*Did you mean 'vae'\?"),
    (lambda t, c, d, s: ["run", "vae", "digit"], r"data set: got 'digit'.*Did you mean 'digits'\?"),
    (lambda t, c, d, s: ["run", "vae", "nope.csv"], "there is no such file"),
    (lambda t, c, d, s: ["fit", "vae", ragged(t / "r.csv")], "line 3: got 1 cells; expected 2"),
    (lambda t, c, d, s: ["impute", "vae", ragged(t / "r.csv")], "line 3: got 1 cells; expected 2"),
    (lambda t, c, d, s: ["run", "vae", "digits", "-o", file_in_the_way(t / "f")], "cannot write to the folder"),
    (lambda t, c, d, s: ["run", "vae", "digits", "--missing", "1.5", "-o", t], "missing: got 1.5"),
    (lambda t, c, d, s: ["run", "vae", "digits", "--missing", "0", "-o", t], "missing: got 0.0.*hides something"),
    (lambda t, c, d, s: ["run", "vae", "digits", "--method", "magic", "-o", t, *TINY], "method: got 'magic'"),
    (lambda t, c, d, s: ["fit", "vae", "iris", "--likelihood", "gauss", "-o", t], "likelihood: got 'gauss'"),
    (lambda t, c, d, s: ["fit", "vae", "iris", "--network", "conv", "-o", t], r"event_shape: got \(4,\)"),
    (lambda t, c, d, s: ["fit", "vae", "iris", "--learning-rate", "-1", "-o", t], "learning_rate: got -1"),
    (lambda t, c, d, s: ["impute", "va", c], r"target: got 'va'.*Did you mean 'vae'\?"),
    (lambda t, c, d, s: ["impute", t, c], "program.json is missing there"),
    (lambda t, c, d, s: ["impute", "vae", c, "--drop", "hight"], r"drop: got the unknown columns \['hight'\]"),
    (lambda t, c, d, s: ["impute", "vae", c, "-o", c], "out: got the input"),
    (lambda t, c, d, s: ["impute", "vae", c, "-o", t / "a.npz"], "expected the ending a table's"),
    (lambda t, c, d, s: ["impute", "vae", "digits"], "got 'digits'; expected a file with blanks"),
    (lambda t, c, d, s: ["impute", d, c], "was not fitted to a table"),
    (lambda t, c, d, s: ["impute", s, c, "--steps", "5"], r"options: got \['--steps'\] with the fitted program"),
    (lambda t, c, d, s: ["impute", s, c, "--draws", "2", "-o", t / "a.csv"], "draws: got 8 of each cell"),
    (lambda t, c, d, s: ["sample", t], "no program in"),
    (lambda t, c, d, s: ["sample", d, "-o", t / "a.csv"], r"expected a path ending in one of \['.npz'\]"),
    (lambda t, c, d, s: ["evaluate", t], "no program in"),
    (lambda t, c, d, s: ["evaluate", d, c], "a program that was not fitted to a table"),
    (lambda t, c, d, s: ["evaluate", d, "iris"], r"x: got shape \(30, 4\)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS)
def test_refusals_are_one_line_and_exit_2(
    arguments: Callable[..., list[Any]], message: str, tmp_path: Path, csv_path: Path, digits_run: Path, table_run: Path
) -> None:
    given = arguments(tmp_path, csv_path, digits_run, table_run)
    pyro = ["--engine", "pyro"] if "nope" not in str(given) else []
    result = call(*given, *pyro)
    assert result.exit_code == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_where() -> None:
    for arguments in (["--debug", "run", "van", "digits"], ["run", "van", "digits", "--debug"]):
        assert isinstance(call(*arguments).exception, ValueError)


def copied(run: Path, to: Path) -> Path:
    to.mkdir()
    for path in run.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_programs_of_other_families_are_refused(digits_run: Path, tmp_path: Path) -> None:
    folder = copied(digits_run, tmp_path / "other")
    notes = json.loads((folder / "run.json").read_text())
    notes["settings"]["family"] = "flow"
    (folder / "run.json").write_text(json.dumps(notes))
    assert "family of" in call("sample", folder, "--engine", "pyro").stderr
    (folder / "run.json").unlink()
    assert "so the data set is not known" in call("evaluate", folder, "--engine", "pyro").stderr
    (folder / "run.json").write_text("{")
    assert "is cut short or no description of a run" in call("sample", folder, "--engine", "pyro").stderr


@pytest.mark.parametrize("name", ENGINES)
def test_a_missing_engine_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"deepgen.{name}", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        Engine(name, 0)
    other = next(engine for engine in ENGINES if engine != name)
    said = f'{name} needs {name}, which is not installed: pip install "deepgen[{name}]". Or pass --engine {other}.'
    assert str(caught.value) == said


def test_streams_are_named_after_their_purpose() -> None:
    engine = Engine("pyro", 0)
    program = engine.build("vae", "mlp", (3,), latent_dim=2, hidden=(4,), likelihood="gaussian")
    first = engine.sample(program, 4)
    engine.reconstruct(program, first)
    assert (engine.sample(program, 4) == first).all()
    assert (engine.sample(program, 4, "another") != first).all()
    assert (Engine("pyro", 1).sample(program, 4) != first).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fit_to_data_with_holes_minimises_the_bound_of_what_is_observed(engine: str) -> None:
    # The first loss is one draw of minus the bound's mean over rows; its sd is that of the rows' log weights / sqrt(n).
    # Five of them: a failure rate below 1e-5. The planted fault, zeros in the holes taken for data, is far outside.
    rng = np.random.default_rng(0)
    x = (3 + rng.standard_normal((400, 5))).astype(np.float32)
    observed = data.mcar(x, 0.4, seed=1)
    face = Engine(engine, 0)
    program = face.build("vae", "mlp", (5,), latent_dim=2, hidden=(8,), likelihood="gaussian", data=x)
    found = face.fit(program, data.hide(x, observed), steps=1, batch_size=None, progress=False)

    def bound(x: np.ndarray, observed: np.ndarray | None) -> tuple[float, float]:
        weights = importlib.import_module(f"deepgen.inference.likelihood.{engine}").log_weights
        if engine == "numpyro":
            import jax

            mask = None if observed is None else jax.numpy.asarray(observed)
            _, log_w = weights(jax.random.key(3), program, jax.numpy.asarray(x), mask, 200)
        else:
            import torch

            with torch.no_grad():
                mask = None if observed is None else torch.as_tensor(observed)
                _, log_w = weights(program, torch.as_tensor(x), mask, 200)
        log_w = np.asarray(log_w)
        return float(log_w.mean()), float(np.sqrt((log_w.var(0).mean()) / len(x)))

    value, sd = bound(data.hide(x, observed), observed)
    wrong, _ = bound(np.where(observed, x, 0), None)
    assert abs(found.losses[0] + value) < 5 * sd
    assert abs(found.losses[0] + wrong) > 5 * sd
    before, after = (face.log_prob(p, x, num_particles=8).value for p in (program, found.program))
    assert (before != after).any()


def test_pit_histogram_is_flat_for_exact_draws_only() -> None:
    # 20 bins, by rows: a bin's deviation beyond 4.5 standard errors has a probability of 1e-5.
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((600, 8))
    observed = rng.random(truth.shape) < 0.5

    def worst(scale: float) -> float:
        draws = np.where(observed, truth, scale * rng.standard_normal((1, 99, *truth.shape)))
        found = job.pit_histogram(evaluation.posterior_of(draws, observed), truth, seed=0)
        assert np.isclose(np.mean(found["density"]), 1)
        return float(np.max(np.abs(np.array(found["density"]) - 1) / np.array(found["stderr"])))

    assert worst(1.0) < 4.5
    assert worst(0.7) > 4.5


def test_chains_that_cannot_be_compared_have_no_r_hat() -> None:
    def said(values: list[float]) -> dict[str, Any]:
        posterior = evaluation.posterior_of(np.zeros((1, 4, 2, 3)), np.zeros((2, 3), bool))
        stats = xr.Dataset({"r_hat": ("row", np.array(values))})
        return job.sampler(az.InferenceData(posterior=posterior["posterior"], sample_stats=stats))

    assert said([np.nan, np.nan])["r_hat"] is None
    found = said([np.nan, np.inf])["r_hat"]
    assert job.plain(found) == {"median": None, "largest": None, "threshold": 1.1, "rows_above": 1}
    assert said([1.0, 1.5])["r_hat"] == {"median": 1.25, "largest": 1.5, "threshold": 1.1, "rows_above": 1}


def test_json_is_strict() -> None:
    value = {"a": np.float32(0.5), 2: [np.nan, np.int64(3), -np.inf], "t": (True, None, "x")}
    assert job.plain(value) == {"a": 0.5, "2": [None, 3, None], "t": [True, None, "x"]}
