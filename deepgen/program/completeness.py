"""Data said to be complete: within, programs make no mask and fill in nothing for holes that cannot be there."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SAID = ContextVar("complete", default=False)


@contextmanager
def complete_data() -> Iterator[None]:
    """Within, whoever looks for holes in the data of a program may take it that there are none.

    A step of a loop pays for that look each time, a loop that has looked once need not. Where the loop is compiled,
    this has to stand around what is traced.

    >>> with complete_data():
    ...     is_complete()
    True
    """
    token = _SAID.set(True)
    try:
        yield
    finally:
        _SAID.reset(token)


def is_complete() -> bool:
    """Whether the data are said to be complete.

    >>> is_complete()
    False
    """
    return _SAID.get()
