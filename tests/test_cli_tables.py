"""What the commands do with tables as people have them: names, commas, orders, versions, blanks of every kind."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commanding import FEW, SLOW_IN_JAX, TINY, call, csv_path, done

from deepgen import data
from deepgen.cli.commands import default_folder
from deepgen.cli.tables import Completed, beside, tell_far
from deepgen.evaluation import read_posterior

STAGES = ("low", "mid", "high")
READING = ["--drop", "name", "--drop", "seen on", "--separator", ";", "--decimal", ","]


def zoo(path: Path, between: str = ";", comma: str = ",") -> Path:
    """Names, dates, numbers, counts, codes, categories, an order and truth values; some cells of each blank."""
    rng = np.random.default_rng(5)
    z = rng.standard_normal(60)
    frame = pd.DataFrame(
        {
            "name": [f"animal {i}" for i in range(60)],
            "weight": [f"{np.exp(value):.3f}".replace(".", comma) for value in z],
            "stage": [STAGES[int(value > -0.4) + int(value > 0.4)] for value in z],
            "seen on": [f"2020-01-{1 + i % 28:02d}" for i in range(60)],
            "young": rng.poisson(np.exp(0.5 * z + 1)).astype(str),
            "diet": np.where(z + rng.standard_normal(60) > 0, "carni", "herbi"),
            "code": rng.integers(1, 4, 60).astype(str),
            "tame": np.where(rng.random(60) < 0.4, "True", "False"),
        }
    )
    blank = rng.random(frame.shape) < 0.15
    blank[:, [0, 4]] = False
    blank[7, 3] = True
    lines = [between.join(frame.columns), *map(between.join, frame.mask(blank, "").to_numpy())]
    path.write_text("\n".join(lines) + "\n")
    return path


def warned(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("Warning")]


@pytest.mark.parametrize("engine", SLOW_IN_JAX)
def test_a_table_of_every_kind_is_completed_by_one_command(engine: str, tmp_path: Path) -> None:
    path = zoo(tmp_path / "zoo.v1.csv")
    kinds = ["--categorical", "code", "--ordinal", "stage=low,mid,high"]
    shown = done("impute", "vae", path, "--engine", engine, *READING, *kinds, *TINY, *FEW)
    # so short chains disagree, and nothing else may be said
    assert all(re.search(r"the chains of .*: raise --warmup and --draws", line) for line in warned(shown.stderr))
    before, after = (
        pd.read_csv(tmp_path / name, sep=";", dtype=str, keep_default_na=False)
        for name in ("zoo.v1.csv", "zoo.v1.completed.csv")
    )
    assert list(after) == list(before)
    for name in ("name", "seen on"):
        assert after[name].tolist() == before[name].tolist()
    modelled = before.columns.difference(["name", "seen on"])
    blank = before[modelled] == ""
    assert (after[modelled].where(~blank, "") == before[modelled]).all(axis=None)
    assert (after[modelled] != "").all(axis=None)
    assert after["weight"].str.fullmatch(r"\d+,\d+").all()
    assert set(after["stage"]) == set(STAGES)
    notes = json.loads((tmp_path / "zoo.v1.run" / "run.json").read_text())
    columns = {column["name"]: column for column in notes["encoding"]["columns"]}
    assert (columns["stage"]["levels"], columns["stage"]["ordered"]) == (list(STAGES), True)
    assert columns["code"]["levels"] == [1, 2, 3]
    # log-normal: a few draws could carry the mean away
    weight = pd.read_csv(tmp_path / "zoo.v1.intervals.csv").query("column == 'weight'").astype({"value": float})
    middle = read_posterior(tmp_path / "zoo.v1.nc").posterior["x"].sel(column="weight").median(("chain", "draw"))
    np.testing.assert_allclose(weight["value"], middle.sel(row=weight["row"].to_numpy()), rtol=1e-5)
    assert (weight["value"] != weight["mean"]).all()
    # another version of the table has results of its own, and so has a file of another ending, read as it is written
    first = (tmp_path / "zoo.v1.intervals.csv").read_text()
    run = ["--engine", engine, "--no-progress", *FEW]
    for name, between in (("zoo.v2.csv", ";"), ("zoo.v1.tsv", "\t")):
        other = zoo(tmp_path / name, between)
        other.write_text("\n".join(other.read_text().splitlines()[:20]))
        shown = done("impute", tmp_path / "zoo.v1.run", other, *run).stdout
        assert "left out, as the run does not model them: name, seen on\n" in shown
        called = name.removesuffix(".csv")
        assert len(pd.read_csv(tmp_path / f"{called}.intervals.csv")) < len(first.splitlines()) - 1
        assert read_posterior(tmp_path / f"{called}.nc").posterior.sizes["row"] < 20
    assert (tmp_path / "zoo.v1.intervals.csv").read_text() == first
    whole = pd.read_csv(tmp_path / "zoo.v1.completed.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert whole["name"].tolist() == before["name"].tolist()[:19]


NO_FIT: list[tuple[list[Any], str]] = [
    (["impute", "vae", "CSV", "--method", "nope"], "method: got 'nope'; expected one of"),
    (["impute", "vae", "CSV", "--draws", "2"], "draws: got 8 of each cell; expected at least 19 for 90% intervals"),
    (["impute", "vae", "CSV", "--method", "sir", "--draws", "4", "--chains", "4"], "draws: got 16 of each cell"),
    (["run", "vae", "iris", "--draws", "10", "--chains", "1"], "got 10 of each cell; expected at least 39 for 95%"),
    (["run", "made", "iris", "--draws", "9", "--chains", "4"], "got 36 of each cell; expected at least 39 for 95%"),
]


@pytest.mark.parametrize(("arguments", "message"), NO_FIT)
def test_what_cannot_be_completed_is_refused_before_the_fit(
    arguments: list[Any], message: str, csv_path: Path, tmp_path: Path
) -> None:
    given = [csv_path if argument == "CSV" else argument for argument in arguments]
    out = tmp_path / ("out" if given[0] == "run" else "out.csv")
    result = call(*given, "--engine", "pyro", "--out", out)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "fitting" not in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def advice(*arguments: Any) -> str:
    result = call(*arguments)
    assert result.exit_code == 2
    return result.stderr.strip()


def test_advice_can_be_pasted(tmp_path: Path) -> None:
    path = zoo(tmp_path / "zoo.csv")
    said = advice("impute", "vae", path)
    assert said.endswith("numbers have decimal commas. Pass --separator ';' --decimal ','")
    said = advice("impute", "vae", path, "--separator", ";", "--decimal", ",")
    assert said.endswith("Leave them out: --drop name --drop 'seen on'")
    tabs = zoo(tmp_path / "tabs.csv", "\t", ".")
    assert advice("impute", "vae", tabs).endswith(r"Pass --separator '\t'")
    assert advice("impute", "vae", tabs, "--separator", r"\t").endswith("--drop name --drop 'seen on'")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3,4,5\n")
    assert advice("impute", "vae", tmp_path / "ragged.csv").endswith("Or pass --separator.")
    fixed = advice("impute", "nsf", tabs, "--separator", r"\t", "--drop", "name", "--drop", "seen on")
    assert fixed.endswith("Take vae, or leave them out: --drop stage --drop diet --drop tame")


def test_options_of_tables_are_for_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([[1.0, np.nan]]))
    said = advice("impute", "vae", tmp_path / "x.npz", "--drop", "a", "--decimal", ",")
    assert re.search(r"options: got \['--drop', '--decimal'\] for .*they say how to read a table", said)
    assert "they say how to read a table" in advice("fit", "vae", "iris", "--drop", "a")


def test_fit_reads_a_table_as_it_is_told(tmp_path: Path) -> None:
    path = zoo(tmp_path / "zoo.csv")
    assert advice("fit", "vae", path, "--separator", ";", "--decimal", ",").endswith("--drop name --drop 'seen on'")
    out = ["--engine", "pyro", "--out", tmp_path / "run"]
    done("fit", "vae", path, *READING, "--ordinal", "stage=low,mid,high", *TINY, *out)
    notes = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [column["name"] for column in notes["encoding"]["columns"]] == [
        *("weight", "stage", "young", "diet", "code", "tame"),
    ]
    assert notes["settings"]["reading"]["ordinal"] == {"stage": list(STAGES)}
    # the run remembers how its table is read
    shown = done("evaluate", tmp_path / "run", "--engine", "pyro", "--particles", "4").stdout
    assert "12 rows: the held-out rows of" in shown
    # and which of its columns it leaves out of another
    shown = done("evaluate", tmp_path / "run", zoo(tmp_path / "new.csv"), "--engine", "pyro", "--particles", "4").stdout
    assert shown.splitlines()[1] == "left out, as the run does not model them: name, seen on"
    few = pd.read_csv(path, sep=";", dtype=str, keep_default_na=False).drop(columns="seen on").head(30)
    few.to_csv(tmp_path / "few.csv", sep=";", index=False)
    arguments = ["--engine", "pyro", "--particles", "4", "--json"]
    said = json.loads(done("evaluate", tmp_path / "run", tmp_path / "few.csv", *arguments).stdout)
    assert (said["rows"], said["left_out"]) == (30, ["name"])


def test_results_of_files_that_differ_in_their_ending_alone_stay_apart() -> None:
    names = ["data.csv", "data.tsv", "data.csv.gz", "data.parquet", "data.npz"]
    folders = [default_folder("vae", f"some/{name}") for name in names]
    assert folders[0] == Path("runs/vae-data")
    assert len({*folders}) == len(names)
    completed = [beside(Path(name.replace(".", ".completed.", 1))) for name in names]
    assert completed == ["data", *names[1:]]


def test_values_far_from_all_observed_ones_are_told(recwarn: pytest.WarningsRecorder) -> None:
    frame = pd.DataFrame({"size": [1.0, 2.0, 3.0, np.nan, np.nan], "kind": ["a", "b", None, "a", "b"]})
    table = data.Table.from_frame(frame)

    def told(*sizes: float) -> list[str]:
        cells = {"row": [3, 4, 5], "column": ["kind", "size", "size"], "value": ["a", *sizes]}
        completed = Completed(frame, pd.DataFrame(cells), None)  # type: ignore[arg-type]
        tell_far(completed, table)
        return [str(recwarn.pop().message) for _ in range(len(recwarn))]

    assert not told(-0.9, 4.9)
    (message,) = told(2.0, 5.1)
    assert message.startswith("of the completed values 1 lie farther")
    assert "in row 5: size 5.1, observed 1 to 3" in message
    assert "in row 4: size -1.1" in told(-1.1, 6.0)[0]
