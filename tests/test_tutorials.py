"""The tutorials run, with few rows and steps; the small one is small, and stands on its own."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_house import ROOT

TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))
SWITCH = 'QUICK = bool(os.environ.get("DEEPGEN_QUICK"))'
MARKDOWN = "# %% [markdown]"


def cells(source: str) -> list[tuple[str, str]]:
    """The cells of a source in percent format: their marker and their text."""
    parts = source.split("\n# %%")[1:]
    return [("# %%" + part.split("\n", 1)[0], part.split("\n", 1)[-1]) for part in parts]


def test_there_are_tutorials() -> None:
    assert TUTORIALS


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_explains_and_has_a_quick_mode(tutorial: Path) -> None:
    source = tutorial.read_text()
    assert SWITCH in source
    found = cells("\n" + source)
    assert {marker for marker, _ in found} == {"# %%", MARKDOWN}
    written = [text for marker, text in found if marker == MARKDOWN]
    assert all(line.startswith("#") for text in written for line in text.strip().splitlines())
    assert written[0].lstrip("# \n")
    assert len(written) >= len(found) / 3


def imported(source: str) -> set[str]:
    """The first names of what a source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_the_small_one_is_small_and_stands_alone() -> None:
    source = (ROOT / "tutorials" / "minideepgen.py").read_text()
    assert len(source.splitlines()) <= 400
    assert "numpyro" in imported(source)
    assert "deepgen" not in imported(source)
    assert "deepgen" in imported((ROOT / "tutorials" / "missing_data.py").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_runs(tutorial: Path, tmp_path: Path) -> None:
    settings = {"DEEPGEN_QUICK": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, str(tutorial)],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "DISPLAY"} | settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    # What the library warns of its own draws is part of the page and explained there; anything else is a fault of it.
    warned = [line for line in done.stderr.splitlines() if "Warning:" in line]
    assert [
        line
        for line in warned
        if not ("UserWarning: the importance weights" in line or "UserWarning: the chains" in line)
    ] == []
    assert "nan" not in done.stdout.lower().split()
    assert list(tmp_path.iterdir()) == []
