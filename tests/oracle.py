"""A program whose law is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Oracle:
    """A program whose law is known.

    Attributes:
        family: of the program.
        name: for the test's id.
        description: what it is.
        config: what the program's ``spec()`` gives.
        tensors: its parameters by name, float32.
        event_shape: of a datum.
        integer: whether data are integers, -1 where missing.
        tight: whether the guide is the exact posterior of a complete row.
        exact: whether it is that of any row, whatever is missing.
        draw: (generator, n) to exact draws (n, *event_shape).
        log_prob: (n, *event_shape), missing allowed, to log p(x_observed) of each row.
        conditional: likewise, to mean (n, D) and covariance (n, D, D) of the flattened row given its observed entries.
        posterior: likewise, to mean and covariance of each latent site given the observed entries.
        decode: latents by site, (..., d) each, to E[x | latents], (..., *event_shape).
        quick: whether it is in the suites that are too slow for all.
        latent: whether there are latents; without, only complete rows have a density.
        generator: the program's field that x comes from.
        order: in which the entries of a flattened datum are decided; none where they are not decided in turn.
        first: how many entries come first in the order of every member, where there are several; 0 for one order.
        solver_error: how far log_prob may be off, nats, where nothing is random: rounding, or a solver's steps.
        costly: whether each density takes a solve: chains of many are left to the family's other oracles.
        discrete: whether data have few values, so that completions can be enumerated.
    """

    family: str
    name: str
    description: str
    config: Mapping[str, Any]
    tensors: Mapping[str, np.ndarray]
    event_shape: tuple[int, ...]
    integer: bool
    tight: bool
    draw: Callable[[np.random.Generator, int], np.ndarray]
    log_prob: Callable[[np.ndarray], np.ndarray]
    conditional: Callable[[np.ndarray], Moments]
    posterior: Callable[[np.ndarray], dict[str, Moments]]
    decode: Callable[[Mapping[str, np.ndarray]], np.ndarray]
    quick: bool = False
    exact: bool = False
    latent: bool = True
    generator: str = "decoder"
    order: tuple[int, ...] = ()
    first: int = 0
    discrete: bool = False
    solver_error: float = 2e-5
    costly: bool = False

    def __repr__(self) -> str:
        return f"{self.family}-{self.name}"

    def hide(self, x: np.ndarray, rng: np.random.Generator, rate: float = 0.5) -> np.ndarray:
        """The data with entries missing completely at random, at least one observed in each row."""
        flat = x.reshape(len(x), -1)
        hidden = rng.random(flat.shape) < rate
        hidden[np.arange(len(x)), rng.integers(flat.shape[1], size=len(x))] = False
        return np.where(hidden.reshape(x.shape), -1 if self.integer else np.nan, x).astype(x.dtype)

    def hide_last(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The data with entries missing that come last in the order, at least one observed in each row."""
        flat = x.reshape(len(x), -1)
        begin = np.full(len(x), self.first) if self.first else rng.integers(1, flat.shape[1], len(x))
        hidden = np.argsort(self.order) >= begin[:, None]
        return np.where(hidden.reshape(x.shape), -1 if self.integer else np.nan, x).astype(x.dtype)

    def offers(self, method: str) -> bool:
        """Whether a method that the family has is for data like these."""
        if self.costly and method in {"hmc", "pl-mcmc"}:
            return False
        return method != "enumerate" or self.discrete

    def is_missing(self, x: np.ndarray) -> np.ndarray:
        return x < 0 if self.integer else np.isnan(x)
