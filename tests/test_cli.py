"""The commands, in both engines, at tiny settings: what they write, what they print, and what they refuse."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from deepgen import data, evaluation
from deepgen.cli import app
from deepgen.cli import engine as engines
from deepgen.cli import run as job
from deepgen.cli.engine import Engine
from deepgen.cli.sources import read_notes
from deepgen.evaluation import read_posterior

ENGINES = ("numpyro", "pyro")
TINY = ["--steps", "30", "--hidden", "16", "--latent-dim", "2", "--no-progress"]
FEW = ["--draws", "12", "--warmup", "10", "--particles", "8"]
SLOW_IN_JAX = [pytest.param("numpyro", marks=pytest.mark.slow), "pyro"]


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: Any) -> Any:
    result = call(*arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    return result


def table_text(rows: int = 60, seed: int = 0) -> tuple[str, pd.DataFrame]:
    """A CSV with blanks in every kind of column, written as people write them, and the complete cells."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(rows)
    frame = pd.DataFrame(
        {
            "height": [f"{value:.3e}" for value in z + 0.3 * rng.standard_normal(rows)],
            "age": [str(value) for value in (40 + 8 * z + 2 * rng.standard_normal(rows)).round().astype(int)],
            "price": [f"{value:.2f}" for value in 5 - z + 0.3 * rng.standard_normal(rows)],
            "town": np.where(z < -0.5, '"North, A"', np.where(z < 0.5, "South", "West")),
            "member": np.where(z + 0.3 * rng.standard_normal(rows) > 0, "True", "False"),
        }
    )
    blank = rng.random(frame.shape) < 0.2
    blank[:, 4] = False
    shown = frame.mask(blank, "")
    lines = [",".join(frame.columns), *(",".join(row) for row in shown.to_numpy())]
    return "\n".join(lines) + "\n", frame.map(lambda cell: cell.strip('"'))


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "my.csv"
    path.write_text(table_text()[0])
    return path


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    done("run", "vae", "digits", "--engine", "pyro", "--out", folder, "--rows", "12", *TINY, *FEW)
    return folder


@pytest.fixture(scope="module")
def table_run(tmp_path_factory: pytest.TempPathFactory, csv_path: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "table"
    done("fit", "vae", csv_path, "--engine", "pyro", "--out", folder, *TINY)
    return folder


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


SCORE = {"value", "stderr"}


def check_metrics(metrics: dict[str, Any]) -> None:
    """The promises of ``metrics.json``."""
    assert set(metrics) == {
        *("format", "settings", "plan", "data", "fit", "log_prob", "imputation", "calibration", "pit", "sampler"),
        *("predictive_checks", "active_units", "versions", "timing"),
    }
    assert metrics["log_prob"]["kind"] == "bound"
    for score in ("mean", "bits_per_dim"):
        assert set(metrics["log_prob"][score]) == SCORE
    errors = metrics["imputation"]["errors"]
    assert {metrics["imputation"]["own"], "mean", "knn", "iterative", "gaussian"} <= set(errors)
    for error in errors.values():
        assert set(error["rmse"]) == set(error["crps"]) == SCORE
        assert error["rmse"]["stderr"] > 0
        assert error["coverage"] is None or set(error["coverage"]) == {"0.5", "0.9", "0.95"}
    for curve in metrics["calibration"].values():
        assert set(curve) == {"nominal", "empirical", "stderr"}
    assert {"statistic", "observed", "replicated", "sd", "p_value", "stderr"} == set(metrics["predictive_checks"][0])
    assert {"import", "fit", "impute"} <= set(metrics["timing"])


def test_run_writes_all_that_it_promises(digits_run: Path) -> None:
    names = {path.name for path in digits_run.iterdir()}
    assert names == {
        *("program.json", "params.safetensors", "run.json", "losses.csv"),
        *("posterior.nc", "metrics.json", "report.html"),
    }
    metrics = metrics_of(digits_run)
    check_metrics(metrics)
    posterior = read_posterior(digits_run / "posterior.nc")
    assert dict(posterior.posterior["x"].sizes) == {"chain": 4, "draw": 12, "row": 12, "x_dim_0": 64}
    test = data.load("digits", seed=0).test[:12]
    observed = posterior.constant_data["observed"].values.astype(bool)
    assert (posterior.posterior["x"].values[:, :, observed] == test[observed]).all()
    assert 0.4 < observed.mean() < 0.6
    losses = pd.read_csv(digits_run / "losses.csv")
    assert list(losses.columns) == ["step", "loss", "validation_loss"]
    assert len(losses) == metrics["fit"]["steps"] == 30


def test_run_is_repeatable_by_its_seed(digits_run: Path, tmp_path: Path) -> None:
    def again(seed: int, name: str) -> dict[str, Any]:
        arguments = ["--engine", "pyro", "--rows", "12", "--seed", seed, "--out", tmp_path / name]
        done("run", "vae", "digits", *arguments, *TINY, *FEW)
        return {key: value for key, value in metrics_of(tmp_path / name).items() if key != "timing"}

    first = {key: value for key, value in metrics_of(digits_run).items() if key != "timing"}
    assert again(0, "same") == first
    other = again(1, "other")
    assert other["log_prob"] != first["log_prob"]
    assert other["imputation"]["errors"]["mean"] != first["imputation"]["errors"]["mean"]


def test_run_in_numpyro_on_a_table(tmp_path: Path) -> None:
    shown = done("run", "vae", "wine", "--out", tmp_path, "--rows", "10", *TINY, *FEW)
    check_metrics(metrics_of(tmp_path))
    assert "iterative draws" in metrics_of(tmp_path)["imputation"]["errors"]
    assert "a lower bound of the log-likelihood, k = 8 (not the likelihood itself)" in shown.stdout
    assert "±" in shown.stdout
    assert list(read_posterior(tmp_path / "posterior.nc").posterior["column"].values[:2]) == ["alcohol", "malic_acid"]


def test_run_by_importance_resampling(tmp_path: Path) -> None:
    arguments = ["--engine", "pyro", "--method", "sir", "--particles", "64", "--draws", "12", "--rows", "8"]
    done("run", "vae", "iris", "--missing", "0.3", "--out", tmp_path, *arguments, *TINY)
    metrics = metrics_of(tmp_path)
    assert metrics["imputation"]["options"] == {"num_samples": 48, "num_particles": 64}
    assert metrics["sampler"]["r_hat"] is None
    assert metrics["sampler"]["pareto_k"]["rows_above"] >= 0
    assert "Pareto k" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_run_as_a_process_at_its_defaults(engine: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deepgen.cli", "run", "vae", "digits", "--engine", engine]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "vae-digits"
    metrics = metrics_of(folder)
    check_metrics(metrics)
    errors = metrics["imputation"]["errors"]
    assert errors[f"vae ({engine})"]["crps"]["value"] < 0.9 * min(
        error["crps"]["value"] for name, error in errors.items() if name != f"vae ({engine})"
    )
    assert abs(errors[f"vae ({engine})"]["coverage"]["0.9"]["value"] - 0.9) < 0.05
    assert (folder / "posterior.nc").stat().st_size < 50e6


@pytest.mark.parametrize("engine", SLOW_IN_JAX)
def test_sample_writes_arrays_and_a_sheet(engine: str, digits_run: Path, tmp_path: Path) -> None:
    shown = done("sample", digits_run, "-n", "5", "-o", tmp_path / "s.npz", "--engine", engine)
    assert shown.stdout.split() == [str(tmp_path / "s.npz"), str(tmp_path / "s.png")]
    first = arrays(tmp_path / "s.npz")["x"]
    assert first.shape == (5, 1, 8, 8)
    from matplotlib.image import imread

    # 3 columns and 2 rows of 8 pixels and the lines between them, 8 times as large
    assert imread(tmp_path / "s.png").shape[:2] == (8 * 17, 8 * 26)
    done("sample", digits_run, "-n", "5", "-o", tmp_path / "t.npz", "--engine", engine)
    assert (arrays(tmp_path / "t.npz")["x"] == first).all()
    done("sample", digits_run, "-n", "5", "-o", tmp_path / "u.npz", "--engine", engine, "--seed", "1")
    assert (arrays(tmp_path / "u.npz")["x"] != first).all()


def test_sample_of_a_table_is_a_table(table_run: Path, tmp_path: Path) -> None:
    done("sample", table_run, "-n", "7", "-o", tmp_path / "s.csv", "--engine", "pyro")
    frame = pd.read_csv(tmp_path / "s.csv")
    assert list(frame.columns) == ["height", "age", "price", "town", "member"]
    assert len(frame) == 7
    assert frame["age"].dtype.kind == "i"
    assert set(frame["town"]) <= {"North, A", "South", "West"}


@pytest.mark.parametrize("engine", SLOW_IN_JAX)
def test_evaluate_prints_a_bound_with_its_error(engine: str, digits_run: Path) -> None:
    shown = done("evaluate", digits_run, "--engine", engine, "--particles", "8").stdout
    assert "359 rows: the held-out rows of digits" in shown
    assert re.search(r"-?\d[\d.]* ± [\d.]+ nats per row: a lower bound of the log-likelihood, k = 8", shown)
    assert re.search(r"-?\d[\d.]* ± [\d.]+ upper bound of bits per dimension", shown)
    said = json.loads(done("evaluate", digits_run, "--engine", engine, "--particles", "8", "--json").stdout)
    assert said["kind"] == "bound"
    assert f"{evaluation.Estimate(**said['mean'])} nats per row" in shown


def test_evaluate_takes_other_data(digits_run: Path, table_run: Path, csv_path: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=data.load("digits", seed=0).test[:4].reshape(4, 1, 8, 8))
    few = ["--engine", "pyro", "--particles", "8"]
    assert "4 rows" in done("evaluate", digits_run, tmp_path / "x.npz", *few).stdout
    assert "60 rows" in done("evaluate", table_run, csv_path, *few).stdout
    assert "held-out rows of digits" in done("evaluate", digits_run, "digits", *few).stdout


def check_completed(path: Path, completed: Path) -> pd.DataFrame:
    """Observed cells as they were, byte for byte, every blank filled, an interval for each."""
    before = pd.read_csv(path, dtype=str, keep_default_na=False)
    after = pd.read_csv(completed, dtype=str, keep_default_na=False)
    blank = (before == "").to_numpy()
    assert list(after.columns) == list(before.columns)
    assert (after.to_numpy()[~blank] == before.to_numpy()[~blank]).all()
    assert (after.to_numpy()[blank] != "").all()
    listed = pd.read_csv(completed.with_name(f"{completed.name.partition('.')[0]}.intervals.csv"))
    assert list(listed.columns) == ["row", "column", "value", "mean", "sd", "lower", "upper", "probability"]
    rows, columns = np.nonzero(blank)
    assert listed["row"].tolist() == (rows + 1).tolist()
    assert listed["column"].tolist() == before.columns[columns].tolist()
    assert listed["value"].astype(str).tolist() == [after.iat[r, c] for r, c in zip(rows, columns, strict=True)]
    numeric = listed["column"].isin(["height", "age", "price"])
    assert listed.loc[numeric, ["mean", "sd", "lower", "upper"]].notna().all(axis=None)
    assert (listed.loc[numeric, "lower"] <= listed.loc[numeric, "upper"]).all()
    assert listed.loc[~numeric, "probability"].between(0, 1).all()
    assert listed.loc[numeric, "probability"].isna().all()
    return listed


@pytest.mark.parametrize("engine", SLOW_IN_JAX)
def test_impute_completes_a_table(engine: str, csv_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "completed.csv"
    shown = done("impute", "vae", csv_path, "-o", out, "--engine", engine, *TINY, *FEW)
    assert "bound of their observed entries (values taken for missing at random)" in shown.stdout
    check_completed(csv_path, out)
    posterior = read_posterior(tmp_path / "completed.nc")
    assert "by the bound of their observed entries" in posterior.attrs["fitted"]
    before = pd.read_csv(csv_path)
    rows = posterior.posterior["row"].values - 1
    assert rows.tolist() == np.flatnonzero(before.isna().any(axis=1)).tolist()
    heights = posterior.posterior["x"].sel(column="height").values
    given = before["height"].to_numpy()[rows]
    assert (heights[:, :, ~np.isnan(given)] == given[~np.isnan(given)]).all()
    # the program stays, and serves other tables; it has seen all rows, so it cannot be judged by them
    assert read_notes(tmp_path / "completed.run")["held_out"] is False
    assert "Pass data as well" in call("evaluate", tmp_path / "completed.run", "--engine", engine).stderr


def test_intervals_of_filled_cells_cover(tmp_path: Path) -> None:
    # 4 numbers of one factor, 20 % blank: about 240 cells. Binomial sd at 90 % is 0.02; 5 of them and 0.05 for the
    # fit's own error make the failure rate below 1e-4. The planted fault, intervals a third as wide, covers about 42 %.
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((300, 1)) @ np.ones((1, 4)) + 0.5 * rng.standard_normal((300, 4))
    blank = rng.random(truth.shape) < 0.2
    blank[blank.all(1), 0] = False
    pd.DataFrame(np.where(blank, np.nan, truth), columns=list("abcd")).to_csv(tmp_path / "x.csv", index=False)
    few = ["--draws", "50", "--warmup", "50", "--chains", "2", "--steps", "1000", "--hidden", "32", "--latent-dim", "2"]
    done("impute", "vae", tmp_path / "x.csv", "-o", tmp_path / "y.csv", "--engine", "pyro", "--no-progress", *few)
    listed = pd.read_csv(tmp_path / "y.intervals.csv")

    def cover(shrink: float) -> float:
        middle, half = (listed.lower + listed.upper) / 2, (listed.upper - listed.lower) / 2 * shrink
        return float((np.abs(truth[blank] - middle) <= half).mean())

    assert abs(cover(1.0) - 0.9) < 5 * np.sqrt(0.9 * 0.1 / blank.sum()) + 0.05
    assert abs(cover(1 / 3) - 0.9) > 5 * np.sqrt(0.9 * 0.1 / blank.sum()) + 0.05


def test_impute_by_a_run_takes_tables_with_more_columns(table_run: Path, csv_path: Path, tmp_path: Path) -> None:
    lines = csv_path.read_text().splitlines()[:20]
    path = tmp_path / "new.csv"
    path.write_text(
        "\n".join([f"{lines[0]},note", *(f"{line},{'' if i % 3 else 'a'}" for i, line in enumerate(lines[1:]))])
    )
    done("impute", table_run, path, "--engine", "pyro", "--no-progress", *FEW)
    after = pd.read_csv(tmp_path / "new.completed.csv", dtype=str, keep_default_na=False)
    before = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert (after["note"] == before["note"]).all()
    assert (after.drop(columns="note") != "").all(axis=None)
    assert f"by the program of {table_run}" in read_posterior(tmp_path / "new.nc").attrs["fitted"]


def test_impute_in_chunks_fills_the_same_cells(
    table_run: Path, csv_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepgen.cli import tables

    # 48 draws of 7 encoded columns: 10 rows at a time
    monkeypatch.setattr(tables, "CHUNK", 48 * 7 * 10)
    monkeypatch.setattr(tables, "DRAWS_BYTES", 40_000)
    out = tmp_path / "c.csv"
    done("impute", table_run, csv_path, "-o", out, "--engine", "pyro", "--no-progress", *FEW)
    check_completed(csv_path, out)
    posterior = read_posterior(tmp_path / "c.nc")
    assert posterior.posterior["row"].values.tolist() == sorted(set(pd.read_csv(tmp_path / "c.intervals.csv")["row"]))
    assert posterior.posterior["x"].nbytes <= 40_000
    assert posterior.attrs["kept_draws"].startswith("one of ")
    assert posterior.sample_stats["r_hat"].sizes == {"row": posterior.posterior.sizes["row"]}


def test_impute_of_arrays(digits_run: Path, tmp_path: Path) -> None:
    x = data.load("digits", seed=0).test[:3]
    observed = data.mcar(x, 0.5, seed=0)
    np.savez(tmp_path / "x.npz", x=data.hide(x, observed))
    done("impute", digits_run, tmp_path / "x.npz", "--engine", "pyro", "--no-progress", *FEW)
    found = arrays(tmp_path / "x.completed.npz")
    assert (found["x"][observed] == x[observed]).all()
    assert (found["observed"] == observed).all()
    assert (found["lower"] <= found["upper"]).all()
    assert (found["sd"][observed] == 0).all()
    assert (found["sd"][~observed] > 0).all()
    assert read_posterior(tmp_path / "x.completed.nc").posterior.sizes["row"] == 3


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
    (lambda t, c, d, s: ["run", "vae", "digits", "--missing", "1.5", "-o", t], "rate: got 1.5"),
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


@pytest.mark.parametrize(("absent", "known"), [("jax", True), ("numpy", False)])
def test_a_missing_engine_says_how_to_install_it(absent: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)

    monkeypatch.setattr(engines.importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError) as caught:
        Engine("numpyro", 0)
    assert ('pip install "deepgen[numpyro]", or pass --engine pyro.' in str(caught.value)) is known


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


def test_json_is_strict() -> None:
    value = {"a": np.float32(0.5), 2: [np.nan, np.int64(3), -np.inf], "t": (True, None, "x")}
    assert job.plain(value) == {"a": 0.5, "2": [None, 3, None], "t": [True, None, "x"]}
