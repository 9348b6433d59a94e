"""What a run looks at that only some programs have: latents in use, an order of entries, a flow's base, energies."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepgen.cli.engine import Engine
from deepgen.models.vae.interpolation import interpolate

SHOWN, POINTS, PAIRS, REDRAWN = 10, 9, 4, 6
CELLS, MARGIN = 60, 0.15
Found = tuple[dict[str, Any], dict[str, Any]]


def look(names: tuple[str, ...], engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """All that a recipe's views find.

    Args:
        names: of the views.
        engine: the engine.
        program: fitted.
        train: (m, *event_shape), the rows of the fit.
        test: (n, *event_shape), held-out rows.

    Returns:
        What goes into ``metrics.json``, and the arrays to draw.
    """
    metrics: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name in names:
        said, drawn = VIEWS[name](engine, program, train, test)
        metrics |= said
        arrays |= drawn
    return metrics, arrays


def reconstructions(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """The first held-out rows, through the latents and back."""
    return {}, {"reconstructed": engine.reconstruct(program, test[:SHOWN])}


def units(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """Which latents are in use."""
    found = engine.active_units(program, train)
    said = {
        "active": found.num_active,
        "latents": len(found.active),
        "kl": found.kl.tolist(),
        "variance": found.variance.tolist(),
    }
    return {"active_units": said}, {}


def order(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """When each entry is decided, and how surprising it is given those before."""
    decided = np.asarray(program.network.order)
    surprise = -engine.conditionals(program, test)
    places = np.empty(decided.size)
    places[decided] = np.arange(len(decided))[:, None]
    share = np.empty(decided.size)
    # what several entries of one step share is divided among them
    share[decided] = surprise.mean(0)[:, None] / decided.shape[1]
    error = surprise.std(0, ddof=1) / np.sqrt(len(surprise))
    said = {
        "steps": len(decided),
        "entries_a_step": decided.shape[1],
        "surprise": surprise.mean(0).tolist(),
        "surprise_stderr": error.tolist(),
    }
    return {"order": said}, {"places": places, "surprise": share}


def normality(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """Whether held-out rows, carried to the base, look like draws of it."""
    from scipy import stats

    z = engine.encode(program, test).reshape(len(test), -1).astype(np.float64)
    law = {"normal": stats.norm, "logistic": stats.logistic}[program.base]
    tests = [stats.kstest(column, law.cdf) for column in z.T]
    correlation = np.corrcoef(z.T) - np.eye(z.shape[1]) if z.shape[1] > 1 else np.zeros((1, 1))
    said = {
        "base": program.base,
        "dimensions": z.shape[1],
        "mean": z.mean(0).tolist(),
        "sd": z.std(0, ddof=1).tolist(),
        "ks": [float(one.statistic) for one in tests],
        "rejected": int(sum(one.pvalue < 0.05 / len(tests) for one in tests)),
        "largest_correlation": float(np.abs(correlation).max()),
    }
    quantiles = law.ppf((np.arange(len(z)) + 0.5) / len(z))
    return {"normality": said}, {"base_quantiles": quantiles, "base_draws": np.sort(z, axis=0)}


def interpolation(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """Paths between pairs of held-out rows, straight in the angle of the base."""
    pairs = min(PAIRS, len(test) // 2)
    z = engine.encode(program, test[: 2 * pairs])
    path = interpolate(z[:pairs], z[pairs:], np.linspace(0, 1, POINTS, dtype=z.dtype))
    shown = engine.decode(program, path.reshape(POINTS * pairs, -1))
    return {}, {"path": shown.reshape(POINTS, pairs, *test.shape[1:])}


def scales(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """Held-out rows of which the coarser scales are kept and the finer drawn anew, the more kept the further right."""
    sizes, rows = program.scales, test[:PAIRS]
    if len(sizes) == 1:
        return {"scales": {"sizes": list(sizes), "redrawn": 0}}, {}
    z, rng = engine.encode(program, rows), np.random.default_rng([engine.seed, 3])
    found = [rows]
    for kept in np.cumsum(sizes)[:-1]:
        shape = (REDRAWN, len(z), z.shape[1] - kept)
        finer = rng.logistic(size=shape) if program.base == "logistic" else rng.standard_normal(shape)
        coarser = np.broadcast_to(z[:, :kept], (REDRAWN, len(z), kept))
        drawn = engine.decode(program, np.concatenate([coarser, finer.astype(z.dtype)], -1).reshape(-1, z.shape[1]))
        found += list(drawn.reshape(REDRAWN, len(z), *rows.shape[1:]))
    return {"scales": {"sizes": list(sizes), "redrawn": REDRAWN}}, {"scales": np.stack(found)}


def denoising(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """What draws are expected to be, on their way from noise."""
    return {}, {"denoising": engine.path(program, SHOWN, POINTS)}


def density(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """The density on a grid, where a datum is a point of the plane."""
    if train.shape[1:] != (2,):
        return {}, {}
    low, high = train.min(0), train.max(0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    first, second = (np.linspace(low[i], high[i], CELLS, dtype=np.float32) for i in (0, 1))
    points = np.stack(np.meshgrid(first, second), axis=-1)
    value = engine.log_prob(program, points.reshape(-1, 2)).value.astype(float)
    cell = float((first[1] - first[0]) * (second[1] - second[0]))
    said = {"mass": float(np.exp(value).sum() * cell)}
    return {"density": said}, {"density": value.reshape(CELLS, CELLS), "density_axes": np.stack([first, second])}


def energies(engine: Engine, program: Any, train: np.ndarray, test: np.ndarray) -> Found:
    """The energies -log f of rows of the fit, of held-out rows and of the program's own draws."""
    rows = {"train": train[: len(test)], "test": test, "samples": engine.sample(program, len(test), "energies")}
    found: dict[str, np.ndarray] = {name: engine.energies(program, x) for name, x in rows.items()}
    said: dict[str, dict[str, float]] = {}
    for name, value in found.items():
        said[name] = {"mean": float(value.mean()), "stderr": float(value.std(ddof=1)) / len(value) ** 0.5}
    return {"energies": said}, {"energies": found}


VIEWS: Mapping[str, Callable[[Engine, Any, np.ndarray, np.ndarray], Found]] = {
    "reconstructions": reconstructions,
    "units": units,
    "order": order,
    "normality": normality,
    "interpolation": interpolation,
    "scales": scales,
    "denoising": denoising,
    "density": density,
    "energies": energies,
}
