"""Posterior predictive checks: do replicated data sets look like the real one in the statistics that matter?"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepgen.checks import problem
from deepgen.inference.imputation.result import event_dims

if TYPE_CHECKING:
    import arviz
    import pandas

Statistic = Callable[[np.ndarray], np.ndarray]


def zero_share(x: np.ndarray) -> np.ndarray:
    """(S, n, d) -> (S,): the share of the observed cells that are exactly zero."""
    return (x == 0).sum((1, 2)) / (~np.isnan(x)).sum((1, 2))


def correlations(x: np.ndarray) -> np.ndarray:
    """(S, n, d) -> (S, d (d - 1) / 2): Pearson's correlation of each pair of columns, over the rows that have both.

    Pairs stand in the order (0, 1), (0, 2), …, (1, 2), …; a pair with a constant column has NaN.
    """
    first, second = np.triu_indices(x.shape[2], k=1)
    out = np.empty((len(x), len(first)))
    for k, (i, j) in enumerate(zip(first, second, strict=True)):
        both = ~np.isnan(x[:, :, i]) & ~np.isnan(x[:, :, j])
        count = np.maximum(both.sum(1, keepdims=True), 1)
        a, b = (np.where(both, x[:, :, column], 0.0) for column in (i, j))
        a, b = (np.where(both, v - v.sum(1, keepdims=True) / count, 0.0) for v in (a, b))
        scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
        out[:, k] = np.where(scale > 0, (a * b).sum(1) / np.where(scale > 0, scale, 1.0), np.nan)
    return out


STATISTICS: Mapping[str, Statistic] = {
    "mean": lambda x: np.nanmean(x, axis=(1, 2)),
    "sd": lambda x: np.nanstd(x, axis=(1, 2)),
    "min": lambda x: np.nanmin(x, axis=(1, 2)),
    "max": lambda x: np.nanmax(x, axis=(1, 2)),
    "zero share": zero_share,
    "column mean": lambda x: np.nanmean(x, axis=1),
    "column sd": lambda x: np.nanstd(x, axis=1),
    "correlation": correlations,
}


def ppc(
    x: np.ndarray,
    x_rep: np.ndarray,
    *,
    statistics: Sequence[str] | Mapping[str, Statistic] = ("mean", "sd", "min", "max", "zero share"),
    columns: Sequence[str] | None = None,
) -> "pandas.DataFrame":
    """Bayesian p-values P(T(x_rep) > T(x)) + ½ P(T(x_rep) = T(x)) of statistics of the whole data set.

    Near 0 or 1 the program does not reproduce the statistic (Gelman, Meng and Stern 1996); where it was fitted to the
    same data, p-values lie closer to ½ than uniform ones would. Where x is missing, replicates are masked likewise.

    Args:
        x: (n, *event_shape) the data, NaN where missing.
        x_rep: (S, n, *event_shape) independent replicated data sets.
        statistics: names of ``STATISTICS``, or functions of (S, n, d) arrays, NaN where missing, that give (S,) or
            (S, k) numbers.
        columns: names of the d columns, for the components of "column …" and "correlation".

    Returns:
        One row a statistic and component: observed, replicated (mean), sd, p_value, stderr. The Monte Carlo
        standard error is that of a share with one success and one failure added, so never zero. A statistic that is
        not a number in the data or a replicate has NaN.

    Raises:
        ValueError: an unknown statistic, shapes that do not fit, nothing observed, NaN in x_rep, or a function of the
            wrong shape.
    """
    import pandas as pd

    x, x_rep = np.asarray(x, dtype=np.float64), np.asarray(x_rep, dtype=np.float64)
    if x.ndim < 2 or x_rep.shape[1:] != x.shape or not x_rep.size or np.isnan(x_rep).any() or np.isnan(x).all():
        raise problem(
            "x_rep",
            got=f"shape {x_rep.shape} for data of shape {x.shape}" + (", with NaN" if np.isnan(x_rep).any() else ""),
            expected="(S, *x.shape) complete replicates of data that are not all missing",
            fix="Draw as many rows a replicate as the data have.",
        )
    if not isinstance(statistics, Mapping):
        unknown = [name for name in statistics if name not in STATISTICS]
        if unknown:
            raise problem("statistics", got=unknown, expected=f"some of {list(STATISTICS)}", fix="Or pass functions.")
        statistics = {name: STATISTICS[name] for name in statistics}
    data = x.reshape(1, len(x), -1)
    replicates = np.where(np.isnan(data), np.nan, x_rep.reshape(len(x_rep), len(x), -1))
    width = data.shape[2]
    names = list(columns) if columns is not None else [str(i) for i in range(width)]
    pairs = [f"{a}, {b}" for i, a in enumerate(names) for b in names[i + 1 :]]
    labels = {"column mean": names, "column sd": names, "correlation": pairs}
    rows = []
    for name, function in statistics.items():
        truth, drawn = np.asarray(function(data)), np.asarray(function(replicates))
        if truth.shape[:1] != (1,) or drawn.shape != (len(x_rep), *truth.shape[1:]) or truth.ndim > 2:
            raise problem(
                f"statistic {name!r}",
                got=f"shapes {truth.shape} and {drawn.shape}",
                expected=f"(1,) and ({len(x_rep)},), or (1, k) and ({len(x_rep)}, k)",
                fix="Reduce over rows (axis 1) and keep the first axis.",
            )
        single = truth.ndim == 1
        truth, drawn = truth.reshape(1, -1), drawn.reshape(len(drawn), -1)
        share = ((drawn > truth) + 0.5 * (drawn == truth)).mean(0)
        share = np.where(np.isnan(truth[0]) | np.isnan(drawn).any(0), np.nan, share)
        smooth = (share * len(drawn) + 1) / (len(drawn) + 2)
        component = [""] if single else labels.get(name, [])
        if len(component) != truth.shape[1]:
            component = [str(i) for i in range(truth.shape[1])]
        rows += [
            {
                "statistic": name,
                "component": component[k],
                "observed": truth[0, k],
                "replicated": drawn[:, k].mean(),
                "sd": drawn[:, k].std(),
                "p_value": share[k],
                "stderr": np.sqrt(smooth[k] * (1 - smooth[k]) / len(drawn)),
            }
            for k in range(truth.shape[1])
        ]
    return pd.DataFrame(rows)


def ppc_data(x: np.ndarray, x_rep: np.ndarray, *, columns: Sequence[str] | None = None) -> "arviz.InferenceData":
    """The data and their replicates as an ``InferenceData`` for ``az.plot_ppc`` and its relatives.

    Args:
        x: (n, *event_shape) complete data.
        x_rep: (S, n, *event_shape) replicates, or (chain, S, n, *event_shape).
        columns: the names of a table's columns.

    Returns:
        Groups posterior_predictive and observed_data, each with "x".

    Raises:
        ValueError: shapes that do not fit, or NaN in x.
    """
    import arviz as az
    import xarray as xr

    x, x_rep = np.asarray(x), np.asarray(x_rep)
    x_rep = x_rep[None] if x_rep.ndim == x.ndim + 1 else x_rep
    if x.ndim < 2 or x_rep.shape[2:] != x.shape or x_rep.ndim != x.ndim + 2 or not x_rep.size or np.isnan(x).any():
        raise problem(
            "x_rep",
            got=f"shape {x_rep.shape} for data of shape {x.shape}" + (" with NaN" if np.isnan(x).any() else ""),
            expected="(S, *x.shape) replicates of complete data",
            fix="Draw as many rows a replicate as the data have; leave out the rows with missing cells.",
        )
    event, named = event_dims(x.shape[1:], columns)
    dims = ("row", *event)
    coords: dict[str, object] = {dim: np.arange(size) for dim, size in zip(dims, x.shape, strict=True)} | named
    return az.InferenceData(
        posterior_predictive=xr.Dataset({"x": (("chain", "draw", *dims), x_rep)}, coords=coords),
        observed_data=xr.Dataset({"x": (dims, x)}, coords=coords),
    )
