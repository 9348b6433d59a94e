"""What importing costs and changes: nothing heavy, nothing of the other engine, no array, no global."""

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_house import ROOT, imports, sources

from deepgen import faces
from deepgen.capabilities import VERBS

HEAVY = {"numpy", "scipy", "pandas", "sklearn", "matplotlib", "xarray", "arviz", "jax", "numpyro", "torch", "pyro"}
OTHER = {"numpyro": {"torch", "pyro"}, "pyro": {"jax", "jaxlib", "numpyro", "equinox", "optax"}}

PROBE = """
import importlib, json, logging, os, random, sys, warnings
warnings.simplefilter("ignore")
first, modules, folder = json.loads(sys.argv[1])
sys.path.insert(0, folder)
for name in first:
    try:
        importlib.import_module(name)
    except ImportError:  # not a module, but something in one
        importlib.import_module(name.rpartition(".")[0])

def settings():
    import numpy as np
    found = {
        "numpy errors": np.geterr(),
        "numpy seed": [str(part) for part in np.random.get_state()],
        "random seed": random.getstate(),
        "environment": dict(os.environ),
        "warnings": [str(line) for line in warnings.filters],
        "logging": [str(logging.getLogger().handlers), logging.getLogger().level],
        "path": list(sys.path),
    }
    if "jax" in sys.modules:
        import jax
        found["jax arrays"] = [str(array) for array in jax.live_arrays()]
        found["jax settings"] = {name: str(value) for name, value in jax.config.values.items()}
    if "numpyro" in sys.modules:
        import numpyro
        found["numpyro validation"] = numpyro.distributions.Distribution._validate_args
    if "torch" in sys.modules:
        import torch
        found["torch dtype"] = str(torch.get_default_dtype())
        found["torch seed"] = torch.get_rng_state().tolist()
        found["torch settings"] = [torch.is_grad_enabled(), torch.get_num_threads()]
    if "pyro" in sys.modules:
        import pyro
        found["pyro params"] = list(pyro.get_param_store().keys())
        found["pyro settings"] = {name: str(value) for name, value in pyro.settings.get().items()}
    if "matplotlib" in sys.modules:
        import matplotlib
        found["matplotlib"] = {name: str(value) for name, value in matplotlib.rcParams.items() if name != "backend"}
    return found

before = settings()
for name in modules:
    importlib.import_module(name)
after = settings()
print(json.dumps([name for name in after if after[name] != before.get(name)]))
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed_by(first: list[str], modules: list[str], folder: Path) -> list[str]:
    return json.loads(run(PROBE, json.dumps([first, modules, str(folder)])))


def modules_of(engine: str) -> tuple[list[str], list[str]]:
    """The package's modules that an engine's user may import, and what they import from elsewhere at once."""
    mine, elsewhere = [], {"numpy", "jax" if engine == "numpyro" else "torch"}
    for source in sources():
        if not source.package or source.engine == ("torch" if engine == "numpyro" else "jax"):
            continue
        parts = source.path.removesuffix(".py").removesuffix("/__init__").split("/")
        mine.append(".".join(parts if parts[0] == "deepgen" else ["deepgen", *parts]))
        for found in imports(source):
            if not found.deferred and not found.name.startswith("deepgen"):
                elsewhere.add(found.name)
    return mine, sorted(elsewhere)


def loaded_by(module: str, then: str = "") -> set[str]:
    return set(
        json.loads(run(f"import {module} as dg\n{then}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"))
    )


def test_deepgen_alone_is_light() -> None:
    loaded = loaded_by("deepgen")
    assert "deepgen" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_a_face_leaves_the_other_engine_out(engine: str) -> None:
    loaded = loaded_by(f"deepgen.{engine}", "for name in dg.__all__: getattr(dg, name)")
    assert {engine, "deepgen.models.vae"} <= loaded
    assert loaded & OTHER[engine] == set()


@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_a_face_loads_the_rooms_that_are_used(engine: str) -> None:
    def rooms(first: str) -> set[str]:
        return {name for name in loaded_by(f"deepgen.{engine}", first) if name.startswith("deepgen.")}

    assert rooms("dir(dg)") == {f"deepgen.{engine}", "deepgen.faces"}
    assert f"deepgen.models.ebm.{engine}" not in rooms("dg.VAE; dg.fit; dg.impute")
    assert f"deepgen.models.ebm.{engine}" in rooms("dg.EnergyBased")


@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_a_face_says_what_it_has(engine: str) -> None:
    module = face(engine)
    assert set(module.__all__) <= set(dir(module))
    assert sorted(module.__all__) == sorted(faces._homes(module))
    with pytest.raises(AttributeError, match="has no attribute 'vae'"):
        module.vae  # noqa: B018


def test_something_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "equinox", None)
    monkeypatch.delitem(sys.modules, "deepgen.ode.numpyro", raising=False)
    said = 'deepgen.ode.numpyro needs equinox, which is not installed: pip install "deepgen[numpyro]".'
    with pytest.raises(ModuleNotFoundError, match=re.escape(said)):
        faces._load("deepgen.ode.numpyro", "numpyro")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'deepgen\.absent'"):
        faces._load("deepgen.absent", "numpyro")


@pytest.mark.parametrize("engine", ["numpyro", "pyro"])
def test_importing_changes_nothing(engine: str, tmp_path: Path) -> None:
    modules, elsewhere = modules_of(engine)
    assert {"deepgen.checks", "deepgen.models.vae", "deepgen.inference.svi"} <= set(modules)
    assert changed_by(elsewhere, modules, tmp_path) == []


@pytest.mark.parametrize(
    ("engine", "line", "changed"),
    [
        ("jax", "ONE = jax.numpy.ones(3)", "jax arrays"),
        ("jax", "jax.config.update('jax_enable_x64', True)", "jax settings"),
        ("numpyro", "numpyro.enable_validation(False)", "numpyro validation"),
        ("torch", "torch.set_default_dtype(torch.float64)", "torch dtype"),
        ("torch", "torch.manual_seed(0)", "torch seed"),
        ("pyro", "pyro.param('a', pyro.distributions.Normal(0.0, 1.0).mean)", "pyro params"),
        ("numpy", "numpy.seterr(all='ignore')", "numpy errors"),
        ("warnings", "warnings.filterwarnings('ignore', message='x')", "warnings"),
    ],
)
def test_planted_change_is_caught(engine: str, line: str, changed: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(f"import {engine}\n{line}\n")
    assert changed in changed_by([engine, "numpy"], ["planted"], tmp_path)


def face(engine: str) -> Any:
    return importlib.import_module(f"deepgen.{engine}")


def test_faces_have_the_same_names() -> None:
    numpyro, pyro = face("numpyro"), face("pyro")
    assert list(numpyro.__all__) == list(pyro.__all__)
    assert set(VERBS) <= set(numpyro.__all__)
    for name in numpyro.__all__:
        assert hasattr(numpyro, name)
        assert hasattr(pyro, name)


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_have_the_same_signature_but_for_the_key(verb: str) -> None:
    """NumPyro takes ``rng_key`` first; beyond it, names, order, kinds and defaults are the same."""
    numpyro = list(inspect.signature(getattr(face("numpyro"), verb)).parameters.values())
    pyro = list(inspect.signature(getattr(face("pyro"), verb)).parameters.values())
    if numpyro[0].name == "rng_key":
        numpyro = numpyro[1:]
    assert [(p.name, p.kind, p.default) for p in numpyro] == [(p.name, p.kind, p.default) for p in pyro]
