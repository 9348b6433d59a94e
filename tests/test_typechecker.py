"""The tests' own type checker: a wrong array is seen in so many calls of a test, and again in the next test's."""

import numpy as np
import pytest
import typechecker
from jaxtyping import TypeCheckError

from deepgen.math.sigmoid import log_sigmoid

RIGHT, WRONG = np.zeros(3), np.zeros(3, dtype=int)


def test_a_wrong_array_is_refused():
    assert log_sigmoid(RIGHT).shape == (3,)
    with pytest.raises(TypeCheckError):
        log_sigmoid(WRONG)


def test_a_long_loop_is_not_checked_to_its_end(monkeypatch: pytest.MonkeyPatch):
    typechecker.start_again()
    monkeypatch.setattr(typechecker, "MOST_CALLS", 10)
    for _ in range(4):
        log_sigmoid(RIGHT)
    with pytest.raises(TypeCheckError):
        log_sigmoid(WRONG)
    log_sigmoid(RIGHT)
    log_sigmoid(WRONG)
    typechecker.start_again()
    with pytest.raises(TypeCheckError):
        log_sigmoid(WRONG)
