"""Parameters said to be declared: within, programs need not declare them anew at each step."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SAID = ContextVar("declared", default=False)


@contextmanager
def declared_before() -> Iterator[None]:
    """Within, Pyro's param store is known to hold the parameters that a program would declare.

    A step of a loop pays for each declaration; a loop whose first step has declared them need not. Handlers that may do
    something with a parameter, such as ``lift``, are shown it all the same.

    >>> with declared_before():
    ...     is_declared()
    True
    """
    token = _SAID.set(True)
    try:
        yield
    finally:
        _SAID.reset(token)


def is_declared() -> bool:
    """Whether the parameters are said to be declared.

    >>> is_declared()
    False
    """
    return _SAID.get()
