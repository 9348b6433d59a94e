"""Multiple imputation: one estimate from several completed tables, by Rubin's rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepgen import checks

if TYPE_CHECKING:
    import arviz
    import pandas


@dataclass(frozen=True, eq=False)
class Pooled:
    """Estimates pooled over imputations; every array is (k,), one number for each quantity.

    Attributes:
        names: of the quantities.
        estimate: the mean of the completed tables' estimates.
        stderr: the root of ``total``.
        lower: of the confidence interval.
        upper: of the confidence interval.
        within: the mean of the completed tables' variances.
        between: the variance of their estimates.
        total: within + (1 + 1 / m) between.
        dof: degrees of freedom of Student's t (Barnard & Rubin 1999).
        missing_information: the fraction of information about the quantity that the missing entries took away.
        prob: of the confidence interval.
        num_imputations: m.
    """

    names: tuple[str, ...]
    estimate: np.ndarray
    stderr: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    within: np.ndarray
    between: np.ndarray
    total: np.ndarray
    dof: np.ndarray
    missing_information: np.ndarray
    prob: float
    num_imputations: int

    def summary(self) -> "pandas.DataFrame":
        """One row a quantity, one column a number."""
        import pandas as pd

        columns = [name for name, kind in self.__annotations__.items() if kind is np.ndarray]
        return pd.DataFrame({name: getattr(self, name) for name in columns}, index=list(self.names))


def rubin(
    estimates: Any,
    variances: Any,
    *,
    dof: float = np.inf,
    prob: float = 0.95,
    names: Sequence[str] | None = None,
) -> Pooled:
    r"""Rubin's rules for estimates on m completed tables, with the degrees of freedom of Barnard & Rubin (1999).

    With Q the estimates, U their variances, :math:`\bar Q` and :math:`W` their means and B the variance of Q,

    .. math:: T = W + (1 + \tfrac1m) B, \quad \lambda = (1 + \tfrac1m) B / T, \quad
        \nu = \left(\frac{\lambda^2}{m - 1}
            + \left[\frac{\nu_0 + 1}{\nu_0 + 3}\, \nu_0\, (1 - \lambda)\right]^{-1}\right)^{-1}, \quad
        \gamma = \lambda + (1 - \lambda) \frac{2}{\nu + 3},

    where :math:`\nu_0` are the degrees of freedom of the complete table; the interval is
    :math:`\bar Q \pm t_\nu \sqrt T`, and :math:`\gamma` the fraction of missing information.

    Rubin, Multiple Imputation for Nonresponse in Surveys (1987); Barnard & Rubin, Small-sample degrees of freedom with
    multiple imputation (1999).

    Args:
        estimates: (m, k), of each quantity on each table.
        variances: (m, k) squared standard errors.
        dof: the degrees of freedom that the complete table would leave, such as n - 1 for a mean.
        prob: of the confidence interval.
        names: of the quantities; None for ``q0``, ``q1``, ...

    Returns:
        The pooled estimates.

    Raises:
        ValueError: fewer than two tables, shapes that differ, numbers that are not finite, a negative variance, or a
            ``dof`` or ``prob`` out of range.

    >>> rubin(np.array([[1.0], [3.0]]), np.array([[1.0], [1.0]])).total
    array([4.])
    """
    from scipy import stats

    q, u = (np.asarray(values, dtype=np.float64) for values in (estimates, variances))
    if q.ndim != 2 or q.shape != u.shape or len(q) < 2:
        raise checks.problem(
            "estimates, variances",
            got=f"shapes {q.shape} and {u.shape}",
            expected="(m, k) both, m at least 2",
            fix="Give one variance (squared standard error) with each estimate, on two tables or more.",
        )
    if not (np.isfinite(q).all() and np.isfinite(u).all() and (u >= 0).all()):
        raise checks.problem(
            "estimates, variances",
            got="numbers that are not finite, or a negative variance",
            expected="finite estimates, and variances >= 0",
            fix="See why the estimate fails on some completed table.",
        )
    if not dof > 0:
        raise checks.problem("dof", got=dof, expected="a number > 0", fix="Pass for instance n - 1, or math.inf.")
    if not 0 < prob < 1:
        raise checks.problem("prob", got=prob, expected="a probability in (0, 1)", fix="Pass for instance 0.95.")
    names = tuple(f"q{i}" for i in range(q.shape[1])) if names is None else tuple(map(str, names))
    if len(names) != q.shape[1]:
        raise checks.problem(
            "names", got=f"{len(names)} names", expected=f"{q.shape[1]}, one a quantity", fix="Name each, or none."
        )
    m = len(q)
    estimate, within, between = q.mean(0), u.mean(0), q.var(0, ddof=1)
    total = within + (1 + 1 / m) * between
    share = (1 + 1 / m) * between / np.where(total > 0, total, 1.0)
    # one over degrees of freedom: zero where they are infinite
    of_imputation = share**2 / (m - 1)
    of_table = 0.0 if np.isinf(dof) else (dof + 3) / ((dof + 1) * dof * np.maximum(1 - share, 1e-12))
    inverse = of_imputation + of_table
    found = np.where(inverse > 0, 1 / np.where(inverse > 0, inverse, 1.0), np.inf)
    half = stats.t.ppf((1 + prob) / 2, found) * np.sqrt(total)
    return Pooled(
        names=names,
        estimate=estimate,
        stderr=np.sqrt(total),
        lower=estimate - half,
        upper=estimate + half,
        within=within,
        between=between,
        total=total,
        dof=found,
        missing_information=share + (1 - share) * 2 / (found + 3),
        prob=prob,
        num_imputations=m,
    )


def pool(
    estimate: Callable[[Any], tuple[Any, Any]],
    posterior: "arviz.InferenceData | Sequence[arviz.InferenceData]",
    *,
    num_imputations: int = 20,
    stderr: bool = False,
    dof: float = np.inf,
    prob: float = 0.95,
    frame: bool = False,
    var_name: str = "x",
) -> Pooled:
    """Multiple imputation: compute an estimate on several completed tables and pool it (see `rubin`).

    The tables are draws of ``posterior``, taken evenly over its chains and iterations. They are draws given the
    program's parameters; where the uncertainty of these matters (few rows), fit programs to several bootstrap samples
    of the rows and pass a posterior of each.

    Args:
        estimate: from a completed table to an estimate and its variance, two numbers or two arrays (k,). The names of
            the quantities are the index of the estimate where it is a ``pandas.Series``.
        posterior: what `impute` returned, or several of the same rows.
        num_imputations: m, how many tables.
        stderr: whether ``estimate`` returns a standard error instead of a variance.
        dof: the degrees of freedom that the complete table would leave, such as n - 1 for a mean.
        prob: of the confidence interval.
        frame: whether ``estimate`` takes a ``pandas.DataFrame`` with the table's columns, instead of an array.
        var_name: the variable that holds the completed rows.

    Returns:
        The pooled estimates; ``.summary()`` is a table of them.

    Raises:
        ValueError: no such variable, other rows, one value and no draws, more tables than draws, fewer than two, a
            frame of what is no table, or what `rubin` refuses.
    """
    tables = _tables([posterior] if hasattr(posterior, "groups") else list(posterior), var_name, num_imputations)
    columns = _columns(tables) if frame else None
    found = [estimate(table.values if columns is None else _frame(table, columns)) for table in tables]
    estimates, spreads = (
        np.stack([np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in values])
        for values in zip(*found, strict=True)
    )
    index = getattr(found[0][0], "index", None)
    names = None if index is None or callable(index) else [str(name) for name in index]
    return rubin(estimates, spreads**2 if stderr else spreads, dof=dof, prob=prob, names=names)


def _tables(posteriors: list[Any], var_name: str, count: int) -> list[Any]:
    for posterior in posteriors:
        if "posterior" not in posterior.groups() or var_name not in posterior["posterior"]:
            raise checks.problem(
                "posterior",
                got=f"the groups {list(posterior.groups())}",
                expected=f"a group posterior with the variable {var_name!r}",
                fix="Pass what impute returned, or set var_name.",
            )
        if posterior.attrs.get("law", posterior["posterior"].attrs.get("law")) == "point":
            raise checks.problem(
                "posterior",
                got="one value for each missing entry",
                expected="draws",
                fix="Pooling needs imputations that differ as much as is unknown: use impute.",
            )
    arrays = [posterior["posterior"][var_name] for posterior in posteriors]
    if not arrays or any(array.shape[2:] != arrays[0].shape[2:] for array in arrays):
        raise checks.problem(
            "posterior",
            got=f"completed rows of shapes {[array.shape[2:] for array in arrays]}",
            expected="one or more posteriors of the same rows",
            fix="Impute the same rows with each program.",
        )
    places = [
        (array, chain, draw) for array in arrays for chain in range(array.shape[0]) for draw in range(array.shape[1])
    ]
    if not 2 <= count <= len(places):
        raise checks.problem(
            "num_imputations",
            got=count,
            expected=f"a number from 2 to {len(places)}, as many as there are draws",
            fix="20 is a good one; impute with more num_samples where there are fewer draws.",
        )
    chosen = ((np.arange(count) + 0.5) * len(places) / count).astype(int)
    return [array[chain, draw] for array, chain, draw in (places[i] for i in chosen)]


def _columns(tables: list[Any]) -> list[str]:
    if tables[0].ndim != 2:
        raise checks.problem(
            "frame",
            got=f"True for rows of shape {tables[0].shape[1:]}",
            expected="rows of a table",
            fix="Leave frame out: estimate then takes an array.",
        )
    dim = tables[0].dims[1]
    labels = tables[0][dim].values if dim in tables[0].coords else range(tables[0].shape[1])
    return [str(label) for label in labels]


def _frame(table: Any, columns: list[str]) -> "pandas.DataFrame":
    import pandas as pd

    return pd.DataFrame(table.values, columns=columns)
