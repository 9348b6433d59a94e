"""A table of every kind of column, its law in each engine with numbers that are nowhere those of a start."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from engines import NUMPYRO

COLUMNS = (
    ("real", 0), ("ordinal", 4), ("positive", 0), ("categorical", 3), ("count", 0), ("real", 0), ("categorical", 2),
    ("ordinal", 2), ("count", 0), ("ordinal", 3),
)  # fmt: skip
WRITTEN = [kind if not levels else (kind, levels) for kind, levels in COLUMNS]
KINDS = [kind for kind, _ in COLUMNS]
ROWS, SIZE = 40, 13


def sample_data(n: int = 600, holes: float = 0.2) -> np.ndarray:
    """Columns of very different units, with holes."""
    rng = np.random.default_rng(11)
    shared = rng.standard_normal(n)
    x = np.stack(
        [
            1990 + 20 * shared,
            np.searchsorted([-1, 0.2, 1], 0.7 * shared + 0.7 * rng.standard_normal(n)),
            np.exp(3 + 0.6 * shared + 0.3 * rng.standard_normal(n)),
            rng.choice(3, n, p=[0.6, 0.3, 0.1]),
            rng.poisson(np.exp(1 + 0.5 * shared) * rng.gamma(2, 0.5, n)),
            0.01 * rng.standard_normal(n) - 0.3,
            rng.random(n) < 0.7,
            rng.random(n) < 0.4,
            rng.poisson(0.4, n),
            rng.choice(3, n, p=[0.2, 0.5, 0.3]),
        ],
        axis=1,
    ).astype(np.float32)
    hidden = rng.random(x.shape) < holes
    hidden[:, 0] &= ~hidden.all(1)
    return np.where(hidden, np.nan, x).astype(np.float32)


DATA = sample_data()


def law_of(engine: Any, columns: Any = WRITTEN, data: np.ndarray | None = None) -> Any:
    table = engine.face.likelihoods.Table
    return table(columns) if data is None else table.from_data(columns, data)


def moved_numbers() -> dict[str, np.ndarray]:
    """The law's own numbers, none where it would start."""
    rng = np.random.default_rng(2)
    own = NUMPYRO.tensors(law_of(NUMPYRO, data=DATA))
    return {
        k: (v * (1 + 0.1 * rng.random(v.shape)) + 0.2 * (k[:3] == "raw")).astype(np.float32) for k, v in own.items()
    }


def moved(engine: Any) -> Any:
    return engine.with_tensors(law_of(engine), moved_numbers())


def outputs(*batch: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*batch, SIZE)).astype(np.float32)


def complete(n: int = ROWS) -> np.ndarray:
    return sample_data(n, holes=0.0)


def numpy(value: Any) -> np.ndarray:
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def run(engine: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of an engine's values gives, compiled whole where the engine compiles: piece by piece is slow."""
    found = eqx.filter_jit(function)(*arguments) if engine is NUMPYRO else function(*arguments)
    return jax.tree.map(numpy, found)


def _log_probs(law: Any, out: Any, x: Any) -> Any:
    return law(out).base_dist.log_prob(x)


def elements(engine: Any, law: Any, out: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(..., D) log densities of the entries."""
    return run(engine, _log_probs, law, engine.array(out), engine.array(x))
