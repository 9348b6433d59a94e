"""A program with random parameters, apart from any engine, and data that it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Instance:
    """A program with random parameters, apart from any engine.

    Attributes:
        family: of the program.
        name: for the test's id.
        config: what the program's ``spec()`` gives.
        data: (generator, n) to data that the program takes.
        holes: whether rows with missing entries have a density.
    """

    family: str
    name: str
    config: Mapping[str, Any]
    data: Callable[[np.random.Generator, int], np.ndarray]
    holes: bool = True

    def __repr__(self) -> str:
        return f"{self.family}-{self.name}"


def real(shape: tuple[int, ...]) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.standard_normal((n, *shape)).astype(np.float32)


def binary(shape: tuple[int, ...]) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, 2, (n, *shape)).astype(np.float32)


def classes(shape: tuple[int, ...], number: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, number, (n, *shape)).astype(np.int32)
