"""Per-row log-likelihoods, latents integrated out, handed to ArviZ for comparison of programs."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from deepgen.checks import problem
from deepgen.inference.imputation import importance
from deepgen.program import LikelihoodKind, LogProb, ModelsMissingness

if TYPE_CHECKING:
    import arviz
    import pandas


class HeldOut(NamedTuple):
    """log p(x) of held-out rows, and how far each may be trusted.

    Attributes:
        value: (n,) nats.
        pareto_k: (n,) the shape of the tail of each row's importance weights; -inf where there is none.
        untrusted: (n,) where the weights are not to be trusted, so that the value is too low.
        kind: as ``LogProb`` says it.
    """

    value: Float[np.ndarray, " n"]
    pareto_k: Float[np.ndarray, " n"]
    untrusted: Bool[np.ndarray, " n"]
    kind: LikelihoodKind


def to_loo(log_likelihood: np.ndarray, *, posterior: Any = None) -> "arviz.InferenceData":
    """Per-row log p(x_i | θ_s) of draws θ_s from the parameters' posterior, for ``az.loo`` and ``az.compare``.

    ``az.loo`` weights draw s by 1 / p(x_i | θ_s) to estimate log p(x_i | x_-i), so it needs the posterior given *these
    rows*, and each value with the row's latents integrated out (``log_prob``), not conditioned on.

    A program fitted to a point has no such draws; for it take ``held_out_elpd``. Replicated estimates
    log p̂_s(x_i) of one log p(x_i) are no substitute: nothing there leaves row i out, and the weights 1 / p̂_s turn the
    estimates' noise into a bias. With log p̂ normal of variance σ², E p̂ = p, ``az.loo`` tends to
    log p - Σ σ_i² where log mean p̂ tends to log p; its "p_loo" Σ σ_i² measures Monte Carlo noise and no parameters.

    Args:
        log_likelihood: (chain, draw, row), nats.
        posterior: the parameters' draws, an xarray Dataset or a dict of (chain, draw, …) arrays; ``az.loo`` takes
            the effective sample size from them. None takes it from the total log-likelihood of each draw.

    Returns:
        Groups posterior and log_likelihood ("x").

    Raises:
        ValueError: a wrong shape or values that are not finite.
    """
    import arviz as az
    import xarray as xr

    values = np.asarray(log_likelihood, dtype=np.float64)
    if values.ndim != 3 or not values.size or not np.isfinite(values).all():
        raise problem(
            "log_likelihood",
            got=f"shape {values.shape}" + ("" if np.isfinite(values).all() else " with values that are not finite"),
            expected="(chain, draw, row) finite numbers",
            fix="Stack log_prob over the posterior's draws; of one chain pass values[None].",
        )
    if posterior is None:
        posterior = {"total_log_likelihood": values.sum(2)}
    if not isinstance(posterior, xr.Dataset):
        posterior = xr.Dataset(
            {
                name: (("chain", "draw", *(f"{name}_dim_{k}" for k in range(np.ndim(value) - 2))), np.asarray(value))
                for name, value in posterior.items()
            }
        )
    if (posterior.sizes.get("chain"), posterior.sizes.get("draw")) != values.shape[:2]:
        raise problem(
            "posterior",
            got=f"{dict(posterior.sizes)}",
            expected=f"{values.shape[0]} chains of {values.shape[1]} draws, as the log-likelihood has",
            fix="Pass the draws that the log-likelihood was computed at.",
        )
    return az.InferenceData(
        posterior=posterior,
        log_likelihood=xr.Dataset(
            {"x": (("chain", "draw", "row"), values)}, coords={"row": np.arange(values.shape[2])}
        ),
    )


def held_out_elpd(log_prob: np.ndarray) -> "arviz.stats.stats_utils.ELPDData":
    """The expected log predictive density on held-out rows, in the form that ``az.compare`` takes.

    For a program fitted to a point on other rows: elpd = Σ log p(x_i), se = √(n Var log p(x_i)). There is nothing to
    correct for, as no row was seen: p_loo is 0. Values that are Monte Carlo estimates carry their noise in se.

    Args:
        log_prob: (n,) nats, of rows that the program was not fitted to; the same rows for each program compared.

    Returns:
        ArviZ's ELPDData, with loo_i; ``az.compare({"a": held_out_elpd(a), "b": held_out_elpd(b)})``.

    Raises:
        ValueError: not one finite number a row, or fewer than two rows.
    """
    import xarray as xr
    from arviz.stats.stats_utils import ELPDData

    values = np.asarray(log_prob, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise problem(
            "log_prob",
            got=f"shape {values.shape}" + ("" if np.isfinite(values).all() else " with values that are not finite"),
            expected="one finite number for each of at least two rows",
            fix="Pass the .value of log_prob on the held-out rows.",
        )
    fields = {
        "elpd_loo": float(values.sum()),
        "se": float(np.sqrt(len(values) * values.var())),
        "p_loo": 0.0,
        "n_samples": 1,
        "n_data_points": len(values),
        "warning": False,
        "loo_i": xr.DataArray(values, dims="row", coords={"row": np.arange(len(values))}, name="loo_i"),
        "scale": "log",
    }
    return ELPDData(data=list(fields.values()), index=list(fields))


def held_out(log_weights: np.ndarray, kind: LikelihoodKind) -> HeldOut:
    """log of the mean weight of each row, and what the weights' tail says of it.

    Args:
        log_weights: (n, K) log p(x, z) - log q(z | x) of draws from the guide; K is 1 where p(x) itself is known.
        kind: of the value.

    Returns:
        Values, Pareto k, and which rows are not to be trusted.
    """
    weights = np.asarray(log_weights, dtype=np.float64)
    largest = weights.max(1)
    value = largest + np.log(np.exp(weights - largest[:, None]).mean(1))
    if kind == "exact":
        return HeldOut(value, np.full(len(value), -np.inf), np.full(len(value), False), kind)
    judged = importance.smooth(weights)
    return HeldOut(value, judged.pareto_k, importance.untrusted(judged, weights.shape[1]), kind)


def estimated(found: LogProb) -> HeldOut:
    """What ``log_prob`` says of each row, where no weights of a guide's draws stand behind it.

    Args:
        found: of the rows.

    Returns:
        Values; no Pareto k, as ``log_prob`` has warned itself of what is not to be trusted.
    """
    value = np.asarray(found.value, dtype=np.float64)
    return HeldOut(value, np.full(len(value), -np.inf), np.full(len(value), False), found.kind)


def refuse_mixture(programs: Mapping[str, Any]) -> None:
    """Refuse to compare programs whose ``log_prob`` is of different things.

    Raises:
        ValueError: some count the law of what is observed, and some do not.
    """
    counting = [name for name, program in programs.items() if isinstance(program, ModelsMissingness)]
    if counting and len(counting) < len(programs):
        raise problem(
            "programs",
            got=f"{counting} whose log_prob is log p(x_observed, mask), beside others whose is log p(x_observed)",
            expected="programs of the same quantity",
            fix="Compare each MNAR with another MNAR, or pass the programs that they wrap, as in mnar.program.",
        )


def refuse_one(programs: Mapping[str, Any]) -> None:
    """Refuse to compare one program, or none.

    Raises:
        ValueError: fewer than two.
    """
    if len(programs) < 2:
        raise problem(
            "programs",
            got=f"{list(programs)}",
            expected="two programs or more",
            fix='Pass them by name, as in {"small": ..., "large": ...}.',
        )


def comparison(scores: Mapping[str, HeldOut]) -> "pandas.DataFrame":
    """ArviZ's comparison of programs by the log p(x) of the same held-out rows.

    Args:
        scores: by name, each program's rows.

    Returns:
        What ``az.compare`` gives (best first: elpd, its difference to the best, the standard error ``dse`` of that
        difference, stacking weights), with the columns untrusted_rows and kind.

    Raises:
        ValueError: fewer than two programs, or programs scored on different numbers of rows.

    Warns:
        UserWarning: where rows are not to be trusted; the column "warning" says of which programs.
    """
    import arviz as az

    refuse_one(scores)
    counts = {name: len(score.value) for name, score in scores.items()}
    if len(set(counts.values())) > 1:
        raise problem(
            "scores",
            got=f"numbers of rows {counts}",
            expected="programs scored on the same rows",
            fix="Score every program on the same x.",
        )
    elpds: dict[str, Any] = {name: held_out_elpd(score.value) for name, score in scores.items()}
    for name, score in scores.items():
        elpds[name]["warning"] = bool(score.untrusted.any())
    with warnings.catch_warnings():
        # ArviZ 0.23 uses what pandas 3.1 deprecates.
        warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame")
        table = az.compare(elpds)
    table["untrusted_rows"] = [int(scores[name].untrusted.sum()) for name in table.index]
    table["kind"] = [scores[name].kind for name in table.index]
    bad = {name: int(score.untrusted.sum()) for name, score in scores.items() if score.untrusted.any()}
    if bad:
        said = ", ".join(f"{count} of {counts[name]} rows of {name!r}" for name, count in bad.items())
        warnings.warn(
            f"the importance weights of {said} are not to be trusted (Pareto k > {importance.LARGEST_K}): their "
            "log p(x) is too low, and so is its standard error. Take more particles, or score the programs with ais "
            "and compare held_out_elpd of its values.",
            stacklevel=3,
        )
    return table
