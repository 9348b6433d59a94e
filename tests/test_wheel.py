"""What a user installs: the wheel built from the sdist, imported from outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_house import ROOT

pytestmark = pytest.mark.slow
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import deepgen.inference.svi, deepgen.models.vae
import deepgen.numpyro, deepgen.pyro
names = ("deepgen", "deepgen.models.vae", "deepgen.inference.svi", "deepgen.numpyro", "deepgen.pyro")
print(json.dumps({name: sys.modules[name].__file__ for name in names}))
"""


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that ``python -m build`` makes from the sdist that it makes from a copy of the tree."""
    copy = tmp_path_factory.mktemp("tree") / "deepgen"
    copy.mkdir()
    for name in ("deepgen", "models", "inference"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", cwd=copy)
    assert len(list((copy / "dist").glob("deepgen-*.tar.gz"))) == 1
    (built,) = (copy / "dist").glob("deepgen-*.whl")
    return built


def test_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    walked = [Path(here, file) for here, _, files in os.walk(ROOT / "deepgen", followlinks=True) for file in files]
    expected = {path.relative_to(ROOT).as_posix() for path in walked if path.parent.name != "__pycache__"}
    assert {"deepgen/models/vae/__init__.py", "deepgen/py.typed"} <= expected
    assert expected <= packed, sorted(expected - packed)
    assert {name.split("/")[0].split("-")[0] for name in packed} == {"deepgen"}
    entry_points = next(name for name in packed if name.endswith("entry_points.txt"))
    assert "deepgen = deepgen.cli:app" in zipfile.ZipFile(wheel).read(entry_points).decode()


def test_wheel_is_imported_from_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    call(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path
    )
    found = json.loads(call(sys.executable, "-I", "-c", CODE, target, cwd=tmp_path))
    assert all(Path(file).is_relative_to(target) for file in found.values()), found
    assert (target / "deepgen" / "py.typed").is_file()
    assert not (target / "models").exists()
    assert not (target / "inference").exists()
