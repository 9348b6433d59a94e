"""What a loop says of its steps, so that they need not look for it each time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

_SAID: ContextVar[frozenset[str]] = ContextVar("said", default=frozenset())


@contextmanager
def _saying(what: str) -> Iterator[None]:
    token = _SAID.set(_SAID.get() | {what})
    try:
        yield
    finally:
        _SAID.reset(token)


def complete_data() -> AbstractContextManager[None]:
    """Within, whoever looks for holes in the data of a program may take it that there are none.

    Programs then make no mask and fill in nothing. A step of a loop pays for that look each time, a loop that has
    looked once need not. Where the loop is compiled, this has to stand around what is traced.

    >>> with complete_data():
    ...     is_complete()
    True
    """
    return _saying("complete")


def is_complete() -> bool:
    """Whether the data are said to be complete.

    >>> is_complete()
    False
    """
    return "complete" in _SAID.get()


def declared_before() -> AbstractContextManager[None]:
    """Within, Pyro's param store is known to hold the parameters that a program would declare.

    A step of a loop pays for each declaration; a loop whose first step has declared them need not. Handlers that may do
    something with a parameter, such as ``lift``, are shown it all the same.

    >>> with declared_before():
    ...     is_declared()
    True
    """
    return _saying("declared")


def is_declared() -> bool:
    """Whether the parameters are said to be declared.

    >>> is_declared()
    False
    """
    return "declared" in _SAID.get()
