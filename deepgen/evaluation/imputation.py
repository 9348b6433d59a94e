"""How well completed data match the truth: errors, proper scores, intervals, with standard errors by rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen.checks import problem
from deepgen.evaluation.estimate import Estimate, cell_mean
from deepgen.evaluation.scores import crps, energy_score, interval

if TYPE_CHECKING:
    import arviz
    import pandas

PROBS = (0.5, 0.9, 0.95)


@dataclass(frozen=True)
class ImputationError:
    """The scores of one imputation over the cells that were missing.

    Attributes:
        rmse: of the mean of the draws.
        mae: of the median of the draws.
        crps: the fair CRPS; of a point (one value, no draws) it is the MAE.
        energy: the fair energy score of a row's missing cells together, its mean over rows; of a point it is the length
            of the error.
        coverage: for each probability the share of cells inside the central interval; None for a point.
        width: for each probability the interval's mean width; None for a point.
        brier: the mean of (share of ones - truth)², without the bias from the number of draws; None unless truth and
            draws are 0 or 1.
        accuracy: the share of cells where the more frequent value is the truth; None unless truth and draws are 0 or 1.
        cells: how many cells were missing.
        rows: how many rows they stand in.
    """

    rmse: Estimate
    mae: Estimate
    crps: Estimate
    energy: Estimate
    coverage: dict[float, Estimate] | None
    width: dict[float, Estimate] | None
    brier: Estimate | None
    accuracy: Estimate | None
    cells: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """The scores as what JSON can hold: each a {"value", "stderr"}, None where there is none."""

        def plain(score: Any) -> Any:
            if isinstance(score, dict):
                return {f"{prob:g}": plain(value) for prob, value in score.items()}
            if isinstance(score, Estimate):
                return {"value": score.value, "stderr": score.stderr if np.isfinite(score.stderr) else None}
            return score

        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


def imputation_error(
    posterior: "arviz.InferenceData",
    truth: np.ndarray,
    *,
    observed: np.ndarray | None = None,
    var_name: str = "x",
    probs: Sequence[float] = PROBS,
) -> ImputationError:
    """Compare draws of completed data with the truth, over the cells that were missing.

    Every score is a mean over the missing cells with a standard error that takes rows, not cells, for independent
    (``cell_mean``); the energy score is one number a row, and its mean is over the rows with a missing cell. Where
    columns have different units, standardise them first.

    Args:
        posterior: with ``posterior[var_name]`` (chain, draw, row, *event_shape), and ``constant_data["observed"]``
            unless ``observed`` is given. One with ``attrs["law"] == "point"`` holds one value and no uncertainty: its
            CRPS is its MAE, and it has no intervals.
        truth: (n, *event_shape); cells where it is NaN are left out.
        observed: (n, *event_shape) booleans, True where a cell was observed.
        var_name: the variable.
        probs: the probabilities of the central intervals.

    Returns:
        The scores.

    Raises:
        ValueError: shapes that do not fit, no missing cell whose truth is known, or too few draws for the intervals.
    """
    draws, truth, rows = missing_cells(posterior, truth, observed=observed, var_name=var_name)
    if is_point(posterior):
        error = draws[0] - truth
        square, mae = cell_mean(error**2, rows), cell_mean(np.abs(error), rows)
        length = np.sqrt(np.bincount(np.unique(rows, return_inverse=True)[1], weights=error**2))
        return ImputationError(
            _root(square), mae, mae, _row_mean(length), None, None, None, None, len(truth), len(length)
        )
    binary = bool(np.isin(truth, (0, 1)).all() and np.isin(draws, (0, 1)).all())
    mean = draws.mean(0, dtype=np.float64)
    score = crps(draws, truth)
    coverage, width = {}, {}
    for prob in probs:
        lower, upper = interval(draws, prob)
        coverage[prob] = cell_mean((lower <= truth) & (truth <= upper), rows)
        width[prob] = cell_mean(upper - lower, rows)
    return ImputationError(
        rmse=_root(cell_mean((mean - truth) ** 2, rows)),
        mae=cell_mean(np.abs(np.median(draws, axis=0) - truth), rows),
        crps=cell_mean(score, rows),
        energy=_row_mean(energy_score(draws, truth, rows)),
        coverage=coverage,
        width=width,
        brier=cell_mean(score, rows) if binary else None,
        accuracy=cell_mean(np.where(mean == 0.5, 0.5, (mean > 0.5) == truth), rows) if binary else None,
        cells=len(truth),
        rows=len(np.unique(rows)),
    )


def error_table(errors: Mapping[str, ImputationError]) -> "pandas.DataFrame":
    """The scores of several methods side by side, as text with standard errors, best CRPS first.

    Args:
        errors: for each method its scores, over the same cells.

    Returns:
        One row a method, one column a score; "–" where a method has none.

    Raises:
        ValueError: no methods, or methods scored over different numbers of cells.
    """
    import pandas as pd

    if not errors or len({error.cells for error in errors.values()}) > 1:
        raise problem(
            "errors",
            got={name: error.cells for name, error in errors.items()},
            expected="methods scored over the same cells",
            fix="Score every method with the same mask.",
        )

    def text(score: Estimate | None) -> str:
        return "–" if score is None else str(score)

    table = {}
    for name, error in sorted(errors.items(), key=lambda item: item[1].crps.value):
        row = {"RMSE": str(error.rmse), "MAE": str(error.mae), "CRPS": str(error.crps), "energy": str(error.energy)}
        if any(other.accuracy is not None for other in errors.values()):
            row |= {"Brier": text(error.brier), "accuracy": text(error.accuracy)}
        for prob in sorted({prob for other in errors.values() for prob in other.coverage or ()}):
            row[f"coverage {prob:.0%}"] = text((error.coverage or {}).get(prob))
            row[f"width {prob:.0%}"] = text((error.width or {}).get(prob))
        table[name] = row
    return pd.DataFrame.from_dict(table, orient="index")


def missing_cells(
    posterior: "arviz.InferenceData", truth: np.ndarray, *, observed: np.ndarray | None, var_name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The draws (S, m), the truth (m,) and the row (m,) of the cells that were missing and whose truth is known.

    Raises:
        ValueError: groups or variables that are not there, shapes that do not fit, or no such cell.
    """
    if "posterior" not in posterior.groups() or var_name not in posterior["posterior"]:
        raise problem(
            "posterior",
            got=f"the groups {list(posterior.groups())}",
            expected=f"a group posterior with the variable {var_name!r}",
            fix="Pass what impute returned, or set var_name.",
        )
    if observed is None:
        if "constant_data" not in posterior.groups() or "observed" not in posterior["constant_data"]:
            raise problem(
                "observed",
                got='None, and no constant_data["observed"]',
                expected="booleans, True where a cell was observed",
                fix="Pass observed.",
            )
        observed = posterior["constant_data"]["observed"].values
    draws = posterior["posterior"][var_name].values
    truth, observed = np.asarray(truth, dtype=np.float64), np.asarray(observed).astype(bool)
    if not draws.shape[2:] == truth.shape == observed.shape:
        raise problem(
            "truth",
            got=f"shape {truth.shape} with observed {observed.shape}",
            expected=f"{draws.shape[2:]}, the posterior's rows and event",
            fix="Pass the complete data of the same rows.",
        )
    cells = ~observed & ~np.isnan(truth)
    if not cells.any():
        raise problem(
            "observed",
            got="no missing cell whose truth is known",
            expected="at least one",
            fix="Hide some cells first, e.g. with deepgen.data.mcar.",
        )
    return draws.reshape(-1, *truth.shape)[:, cells], truth[cells], np.nonzero(cells)[0]


def is_point(posterior: "arviz.InferenceData") -> bool:
    """Whether it holds one value a cell and no draws."""
    return posterior.attrs.get("law", posterior["posterior"].attrs.get("law")) == "point"


def _row_mean(values: np.ndarray) -> Estimate:
    return cell_mean(values, np.arange(len(values)))


def _root(square: Estimate) -> Estimate:
    """The root of a mean square, its standard error by the delta method."""
    root = float(np.sqrt(square.value))
    return Estimate(root, square.stderr / (2 * root) if root else 0.0)
