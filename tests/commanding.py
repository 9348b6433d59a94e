"""Commands called in the test's own process, at tiny settings, and the runs that several tests read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from deepgen.cli import app

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
