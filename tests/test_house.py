"""The rule of the house, read off the source: rooms and their engine files, floors, imports, docstrings, lengths."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = {
    "jax": {"jax", "jaxlib", "numpyro", "equinox", "optax", "diffrax", "lineax", "optimistix"},
    "torch": {"torch", "pyro", "torchdiffeq"},
}
JAX_NAMES_OF_JAXTYPING = {"Array", "ArrayLike", "Key", "PRNGKeyArray", "PyTree", "PyTreeDef", "Scalar", "ScalarLike"}
TWINS = {"numpyro": "pyro", "pyro": "numpyro", "equinox": "torch", "torch": "equinox"}
ENGINE_ONLY = {
    "deepgen/handlers/pyro.py": {"MissingMessenger"},  # Pyro's handlers are a class and a function that applies it
    "deepgen/handlers/sites/pyro.py": {"one_of_enumerated", "batch_shape_outside"},  # only Pyro enumerates in parallel
    "models/flow/pyro/transforms.py": {"GuideFlow"},  # NumPyro's own sites keep a draw's log-Jacobian
    "deepgen/program/pyro.py": {"tensor", "isolated"},  # torch has devices to move to, Pyro a global param store
}
LOOKS_FAMILIES_UP = "deepgen/program/"  # load() finds a family's room by the name in program.json
TOP = {"numpyro", "pyro", "faces", "evaluation", "report", "cli"}
LIMIT = 400


@dataclass(frozen=True)
class Source:
    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def package(self) -> bool:
        return self.path.split("/")[0] in {"deepgen", "models", "inference"}

    @property
    def engine(self) -> str | None:
        return engine_of(self.path.removesuffix(".py").split("/")[1:])

    @property
    def floor(self) -> int:
        parts = self.path.removesuffix(".py").split("/")
        return floor_of(parts if parts[0] == "deepgen" else ["deepgen", *parts])


def engine_of(parts: Sequence[str]) -> str | None:
    """The engine that a file's or a module's name says, as in `numpyro.py`, `equinox_layers.py`, `pyro/fit.py`."""
    tokens = {token for part in parts for token in part.split("_")}
    if tokens & {"numpyro", "equinox"}:
        return "jax"
    return "torch" if tokens & {"pyro", "torch"} else None


def floor_of(parts: Sequence[str]) -> int:
    """0 the ground floor, 1 inference, 2 models, 3 the faces, evaluation, report and the command line."""
    room = parts[1] if len(parts) > 1 else ""
    return {"inference": 1, "models": 2}.get(room, 3 if room in TOP else 0)


def sources() -> list[Source]:
    found = []
    for folder in ("deepgen", "models", "inference", "tests", "benchmarks", "tutorials"):
        for here, folders, files in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name != "__pycache__"]
            paths = [Path(here, name) for name in files if name.endswith(".py")]
            found += [Source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths]
    return sorted(found, key=lambda source: source.path)


@dataclass(frozen=True)
class Import:
    name: str
    line: int
    level: int
    deferred: bool


def imports(source: Source) -> Iterator[Import]:
    """Every import, absolute names spelled out, and whether it is put off to a function's call."""

    def visit(node: ast.AST, deferred: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, 0, deferred)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    yield Import(f"{child.module or ''}.{alias.name}", child.lineno, child.level, deferred)
            else:
                yield from visit(child, deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    return visit(source.tree, False)


def engine_of_import(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] == "jaxtyping":
        return "jax" if parts[-1] in JAX_NAMES_OF_JAXTYPING else None
    if parts[0] == "deepgen":
        return engine_of(parts[1:])
    return next((engine for engine, libraries in LIBRARIES.items() if parts[0] in libraries), None)


def engine_imports(source: Source) -> list[str]:
    """Mathematics knows no engine, and an engine's file knows only its own.

    Evaluation, report and the command line choose an engine when they are called: there, inside a function only.
    """
    if not source.package:
        return []
    chooser = source.floor == 3 and source.engine is None
    return [
        f"{source.path}:{found.line} imports {found.name}, but is "
        + (f"the file of {source.engine}" if source.engine else "mathematics")
        for found in imports(source)
        if (engine := engine_of_import(found.name)) and engine != source.engine and not (chooser and found.deferred)
    ]


def floors(source: Source) -> list[str]:
    """A floor imports only from itself and from below."""
    if not source.package:
        return []
    return [
        f"{source.path}:{found.line} imports {found.name} from a floor above"
        for found in imports(source)
        if found.name.split(".")[0] == "deepgen" and floor_of(found.name.split(".")) > source.floor
    ]


def dynamic_imports(source: Source) -> list[str]:
    """Importing by a computed name would walk round every other rule."""
    if not source.package or source.floor == 3 or source.path.startswith(LOOKS_FAMILIES_UP):
        return []
    called = [node.func for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    names = {getattr(func, "attr", getattr(func, "id", "")) for func in called}
    return [f"{source.path} imports by a computed name" for _ in names & {"import_module", "__import__"}]


def absolute_imports(source: Source) -> list[str]:
    """Imports are absolute, and the two links have one name each."""
    return [
        f"{source.path}:{found.line} imports {found.name or '.'}"
        for found in imports(source)
        if found.level or found.name.split(".")[0] in {"models", "inference"}
    ]


def host_arrays(source: Source) -> list[str]:
    """A tensor may be on an accelerator: it becomes NumPy's by way of the CPU, and generators are asked for there."""
    if not source.package or source.engine != "torch":
        return []
    complaints = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called, given = node.func, ast.unparse(node)
        if isinstance(called, ast.Attribute) and called.attr == "numpy" and not node.keywords:
            on_host = any(isinstance(own, ast.Attribute) and own.attr == "cpu" for own in ast.walk(called.value))
            complaints += [] if on_host else [f"{source.path}:{node.lineno} takes {given} to be on the CPU"]
        if ast.unparse(called) == "torch.Generator" and not node.args:
            complaints.append(f"{source.path}:{node.lineno} makes a generator without a device")
    return complaints


def lengths(source: Source) -> list[str]:
    """A longer file is two ideas."""
    lines = source.text.count("\n")
    return [f"{source.path} has {lines} lines, more than {LIMIT}"] if lines > LIMIT else []


def docstrings(source: Source) -> list[str]:
    """Whatever a user can name says what it is."""
    if not source.package:
        return []

    def visit(node: ast.Module | ast.ClassDef) -> Iterator[str]:
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
                if not ast.get_docstring(child):
                    yield f"{source.path}:{child.lineno} {child.name} has no docstring"
                if isinstance(child, ast.ClassDef):
                    yield from visit(child)

    missing = [] if ast.get_docstring(source.tree) else [f"{source.path} has no docstring"]
    return missing + list(visit(source.tree))


def twin(path: str) -> str:
    return re.sub(r"(?<=[/_])(numpyro|pyro|equinox|torch)(?=[/_.])", lambda found: TWINS[found[0]], path)


def public_names(tree: ast.Module) -> list[str]:
    """Functions, classes and constants in order, as far as ``__all__`` lets them out, then what else it lists."""
    names: list[str] = []
    listed: list[str] | None = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assigned = [target.id for target in targets if isinstance(target, ast.Name)]
            names += [name for name in assigned if name.isupper()]
            if "__all__" in assigned and node.value is not None:
                listed = ast.literal_eval(node.value)
    if listed is None:
        return [name for name in names if not name.startswith("_")]
    return [name for name in names if name in listed] + [name for name in listed if name not in names]


def shared_names(source: Source) -> list[str]:
    return [name for name in public_names(source.tree) if name not in ENGINE_ONLY.get(source.path, set())]


def rooms(found: list[Source]) -> list[str]:
    """Every room of methods has both engines' files, and the two say the same names in the same order.

    Files such as `equinox_layers.py`, which build what one engine lacks, need a twin but not the same names.
    """
    by_path = {source.path: source for source in found if source.package}
    complaints = []
    for path, source in by_path.items():
        other = twin(path)
        if source.engine is None:
            continue
        if other not in by_path:
            complaints.append(f"{path} has no twin {other}")
        elif source.engine == "jax" and set(path.removesuffix(".py").split("/")) & TWINS.keys():
            mine, theirs = shared_names(source), shared_names(by_path[other])
            if mine != theirs:
                complaints.append(f"{path} says {mine}, but {other} says {theirs}")
    for folder in {PurePosixPath(path).parent for path in by_path}:
        files = {f"{folder}/numpyro.py", f"{folder}/numpyro/__init__.py"}
        if str(folder.parent) in {"models", "inference"} and not files & by_path.keys():
            complaints.append(f"the room {folder} has no numpyro.py")
    return sorted(complaints)


CHECKS = [engine_imports, floors, dynamic_imports, absolute_imports, host_arrays, lengths, docstrings]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_source_keeps_the_rule(check: Callable[[Source], list[str]]) -> None:
    assert [complaint for source in sources() for complaint in check(source)] == []


def test_rooms_have_both_engines() -> None:
    assert rooms(sources()) == []


def test_exceptions_are_needed() -> None:
    by_path = {source.path: source for source in sources()}
    for path, names in ENGINE_ONLY.items():
        assert names <= set(public_names(by_path[path].tree)) - set(public_names(by_path[twin(path)].tree))


def test_the_walk_sees_the_whole_house() -> None:
    paths = {source.path for source in sources()}
    assert {"deepgen/checks.py", "models/vae/__init__.py", "inference/svi/__init__.py", "tests/test_house.py"} <= paths
    assert not any(path.startswith(("deepgen/models", "deepgen/inference")) for path in paths)


PLANTED = [
    (engine_imports, "models/vae/bound.py", "import jax.numpy as jnp", "mathematics"),
    (engine_imports, "models/vae/bound.py", "def f():\n    import torch", "mathematics"),
    (engine_imports, "deepgen/math/splines.py", "from jaxtyping import Array", "mathematics"),
    (engine_imports, "inference/svi/schedules.py", "from deepgen.nn import equinox", "mathematics"),
    (engine_imports, "inference/svi/pyro.py", "import numpyro", "the file of torch"),
    (engine_imports, "deepgen/nn/equinox_convolution.py", "import torch", "the file of jax"),
    (engine_imports, "inference/svi/numpyro/elbo.py", "import torch", "the file of jax"),
    (engine_imports, "deepgen/evaluation/metrics.py", "import torch", "mathematics"),
    (floors, "inference/svi/numpyro.py", "from deepgen.models import vae", "a floor above"),
    (floors, "deepgen/nn/torch.py", "from deepgen.inference.svi.pyro import fit", "a floor above"),
    (floors, "models/vae/numpyro.py", "def f():\n    import deepgen.numpyro as dg", "a floor above"),
    (floors, "deepgen/program/files.py", "import deepgen.models.vae", "a floor above"),
    (floors, "deepgen/data/tables.py", "from deepgen import evaluation", "a floor above"),
    (dynamic_imports, "inference/svi/numpyro.py", "importlib.import_module('deepgen.models.vae')", "computed name"),
    (dynamic_imports, "models/vae/pyro.py", "room = __import__('deepgen.numpyro')", "computed name"),
    (absolute_imports, "models/vae/numpyro.py", "from . import bound", "imports"),
    (absolute_imports, "models/vae/numpyro.py", "from ..flow import bound", "imports"),
    (absolute_imports, "tests/test_vae.py", "import models.vae", "imports models.vae"),
    (absolute_imports, "tests/test_svi.py", "from inference import svi", "imports inference.svi"),
    (host_arrays, "models/vae/pyro.py", "x = torch.rand(3).numpy()", "to be on the CPU"),
    (host_arrays, "inference/svi/pyro/fit.py", "g = torch.Generator()", "without a device"),
    (lengths, "models/vae/numpyro.py", "x = 1\n" * (LIMIT + 1), "401 lines"),
    (docstrings, "models/vae/bound.py", "x = 1", "bound.py has no docstring"),
    (docstrings, "models/vae/bound.py", '"""B."""\ndef elbo():\n    pass', "elbo has no docstring"),
    (docstrings, "models/vae/bound.py", '"""B."""\nclass A:\n    """A."""\n    def f(self):\n        pass', "f has no"),
]


@pytest.mark.parametrize(("check", "path", "text", "complaint"), PLANTED)
def test_planted_fault_is_caught(check: Callable[[Source], list[str]], path: str, text: str, complaint: str) -> None:
    found = check(Source(path, text))
    assert len(found) == 1
    assert complaint in found[0]


ALLOWED = [
    (engine_imports, "deepgen/evaluation/metrics.py", "def f():\n    import deepgen.pyro as dg"),
    (engine_imports, "models/vae/bound.py", "from jaxtyping import Float\nimport numpy as np"),
    (engine_imports, "models/vae/numpyro.py", "import jax\nfrom deepgen.nn.equinox import MLP"),
    (floors, "models/vae/numpyro.py", "from deepgen.inference.svi import objectives\nfrom deepgen import checks"),
    (floors, "deepgen/nn/torch.py", "from deepgen.program import pyro"),
    (dynamic_imports, "deepgen/program/numpyro.py", "importlib.import_module(name)"),
    (host_arrays, "models/vae/pyro.py", "x = torch.rand(3).cpu().double().numpy() + torch.rand(3).numpy(force=True)"),
    (host_arrays, "models/vae/pyro.py", "g = torch.Generator('cpu')"),
    (lengths, "models/vae/numpyro.py", "x = 1\n" * LIMIT),
]


@pytest.mark.parametrize(("check", "path", "text"), ALLOWED)
def test_what_is_allowed_passes(check: Callable[[Source], list[str]], path: str, text: str) -> None:
    assert check(Source(path, text)) == []


PAIR = '"""E."""\ndef fit(): ...\nclass Fit: ...\nSTEPS = 3\ndef _aid(): ...\n'


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"inference/a/numpyro.py": PAIR}, "no twin inference/a/pyro.py"),
        ({"deepgen/nn/equinox_layers.py": PAIR}, "no twin deepgen/nn/torch_layers.py"),
        ({"inference/a/numpyro/__init__.py": PAIR}, "no twin inference/a/pyro/__init__.py"),
        ({"inference/a/__init__.py": ""}, "the room inference/a has no numpyro.py"),
        ({"inference/a/numpyro.py": PAIR, "inference/a/pyro.py": PAIR + "def sample(): ..."}, "says"),
        ({"deepgen/nn/equinox.py": PAIR, "deepgen/nn/torch.py": PAIR.replace("STEPS", "steps")}, "says"),
        ({"deepgen/nn/equinox.py": PAIR, "deepgen/nn/torch.py": "class Fit: ...\ndef fit(): ...\nSTEPS = 3"}, "says"),
        ({"deepgen/numpyro.py": "__all__ = ['a']", "deepgen/pyro.py": "__all__ = ['b']"}, "says"),
        ({"inference/a/numpyro/b.py": "def f(): ...", "inference/a/pyro/b.py": "def g(): ..."}, "says"),
    ],
)
def test_planted_room_is_caught(files: dict[str, str], complaint: str) -> None:
    found = rooms([Source(path, text) for path, text in files.items()])
    assert len(found) == 1
    assert complaint in found[0]


def test_faultless_rooms_pass() -> None:
    listed = PAIR + "TORCH = 1\n__all__ = ['Fit', 'fit', 'STEPS']\n"
    assert rooms([Source("inference/a/numpyro.py", PAIR), Source("inference/a/pyro.py", listed)]) == []
    assert rooms([Source("deepgen/nn/equinox_layers.py", PAIR), Source("deepgen/nn/torch_layers.py", "x = 1")]) == []


@pytest.mark.parametrize("name", ["models", "inference"])
def test_links_have_one_name_each(name: str) -> None:
    link = ROOT / "deepgen" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    wrong = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert f"import deepgen.{name} instead" in wrong.stderr
    right = subprocess.run([sys.executable, "-c", f"import deepgen.{name}"], cwd=ROOT, capture_output=True, text=True)
    assert right.returncode == 0, right.stderr
