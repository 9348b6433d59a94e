"""The run-time type checker of the tests: beartype, with Python's own rule that an int may stand for a float.

To check a call costs about as much as what it does, and to prepare a function for checking far more. So a function
within a function, which would be prepared anew at each call of the outer one and declares no shapes here, is left as
it is; and of a test's calls so many are checked: the rest of a long loop, which repeats them, runs as for users.
"""

import ast
from collections.abc import Callable
from functools import wraps
from typing import Any

import beartype
import jaxtyping
from jaxtyping import _import_hook

MOST_CALLS = 20_000
_prepared = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
_outermost = _import_hook.JaxtypingTransformer.visit_FunctionDef
_calls = 0


def install(*packages: str) -> None:
    """Check the functions of these packages, which are not yet imported."""
    _import_hook.JaxtypingTransformer.visit_FunctionDef = _visit
    jaxtyping.install_import_hook(packages, "typechecker.check_call")


def start_again() -> None:
    """Another test begins."""
    global _calls
    _calls = 0
    jaxtyping.config.update("jaxtyping_disable", False)


def check_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its arguments and what it returns checked."""
    checked = _prepared(function)

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        global _calls
        _calls += 1
        if _calls == MOST_CALLS:
            jaxtyping.config.update("jaxtyping_disable", True)
        return checked(*args, **kwargs)

    return counted


def _visit(self: _import_hook.JaxtypingTransformer, node: ast.FunctionDef) -> ast.FunctionDef:
    within = any(isinstance(parent, ast.FunctionDef) for parent in self._parents)
    return node if within else _outermost(self, node)
