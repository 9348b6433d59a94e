"""How the command line refuses, warns and is interrupted: one line on stderr, and an exit status."""

import ast
import difflib
import re
import shlex
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from deepgen import checks

REFUSED, INTERRUPTED = 2, 130
_OPTIONS = {
    "resume=False": "--no-resume",
    "num_particles": "--particles",
    "num_warmup": "--warmup",
    "num_samples": "--draws",
    "num_chains": "--chains",
    "learning_rate=": "--learning-rate ",
    "Or set separator.": "Or pass --separator.",
}
_TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_DIALECT = re.compile(r"\bSet separator=('[^']+')(?: and decimal=('[^']+'))?\.")
_COLUMNS = re.compile(rf"\b(drop|categorical|ordinal)=(\[{_TEXT}(?:, {_TEXT})*\])\.?")


class Commands(TyperGroup):
    """The group of all commands: what they refuse is one line on stderr and the exit status 2, without a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let ``--debug`` stand anywhere."""
        rest = [arg for arg in args if arg != "--debug"]
        return super().parse_args(ctx, ["--debug"] * (len(rest) < len(args)) + rest)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            with plain_warnings():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("Interrupted. What was written stays; the same command goes on from its checkpoint.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (ValueError, TypeError, OSError, ModuleNotFoundError, FloatingPointError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"Error: {_one_line(error)}", err=True)
            raise typer.Exit(REFUSED) from None


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Within, warnings meant for users are one line on stderr, and those for programmers are silent."""

    def show(message: Warning | str, *_: Any) -> None:
        typer.echo(f"Warning: {_worded(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def known(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is none of the choices, with the closest of them.

    Raises:
        ValueError: naming the value, the choices and what was probably meant.
    """
    choices = list(choices)
    if value not in choices:
        raise checks.problem(what, got=repr(value), expected=f"one of {choices}", fix=closest(value, choices))


def closest(value: str, choices: Iterable[str]) -> str:
    """A sentence that names the closest choice, if one is close."""
    found = difflib.get_close_matches(value, list(choices), n=1)
    return f"Did you mean {found[0]!r}?" if found else "Choose one of these."


def _one_line(error: BaseException) -> str:
    return _worded(str(error)) or type(error).__name__


def _worded(text: str) -> str:
    """On one line, and in the words of the command line."""
    text = " ".join(_DIALECT.sub(_dialect, _COLUMNS.sub(_repeated, text)).split())
    for argument, option in _OPTIONS.items():
        text = text.replace(argument, option)
    return text


def _repeated(argument: re.Match[str]) -> str:
    """A list of columns as a shell takes it: the option once for each, and no full stop that would be pasted too."""
    return " ".join(f"--{argument[1]} {shlex.quote(name)}" for name in ast.literal_eval(argument[2]))


def _dialect(argument: re.Match[str]) -> str:
    """The two options of how a CSV is written, likewise."""
    return f"Pass --separator {argument[1]}" + (f" --decimal {argument[2]}" if argument[2] else "")
