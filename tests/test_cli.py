"""The commands, in both engines, at tiny settings: what they write and what they print."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commanding import ENGINES, FEW, SLOW_IN_JAX, TINY, call, csv_path, digits_run, done, table_run

from deepgen import data, evaluation
from deepgen.cli.run import thinned
from deepgen.cli.sources import open_source, read_notes
from deepgen.evaluation import read_posterior


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


SCORE = {"value", "stderr"}


def check_metrics(metrics: dict[str, Any]) -> None:
    """The promises of ``metrics.json``."""
    assert set(metrics) == {
        *("format", "settings", "recipe", "plan", "data", "fit", "log_prob", "imputation", "calibration", "pit"),
        "sampler",
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


def test_run_with_one_chain_is_reported(tmp_path: Path) -> None:
    few = ["--draws", "40", "--warmup", "5", "--particles", "8", "--chains", "1", "--rows", "4"]
    done("run", "vae", "iris", "--engine", "pyro", "--out", tmp_path, *TINY, *few)
    check_metrics(metrics_of(tmp_path))
    assert "rows completed" in (tmp_path / "report.html").read_text()


def test_metrics_stay_where_the_page_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        raise ValueError("no page")

    monkeypatch.setattr("deepgen.report.render", broken)
    result = call("run", "vae", "iris", "--engine", "pyro", "--rows", "4", "--out", tmp_path, *TINY, *FEW)
    assert "no page" in result.stderr
    check_metrics(metrics_of(tmp_path))


def test_run_by_importance_resampling(tmp_path: Path) -> None:
    arguments = ["--engine", "pyro", "--method", "sir", "--particles", "64", "--draws", "12", "--rows", "8"]
    done("run", "vae", "iris", "--missing", "0.3", "--out", tmp_path, *arguments, *TINY)
    metrics = metrics_of(tmp_path)
    assert metrics["imputation"]["options"] == {"num_samples": 48, "num_particles": 64}
    assert metrics["sampler"]["r_hat"] is None
    assert metrics["sampler"]["pareto_k"]["rows_above"] >= 0
    assert "Pareto k" in (tmp_path / "report.html").read_text()


def test_run_on_integer_pixels_of_three_channels(tmp_path: Path) -> None:
    """From bytes and from fractions of 255 alike; whole pixels hidden; draws are the integers."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 236, (60, 1, 4, 4)) + rng.integers(0, 20, (60, 3, 4, 4))
    np.savez(tmp_path / "bytes.npz", x=levels.astype(np.uint8))
    np.savez(tmp_path / "fractions.npz", x=(levels / 255).astype(np.float32))
    chosen: dict[str, Any] = {"seed": 0, "network": "conv", "likelihood": "discretized_logistic"}
    one, other = (open_source(str(tmp_path / f"{name}.npz"), **chosen).data.test for name in ("bytes", "fractions"))
    np.testing.assert_array_equal(one, other)
    assert one.max() > 1
    options = ["--likelihood", "discretized_logistic", "--network", "conv", "--engine", "pyro", "--rows", "8"]
    few = ["--steps", "5", "--latent-dim", "2", "--no-progress", "--method", "sir", "--draws", "12"]
    done("run", "vae", tmp_path / "bytes.npz", *options, *few, "--particles", "20", "--out", tmp_path)
    metrics = metrics_of(tmp_path)
    # a uniform law has 8
    assert 4 < metrics["log_prob"]["bits_per_dim"]["value"] < 12
    posterior = read_posterior(tmp_path / "posterior.nc")
    draws, observed = posterior.posterior["x"].values, posterior.constant_data["observed"].values.astype(bool)
    assert (observed.all(1) | ~observed.any(1)).all()
    assert (draws[:, :, observed] == one[:8][observed]).all()
    assert (draws == np.rint(draws)).all()
    assert 100 < draws[:, :, ~observed].max() <= 255
    done("sample", tmp_path, "-n", "4", "--engine", "pyro")
    assert arrays(tmp_path / "samples.npz")["x"].dtype.kind == "i"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_run_as_a_process_at_its_defaults(engine: str, tmp_path: Path) -> None:
    # The rows are fewer: with 80 the coverage has a standard error of about 0.008, a sixth of what it may be off.
    command = [sys.executable, "-m", "deepgen.cli", "run", "vae", "digits", "--engine", engine, "--rows", "80"]
    # It computes more than it compiles, unlike other tests: it wants the compiler's optimisation.
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    result = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs" / "vae-digits"
    metrics = metrics_of(folder)
    check_metrics(metrics)
    errors = metrics["imputation"]["errors"]
    assert errors[f"vae ({engine})"]["crps"]["value"] < 0.9 * min(
        error["crps"]["value"] for name, error in errors.items() if name != f"vae ({engine})"
    )
    assert abs(errors[f"vae ({engine})"]["coverage"]["0.9"]["value"] - 0.9) < 0.05


def test_a_posterior_is_thinned_to_so_many_bytes(digits_run: Path) -> None:
    posterior = read_posterior(digits_run / "posterior.nc")
    assert thinned(posterior) is posterior
    size = posterior.posterior.nbytes
    few = thinned(posterior, budget=size // 3)
    assert few.posterior.nbytes <= size // 3
    assert (few.posterior["x"].values == posterior.posterior["x"].values[:, :: 12 // few.posterior.sizes["draw"]]).all()
    assert few.attrs["kept_draws"].startswith("one of ")


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
