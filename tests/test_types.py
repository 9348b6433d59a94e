"""The type checker sees the whole package: an error planted in every file is reported for every file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_house import ROOT

PLANTED = '\nplanted_error: int = "not a number"\n'


@pytest.mark.slow
def test_mypy_sees_every_file(tmp_path: Path) -> None:
    for name in ("deepgen", "models", "inference"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if (ROOT / ".mypy_cache").is_dir():  # what it knows of other libraries saves a minute
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / ".mypy_cache")
    expected = set()
    for here, _, files in os.walk(tmp_path / "deepgen", followlinks=True):
        for path in (Path(here, file) for file in files if file.endswith(".py")):
            path.write_text(path.read_text() + PLANTED)
            expected.add(path.relative_to(tmp_path).as_posix())
    checked = subprocess.run([sys.executable, "-m", "mypy"], cwd=tmp_path, capture_output=True, text=True)
    reported = {line.split(":")[0] for line in checked.stdout.splitlines() if "[assignment]" in line}
    assert {"deepgen/models/vae/__init__.py", "deepgen/inference/svi/__init__.py", "deepgen/checks.py"} <= expected
    assert expected <= reported, sorted(expected - reported)
    assert checked.returncode == 1
