"""Names that a face imports when they are first asked for: a program loads the rooms it uses, and no others."""

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazily(face: str, library: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a module whose imports stand under ``if TYPE_CHECKING`` (PEP 562).

    Type checkers and editors read those imports as they stand; here they are read off the module's source, so that each
    name's home is said once. A name that was found stays in the module.

    Args:
        face: the module's name.
        library: the engine, which is imported at once; its name is that of the extra, too.

    Raises:
        ModuleNotFoundError: something of the extra is not installed; the message says how to.
    """
    module = sys.modules[face]
    _load(library, library)
    homes = _homes(module)

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {face!r} has no attribute {name!r}", name=name, obj=module)
        home, attribute = homes[name]
        found = getattr(importlib.import_module(home), attribute, None) or importlib.import_module(
            f"{home}.{attribute}"
        )
        setattr(module, name, found)
        return found

    return find, lambda: sorted({*vars(module), *homes})


def _load(name: str, extra: str) -> Any:
    """A module, or how to install what it misses."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "deepgen").partition(".")[0] == "deepgen":
            raise
        raise ModuleNotFoundError(
            f'{name} needs {error.name}, which is not installed: pip install "deepgen[{extra}]".', name=error.name
        ) from error


def _homes(module: Any) -> dict[str, tuple[str, str]]:
    """Name to the module and attribute it stands for, of the imports under ``if TYPE_CHECKING``."""
    blocks = [
        node
        for node in ast.parse(module.__spec__.loader.get_source(module.__name__)).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
